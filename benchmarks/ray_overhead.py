"""Prints the ratio of the Ray engine's time to the local engine's on the same files, in pairs, without the start-up.

python benchmarks/ray_overhead.py [--tracks 100] [--seconds 60] [--rounds 5] [--model FILE]

Both use the whole machine, in turns: the local engine with its defaults, and a Ray cluster of one node with as many
CPUs. Each scans a library, and a library of four times its tracks. The difference of the two times is the time of three
libraries, without the start of processes, sessions and actors. The time to the first row could not replace this: Ray's
rows come in blocks, so many tracks are done by then.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import ray
import soundfile

from sonicscan.engine.local import LocalEngine
from sonicscan.engine.ray.engine import RayEngine
from sonicscan.library.discovery import listing
from sonicscan.library.tracks import Track
from sonicscan.machine import usable_cpus
from sonicscan.scanning.scan import Scan, ScanOptions, ray_engine

RATE, DISTINCT = 44100, 8


def write_library(folder: Path, tracks: int, seconds: float) -> None:
    """Stereo notes over noise as FLAC: a few files, under many names."""
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * RATE)) / RATE
    for k in range(tracks):
        path = folder / f"{k:05d}.flac"
        if k < DISTINCT:
            note = 0.2 * np.sin(2 * np.pi * rng.uniform(100, 2000) * t)
            soundfile.write(path, note[:, None] + 0.02 * rng.standard_normal((len(t), 2)), RATE)
        else:
            path.symlink_to(folder / f"{k % DISTINCT:05d}.flac")


def seconds(scan: Scan, tracks: list[Track]) -> float:
    """Wall-clock time of a scan."""
    began = time.perf_counter()
    assert [result.status for result in scan.score(tracks)] == ["ok"] * len(tracks)
    return time.perf_counter() - began


def without_start(scan: Scan, tracks: list[Track]) -> tuple[float, float]:
    """Seconds that three quarters of `tracks` take, and those that starting takes."""
    quarter = seconds(scan, tracks[: len(tracks) // 4])
    rest = seconds(scan, tracks) - quarter
    return rest, quarter - rest / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tracks", type=int, default=100, help="of the smaller library")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each track")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="ONNX model [default: the bundled one]")
    given = parser.parse_args()
    print(
        f"{datetime.date.today()}, {platform.machine()}, {usable_cpus()} CPUs, Python {platform.python_version()}, "
        f"onnxruntime {onnxruntime.__version__}, ray {ray.__version__}; "
        f"{given.tracks} and {4 * given.tracks} tracks of {given.seconds:g} s"
    )
    ray.init("local", num_cpus=usable_cpus(), log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    options = ScanOptions(model=given.model)
    with tempfile.TemporaryDirectory() as name:
        write_library(Path(name), 4 * given.tracks, given.seconds)
        tracks = list(listing([name]))
        ratios = []
        for k in range(given.rounds):
            scans = [Scan(options), Scan(options, ray_engine(options))]
            taken = {type(scan.engine): without_start(scan, tracks) for scan in (scans if k % 2 == 0 else scans[::-1])}
            (local, local_start), (on_ray, ray_start) = taken[LocalEngine], taken[RayEngine]
            ratios.append(on_ray / local)
            print(
                f"round {k + 1}: local {local:.1f} s (start {local_start:.1f} s), "
                f"Ray {on_ray:.1f} s (start {ray_start:.1f} s), ratio {ratios[-1]:.2f}",
                flush=True,
            )
    print(
        f"ratio of {given.rounds} pairs: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    )


if __name__ == "__main__":
    main()
