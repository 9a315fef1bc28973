"""The work of one CPU in a scan: the measured inputs of the capacity plan in docs/operations.md.

python benchmarks/capacity.py [--model FILE] [--windows N|all] [--rounds 7]

Prints the CPU seconds for decoding a track of three minutes and making the images of its windows (12 by default). Also
prints the windows that the model scores in a CPU second. Times are CPU time, not wall time, so that other work has an
effect only through shared caches.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile

from sonicscan.audio.decode import read_windows
from sonicscan.audio.melspec import LogMel
from sonicscan.audio.windows import WindowPlan
from sonicscan.model.bundled import chosen_model
from sonicscan.model.detector import Detector
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device

RATE, TRACK_S, BATCH = 44100, 180, 8


def write_track(path: Path) -> None:
    """Three minutes of stereo notes over noise."""
    rng = np.random.default_rng(0)
    t = np.arange(RATE) / RATE
    with soundfile.SoundFile(path, "w", RATE, 2) as file:
        for _ in range(TRACK_S):
            note = 0.2 * np.sin(2 * np.pi * rng.uniform(100, 2000) * t) * np.exp(-3 * t)
            file.write((note[:, None] + 0.02 * rng.standard_normal((RATE, 2))).astype(np.float32))


def cpu_seconds(function: Callable[[], object], rounds: int) -> float:
    """Median CPU time of a call, after one that warms up."""
    taken = []
    for _ in range(rounds + 1):
        began = time.process_time()
        function()
        taken.append(time.process_time() - began)
    return statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="ONNX model [default: the bundled one]")
    parser.add_argument("--windows", default="12", help="of a track: N, or all of them")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    model = load_model(chosen_model(given.model), Device("cpu"), threads=1)
    log_mel, plan = LogMel(model.spec.audio), WindowPlan.parse(given.windows)
    print(
        f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, "
        f"onnxruntime {onnxruntime.__version__}, {model.path.name} ({model.spec.architecture})"
    )
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("mp3", "flac", "ogg"):
            track = Path(folder) / f"track.{suffix}"
            write_track(track)
            name = str(track).encode()
            taken = cpu_seconds(
                lambda: [log_mel(w.samples) for w in read_windows(name, model.spec.audio, plan)],  # noqa: B023 - at once
                given.rounds,
            )
            print(f"decode_s of {suffix}: {taken:.3f} CPU seconds a track")
    images = np.random.default_rng(0).standard_normal((BATCH, 3, model.spec.audio.n_mels, model.spec.audio.n_frames))
    detector, batch = Detector(model, BATCH), images.astype(np.float32)
    print(f"R: {BATCH / cpu_seconds(lambda: detector.logits(batch, BATCH), given.rounds):.1f} windows a CPU second")


if __name__ == "__main__":
    main()
