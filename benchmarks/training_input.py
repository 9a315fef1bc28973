"""How many training windows one core can prepare for a GPU.

    python benchmarks/training_input.py [--windows 200]

Reads random crops from a synthesised MP3 track, and applies the robust recipe's waveform chain and the log-mel. Prints
the time of each step, and windows a second for one process with one thread.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from capacity import write_track

from sonicscan.audio.melspec import log_mel
from sonicscan.spec import AudioSpec
from sonicscan_train.sound.augment import Augmentation, augment
from sonicscan_train.sound.crops import read_crop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, default=200, help="windows to measure")
    n = parser.parse_args().windows
    spec, plan = AudioSpec(), Augmentation()
    spent: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        track = Path(folder) / "track.mp3"
        write_track(track)
        augment(
            read_crop(str(track), spec.sample_rate, 6.0, 0.0), spec.sample_rate, plan, 1000, np.random.default_rng(0)
        )
        for i in range(n):
            rng = np.random.default_rng(i)
            times = [time.process_time()]
            crop = read_crop(str(track), spec.sample_rate, spec.window_s * plan.longest, rng.random())
            times.append(time.process_time())
            window = augment(crop, spec.sample_rate, plan, spec.window_samples, rng)
            times.append(time.process_time())
            log_mel(spec)(window)
            times.append(time.process_time())
            for name, began, ended in zip(("read a crop", "augment", "log-mel"), times, times[1:], strict=False):
                spent[name] += ended - began
    total = sum(spent.values())
    for name, seconds in spent.items():
        print(f"{name:<12} {1e3 * seconds / n:7.1f} ms a window, {seconds / total:4.0%} of it")
    print(f"together     {1e3 * total / n:7.1f} ms a window: {n / total:.1f} windows/s of processor time on one core")
    print(f"{n} windows, {time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {platform.machine()}")


if __name__ == "__main__":
    main()
