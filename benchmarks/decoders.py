"""Ogg Vorbis and Opus read from start to end, by libsndfile and by FFmpeg: what each takes, and whether they agree.

    python benchmarks/decoders.py [--library FOLDER] [--rounds N]

Prints the processor time for each five seconds of tracks of three minutes, and the largest difference of a sample.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from material import add_folders, library, quiet_decoders, sound_files, tracks
from paired import cpu, in_turns, median, parser

from sonicscan.audio.ffmpeg import AvSource
from sonicscan.audio.libsndfile import SndfileSource
from sonicscan.audio.sources import Source

READERS: tuple[Callable[[io.FileIO], Source], ...] = (SndfileSource, AvSource)


def samples(reader: Callable[[io.FileIO], Source], path: Path) -> np.ndarray:
    blocks = []
    with contextlib.closing(reader(io.FileIO(path))) as source:
        while len(block := source.read(65536)):
            blocks.append(block)
    return np.concatenate(blocks)


def seconds(reader: Callable[[io.FileIO], Source], paths: Sequence[Path]) -> float:
    return cpu(lambda: [samples(reader, path) for path in paths])


def main() -> None:
    arguments = parser(__doc__)
    add_folders(arguments, "library")
    options = arguments.parse_args()
    with quiet_decoders():
        for codec, suffix, paths in (
            ("Vorbis", ".ogg", tracks(options, [180.0] * 4, [".mp3", ".ogg"])[1::2]),
            ("Opus", ".opus", tracks(options, [180.0] * 2, [".opus"])),
        ):
            times = in_turns(
                *(functools.partial(seconds, reader, paths) for reader in READERS),
                rounds=options.rounds or 5,
            )
            short = [path for path in sound_files(library(options)) if path.suffix == suffix]
            pairs = [[samples(reader, path) for reader in READERS] for path in paths + short]
            windows = 180.0 * len(paths) / 5.0
            for k, name in enumerate(("libsndfile", "FFmpeg")):
                print(f"{codec}, {name}: {1000 * median(times, k) / windows:.2f} ms for five seconds")
            lengths = "equal" if all(len(a) == len(b) for a, b in pairs) else "differ"
            gap = max(float(np.abs(a[: len(b)] - b[: len(a)]).max()) for a, b in pairs)
            print(f"{codec}, {len(pairs)} files: lengths {lengths}, samples differ by at most {gap:.1e}")


if __name__ == "__main__":
    main()
