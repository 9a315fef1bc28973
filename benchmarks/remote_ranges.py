"""Bytes that a scan of twelve windows fetches of a five-minute track behind a URL, and in how many requests.

python benchmarks/remote_ranges.py
"""

from __future__ import annotations

import functools
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from sounds import encode
from synthesis import music

from sonicscan.audio.decode import read_windows
from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.library.ranges import RemoteFile
from sonicscan.spec import AudioSpec


def part_of(content: bytes, start: int, stop: int) -> bytes:
    return content[start:stop]


def main() -> None:
    print("format      file  fetched  share  requests")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("wav", "flac", "ogg", "opus", "mp3", "m4a"):
            rate = 48000 if suffix == "opus" else 44100
            path, sound = Path(folder) / f"x.{suffix}", np.tile(music(20.0, rate), (15, 1))
            if suffix == "m4a":
                encode(path, sound, rate, "aac", "ipod", bit_rate=192_000)
            else:
                write_sound(path, sound, rate)
            content = path.read_bytes()
            with RemoteFile(functools.partial(part_of, content), len(content)) as file:
                for _ in read_windows(file, AudioSpec(), WindowPlan(12)):
                    pass
            share = file.fetched / len(content)
            sizes = f"{len(content) / 1e6:6.1f} MB {file.fetched / 1e6:5.1f} MB"
            print(f"{suffix:6} {sizes} {share:6.0%} {file.requests:9}")


if __name__ == "__main__":
    main()
