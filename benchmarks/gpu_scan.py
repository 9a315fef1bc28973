"""A whole scan of a large library by one model: tracks a second, and what limits them.

    python benchmarks/gpu_scan.py MODEL [--device cuda] [--tracks N] [--workers N] [--library FOLDER]

The library is a few tracks of three minutes (MP3, Ogg, FLAC) under many names, so that files come from the page
cache. Also measures the time from the start of the program to the first row of one file. `gpu.py` calls this program.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from material import add_folders, quiet_decoders, tracks
from paired import parser, wall

from sonicscan.library.discovery import listing
from sonicscan.machine import usable_cpus
from sonicscan.model.sessions import Device
from sonicscan.scanning.scan import Scan, ScanOptions

PROGRAM = "from sonicscan.cli.scan import main; main()"  # where no program is installed, too
DISTINCT = 8
SUFFIXES = (".mp3", ".mp3", ".ogg", ".flac")


@dataclass(frozen=True)
class ScanFigures:
    """What was measured of one scan with 12 windows a track.

    Attributes:
        tracks_s, windows_s: tracks and windows a second, the start of the workers included.
        model_share: share of the time in which the model ran.
        cores_share: processor time of the scanner and its workers, over that of all processors.
        gpu_share: mean use of the GPU as nvidia-smi samples it, 0 to 1; None where there is none.
        gpu_mb: largest memory in use on the GPU.
        bottleneck: `model` or `decoding`, as the scanner itself says.
        first_row_s: seconds from the start of the program to the row of a single file, model load included.
    """

    model: str
    device: str
    workers: int
    tracks: int
    seconds: float
    tracks_s: float
    windows_s: float
    model_share: float
    cores_share: float
    gpu_share: float | None
    gpu_mb: float | None
    bottleneck: str
    first_row_s: float


class GpuUse:
    """Samples the use of a GPU four times a second while it is open (as a context manager)."""

    COMMAND = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "250")

    def __init__(self, device: Device) -> None:
        self.share: float | None = None
        self.mb: float | None = None
        self._process: subprocess.Popen[str] | None = None
        self._wanted = device.kind == "cuda" and shutil.which(self.COMMAND[0]) is not None
        self._index = device.index

    def __enter__(self) -> GpuUse:
        if self._wanted:
            self._file = tempfile.TemporaryFile("w+")
            command = [*self.COMMAND, "-i", str(self._index)]
            self._process = subprocess.Popen(command, stdout=self._file, stderr=subprocess.DEVNULL, text=True)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait()
        self._file.seek(0)
        samples = [line.split(",") for line in self._file if line.count(",") == 1]
        self._file.close()
        numbers = [(float(use), float(mb)) for use, mb in samples if use.strip().isdigit() and mb.strip().isdigit()]
        if numbers:
            self.share = statistics.mean(use for use, _ in numbers) / 100
            self.mb = max(mb for _, mb in numbers)


def large_library(paths: Sequence[Path], folder: Path, n: int) -> Path:
    """`n` names, a thousand a folder, of a few tracks."""
    for k in range(n):
        link = folder / f"{k // 1000:03d}" / f"{k:06d}{paths[k % len(paths)].suffix}"
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(paths[k % len(paths)], link)
    return folder


def processor_s() -> float:
    """Processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    arguments = parser(__doc__)
    add_folders(arguments, "library")
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--tracks", type=int, default=5000)
    arguments.add_argument("--workers", type=int, default=usable_cpus())
    options = arguments.parse_args()
    with quiet_decoders():
        paths = tracks(options, [180.0] * DISTINCT, SUFFIXES)
    folder = large_library(paths, options.work / f"library-{options.tracks}", options.tracks)
    one = [sys.executable, "-c", PROGRAM, str(paths[0]), "--model", str(options.model), "--device", options.device]
    one += ["--threshold", "0.5", "--out", "-", "-q"]
    first_row_s = statistics.median(
        wall(lambda: subprocess.run(one, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for _ in range(options.rounds or 3)
    )
    device = Device.parse(options.device)
    scan = Scan(ScanOptions(model=options.model, threshold=0.5, device=device, workers=options.workers))
    n, windows, spent, began = 0, 0, processor_s(), time.perf_counter()
    with GpuUse(device) as use:
        for row in scan.score(listing([folder])):
            n, windows = n + 1, windows + row.windows
    seconds = time.perf_counter() - began
    stats = scan.engine.stats
    figures = ScanFigures(
        model=options.model.stem,
        device=scan.engine.device,
        workers=options.workers,
        tracks=n,
        seconds=seconds,
        tracks_s=n / seconds,
        windows_s=windows / seconds,
        model_share=stats.model_s / seconds,
        cores_share=(processor_s() - spent) / (seconds * usable_cpus()),
        gpu_share=use.share,
        gpu_mb=use.mb,
        bottleneck=stats.bottleneck,
        first_row_s=first_row_s,
    )
    print(json.dumps(dataclasses.asdict(figures)))
    if options.json is not None:
        options.json.write_text(json.dumps(dataclasses.asdict(figures), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
