"""The corpus as one array: decoded once, so that no epoch pays for decoding.

A corpus is a folder with `manifest.csv` (columns path, label, source, origin, group, license) and
the audio below it. Labels are `human`, `ai`, and `codec`: music by people that went through a neural codec
or vocoder, which trains as AI (its decoder is the same kind of thing) and is reported apart.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from sonicscan.files import replacing
from sonicscan.spec import AudioSpec

Int16 = npt.NDArray[np.int16]
Float32 = npt.NDArray[np.float32]

EXCERPT_S = 7.0
LABELS = ("human", "ai", "codec")


@dataclass(frozen=True)
class Excerpt:
    """One row of the manifest."""

    path: str
    label: str
    source: str
    origin: str
    group: str
    license: str

    @property
    def is_ai(self) -> bool:
        """Whether it trains as AI: everything that went through a generator's decoder."""
        return self.label != "human"


def excerpt_samples(spec: AudioSpec) -> int:
    """Samples kept of every excerpt."""
    return int(EXCERPT_S * spec.sample_rate)


def read_manifest(folder: Path) -> list[Excerpt]:
    """The corpus' rows in the manifest's order.

    Raises:
        ValueError: a column is missing, or a label is unknown.
    """
    manifest = folder / "manifest.csv"
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    fields = ("path", "label", "source", "origin", "group", "license")
    missing = [name for name in fields if not rows or name not in rows[0]]
    if missing:
        raise ValueError(f"{manifest} is empty or has no column {', '.join(missing)}")
    excerpts = [Excerpt(**{name: row[name] for name in fields}) for row in rows]
    strange = {e.label for e in excerpts} - set(LABELS)
    if strange:
        raise ValueError(f"{manifest} has labels other than {', '.join(LABELS)}: {', '.join(sorted(strange))}")
    return excerpts


def digest(folder: Path) -> str:
    """SHA-256 of the manifest; audio names in it are content hashes."""
    return hashlib.sha256((folder / "manifest.csv").read_bytes()).hexdigest()


def read_mono(path: Path, spec: AudioSpec) -> Float32:
    """A whole short file as float32 mono at the model's rate."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    resampled: Float32 = soxr.resample(mono, rate, spec.sample_rate) if rate != spec.sample_rate else mono
    return resampled.astype(np.float32, copy=False)


def to_length(samples: Float32, length: int) -> Float32:
    """`samples` cut, or repeated from the start, to `length`: padding with silence would be a cue."""
    if len(samples) == 0:
        return np.zeros(length, np.float32)
    return np.resize(samples, length)


def to_int16(samples: Float32) -> Int16:
    """Half of full scale at most, so that resampling overshoot never clips; loudness carries no label."""
    peak = float(np.abs(samples).max(initial=0.0))
    scale = 16000.0 / peak if peak > 0 else 0.0
    return np.round(samples * scale).astype(np.int16)


def cache_audio(folder: Path, excerpts: list[Excerpt], out: Path, spec: AudioSpec) -> Int16:
    """The corpus as int16 [excerpts, samples], decoded on the first call and memory-mapped after it."""
    path = out / "audio.npy"
    if not path.exists():
        length = excerpt_samples(spec)
        rows = np.zeros((len(excerpts), length), np.int16)
        for i, excerpt in enumerate(excerpts):
            rows[i] = to_int16(to_length(read_mono(folder / excerpt.path, spec), length))
        with replacing(path) as file:
            np.save(file, rows)
    cached: Int16 = np.load(path, mmap_mode="r")
    return cached
