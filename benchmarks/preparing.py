"""Preparing a track takes at most a quarter of the time that librosa takes, on one core.

    python benchmarks/preparing.py [--library FOLDER] [--rounds N]

Twelve windows of a three-minute MP3: decode, downmix, resample, log-mel; against librosa.load and
librosa.feature.melspectrogram for the same windows. Processor time of this process, which keeps one thread.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import librosa
import numpy as np
from material import add_folders, quiet_decoders, tracks
from obvious_script import log_mel_image
from paired import Claim, conclude, cpu, in_turns, median, parser, ratio

from sonicscan.audio.decode import read_windows
from sonicscan.audio.melspec import LogMel
from sonicscan.audio.windows import WindowPlan
from sonicscan.spec import AudioSpec

SPEC, PLAN = AudioSpec(), WindowPlan(12)


def main() -> None:
    arguments = parser(__doc__)
    add_folders(arguments, "library")
    options = arguments.parse_args()
    (path,) = tracks(options, [180.0], [".mp3"])
    log_mel = LogMel(SPEC)
    images: dict[str, list[np.ndarray]] = {}

    def sonicscan() -> None:
        images["sonicscan"] = [log_mel(window.samples) for window in read_windows(bytes(path), SPEC, PLAN)]

    def librosas() -> None:
        sound, _ = librosa.load(path, sr=SPEC.sample_rate, mono=True)
        starts = PLAN.starts(len(sound), SPEC.window_samples)
        images["librosa"] = [log_mel_image(sound[start : start + SPEC.window_samples], SPEC) for start in starts]

    with quiet_decoders():
        times = in_turns(lambda: cpu(librosas), lambda: cpu(sonicscan), rounds=options.rounds or 15, warm_up=2)
    gap = max(float(np.abs(a - b).max()) for a, b in zip(images["librosa"], images["sonicscan"], strict=True))
    note = f"{1e3 * median(times, 0):.0f} ms and {1e3 * median(times, 1):.0f} ms; images differ by at most {gap:.1g}"
    conclude([Claim("time to prepare a track: librosa / sonicscan", ratio(times, 0, 1), 4, note=note)], options)


if __name__ == "__main__":
    main()
