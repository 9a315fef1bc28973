"""Small labelled data sets that are synthesised, for the tests of training."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

Float32 = npt.NDArray[np.float32]

RATE = 22050
TINY = "test_byobnet"  # timm's smallest network that ends in 8 x 8 cells


def people_or_machine(machine: bool, seed: int, seconds: float = 5.5, rate: int = RATE) -> Float32:
    """Chords over noise; the machine's have a tremolo that people's lack, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    sound = 0.02 * rng.standard_normal(len(t))
    for hz in 110.0 * 2.0 ** (rng.integers(0, 36, 3) / 12):
        sound += 0.15 * np.sin(2 * np.pi * hz * t + rng.uniform(0, 6)) / 3
    if machine:
        sound *= 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 4.0 * t))
    return (sound * rng.uniform(0.5, 1.0)).astype(np.float32)


def write_manifest(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """A CSV manifest of dictionaries with the same keys."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_data(folder: Path, per_class: int = 12, *, groups: int | None = None, seconds: float = 5.5) -> Path:
    """A manifest of `per_class` WAV files by people (two sources) and as many by AI (two generators)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for label in ("human", "ai"):
        for i in range(per_class):
            name = f"{label}{i:03d}.wav"
            sound = people_or_machine(label == "ai", seed=1000 * (label == "ai") + i, seconds=seconds)
            soundfile.write(folder / name, sound, RATE)
            source = {"human": ("studio", "garage"), "ai": ("alpha", "beta")}[label][i % 2]
            group = f"{label}-{i if groups is None else i % groups}"
            rows.append({"path": name, "label": label, "source": source, "group": group})
    return write_manifest(folder / "manifest.csv", rows)
