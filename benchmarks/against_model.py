"""The time of a scan against that of the model alone, with its windows already in memory.

    python benchmarks/against_model.py [--library FOLDER] [--rounds N]

It compares a scan of all windows of MP3 and Ogg files of two to four minutes, with Lambda fp32, with ONNX Runtime
alone. ONNX Runtime has default settings and runs the same number of windows from memory, with the same number of
threads, eight windows at a time.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
from against_script import ALL
from material import add_folders, exported, quiet_decoders, tracks
from paired import Claim, conclude, in_turns, median, parser, ratio, wall

from sonicscan.library.discovery import listing
from sonicscan.machine import usable_cpus
from sonicscan.model.sessions import Device
from sonicscan.scanning.scan import Scan, ScanOptions

BATCH = 8


def main() -> None:
    arguments = parser(__doc__)
    add_folders(arguments, "library")
    options = arguments.parse_args()
    with quiet_decoders():
        paths = tracks(options, [120.0, 180.0, 240.0, 150.0] * 4, [".mp3", ".ogg"])
        _, model = exported(options, "lambda")
        scan = Scan(ScanOptions(model=model, windows=ALL, threshold=0.5, device=Device("cpu")))
        n = sum(row.windows for row in scan.score(listing(paths)))
        options_of_session = onnxruntime.SessionOptions()
        options_of_session.intra_op_num_threads = usable_cpus()
        session = onnxruntime.InferenceSession(model, options_of_session, providers=["CPUExecutionProvider"])
        images = np.random.default_rng(0).standard_normal((BATCH, 3, 256, 256)).astype(np.float32)

        def alone() -> None:
            for first in range(0, n, BATCH):
                session.run(["logits"], {"spectrogram": images[: min(BATCH, n - first)]})

        rounds = options.rounds or 3
        times = in_turns(
            lambda: wall(lambda: list(scan.score(listing(paths)))), lambda: wall(alone), rounds=rounds, warm_up=0
        )
    note = f"{n} windows, {n / median(times, 0):.1f} and {n / median(times, 1):.1f} windows/s"
    claims = [Claim("time: a scan / the model alone", ratio(times, 0, 1), 1.15, at_most=True, note=note)]
    conclude(claims, options)


if __name__ == "__main__":
    main()
