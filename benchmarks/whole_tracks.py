"""Whether whole tracks and short ones are flagged as rarely as the excerpts that thresholds are calibrated on.

    python benchmarks/whole_tracks.py RUN

RUN is a folder of `make model`. Thresholds come from excerpts of 7 seconds, which have two windows. The mean margin of
twelve windows of a whole track varies less. So without a correction thresholds are too strict for whole tracks, and
AI is missed. The pooling multiplies the mean of n windows by n / (n + c). This program shows what each c gives, on
music by people from packages of Debian (see peoples_music.py). A package that is not in the corpus is scored by each
member, a package of one fold by the member that did not see this fold.

For each certified rate it prints shares at or over the threshold: of excerpts, of n consecutive windows from a random
place, and of twelve windows that are spread over the track. Margins are of single members, as in the calibration.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from paired import scanned
from peoples_music import PACKAGES, fetch

from sonicscan.audio.decode import read_mono
from sonicscan.errors import AudioError
from sonicscan.scoring.aggregate import margin_of, pooling_factor, track_margin
from sonicscan.scoring.thresholds import certified_threshold
from sonicscan_train.judge.members import Scale, read_fit

MOST_TRACKS = 40  # of a package
EXCERPTS = 4  # of a track
EXCERPT_S, RATE = 7.0, 22050
COUNTS = (1, 2, 3, 6, 12)
CONSTANTS = (0.0, 0.5, 0.75, 1.0, 2.0)
TOO_LARGE = frozenset({"berusky2-data", "flightgear-data-base"})  # over half a gigabyte


def packages_by_member(folds: Path, everyone: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The members that may score each package: all of them, or that of its fold."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    with folds.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["origin"].startswith("debian:") and row["label"] == "human":
                found[row["origin"].removeprefix("debian:")].add(int(row["fold"]))
    members = {name: tuple(own) for name, own in sorted(found.items()) if len(own) == 1 and name not in TOO_LARGE}
    return {name: tuple(everyone) for name in PACKAGES if name not in found} | members


def cut(track: Path, folder: Path, rng: np.random.Generator) -> None:
    """Writes excerpts from random places of a track, as the corpus has them."""
    try:
        samples = read_mono(bytes(track), RATE)
    except AudioError as error:
        print(f"{track}: {error}")
        return
    length = int(EXCERPT_S * RATE)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(EXCERPTS):
        start = int(rng.integers(0, max(1, len(samples) - length)))
        part = samples[start : start + length]
        if np.abs(part).max(initial=0.0) > 1e-3:
            part = part * (0.7 / np.abs(part).max())
            soundfile.write(folder / f"{track.name}.{k}.ogg", part, RATE, format="OGG", subtype="VORBIS")


def margins(tracks: Sequence[Path], model: Path, windows: str, scale: Scale, out: Path) -> Iterator[np.ndarray]:
    """The window margins of each track, on the common scale."""
    for row in scanned(tracks, out, ["status", "window_margins"], "--model", model, "--windows", windows):
        if row["status"] == "ok" and row["window_margins"]:
            yield (np.array(row["window_margins"]) - scale.offset) / scale.temperature


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of `make model`")
    parser.add_argument("--work", type=Path, default=Path("bench-data"), help="where the packages' music is kept")
    options = parser.parse_args()
    music, excerpts = options.work / "peoples-music", options.work / "peoples-excerpts"
    spec, fitted = read_fit(options.run / "crossfit")
    rng = np.random.default_rng(0)
    whole: list[np.ndarray] = []
    short: list[np.ndarray] = []
    used = 0
    packages = packages_by_member(options.run / "folds.csv", range(len(fitted)))
    for package, members in packages.items():
        try:
            fetch(package, music / package)
        except subprocess.CalledProcessError:
            print(f"{package} is not there")
            continue
        tracks = sorted((music / package).iterdir())[:MOST_TRACKS]
        if not tracks:
            continue
        if not (excerpts / package).exists():
            for track in tracks:
                cut(track, excerpts / package, rng)
        used += 1
        parts = sorted((excerpts / package).iterdir())
        for k in members:
            model, scale = options.run / f"member-{k}.onnx", fitted[k].scale
            whole += margins(tracks, model, "all", scale, options.work / "whole.parquet")
            short += margins(parts, model, "12", scale, options.work / "short.parquet")
    print(f"{len(whole)} scores of whole tracks and {len(short)} of excerpts, from {used} packages")
    own = spec.shrink
    kinds = {"excerpts": short}
    for n in COUNTS:
        kinds[f"{n} in a row"] = [w[(s := rng.integers(0, len(w) - n + 1)) : s + n] for w in whole if len(w) >= n]
    kinds["12 spread"] = [w[np.unique(np.linspace(0, len(w) - 1, 12).round().astype(int))] for w in whole]
    for constant in CONSTANTS:
        print(f"\nc = {constant:g}\n\n| certified rate | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
        for rate in (0.10, 0.05, 0.02, 0.01):
            margin = margin_of(certified_threshold(spec.calibration, rate))
            # The calibration's tracks have two windows, so its thresholds change by one factor.
            threshold = margin * pooling_factor(2, constant) / pooling_factor(2, own)
            shares = [np.mean([track_margin(w, constant) >= threshold for w in windows]) for windows in kinds.values()]
            print(f"| {rate:.0%} | {' | '.join(f'{share:.2%}' for share in shares)} |")


if __name__ == "__main__":
    main()
