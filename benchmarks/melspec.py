"""Time of one log-mel window against librosa's, measured in pairs; prints the ratio.

OMP_NUM_THREADS=1 python benchmarks/melspec.py [PAIRS]
"""

from __future__ import annotations

import platform
import sys

import numpy as np
import scipy
from obvious_script import log_mel as librosa_log_mel
from paired import wall

from sonicscan.audio.melspec import LogMel
from sonicscan.spec import PRESETS


def main(pairs: int) -> None:
    print(
        f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"
    )
    for preset, spec in PRESETS.items():
        window = np.random.default_rng(0).standard_normal(spec.window_samples).astype(np.float32)
        log_mel = LogMel(spec)
        ours, theirs, ratios = [], [], []
        for k in range(pairs + 3):
            a = wall(lambda: log_mel.decibels(window))  # noqa: B023 - called at once
            b = wall(lambda: librosa_log_mel(window, spec, None))  # noqa: B023
            if k >= 3:  # the first calls build librosa's caches
                ours.append(a)
                theirs.append(b)
                ratios.append(a / b)
        low, middle, high = np.percentile(ratios, [5, 50, 95])
        print(
            f"{preset}: sonicscan {1e3 * np.median(ours):.2f} ms, librosa {1e3 * np.median(theirs):.2f} ms a window; "
            f"ratio of {pairs} pairs: median {middle:.2f}, 5% to 95% {low:.2f} to {high:.2f}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
