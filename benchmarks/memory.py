"""Memory does not grow with the library, nor with the length of a file.

    python benchmarks/memory.py [--files N] [--hours H]

Measures the peak resident memory of the scanning process over N and over 10 N short files, with rows on standard
output. Also measures that of the worker that decodes all windows of a file of ten hours. Linux only: peaks come from
/proc.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import soundfile
from material import free_model
from paired import PROGRAM, Claim, conclude, parser

from sonicscan.cli.demo import melody


def short_files(root: Path, n: int) -> Path:
    """`n` names, a hundred a folder, of one track of six seconds."""
    root.mkdir(parents=True, exist_ok=True)
    first = root / "first.flac"
    if not first.exists():
        soundfile.write(first, melody(6.0, 22050, 0), 22050)
    for k in range(n):
        link = root / f"{k // 100:04d}" / f"{k:06d}.flac"
        if not link.exists():
            link.parent.mkdir(exist_ok=True)
            os.link(first, link)
    return root


def long_file(path: Path, hours: float) -> Path:
    """A FLAC of many hours: one minute of notes, again and again."""
    if not path.is_file():
        minute = melody(60.0, 22050, 0)[:, 0]
        part = path.with_name("part-" + path.name)
        with soundfile.SoundFile(part, "w", 22050, 1) as file:
            for k in range(round(60 * hours)):
                file.write(np.roll(minute, 1000 * k))
        part.rename(path)
    return path


def peaks(*arguments: object) -> tuple[float, float]:
    """Runs a scan; the highest resident memory of it and of a worker, in MB."""
    own = workers = 0.0
    command = [PROGRAM, *map(str, arguments), "--out", "-", "-q", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            own = max(own, _peak_mb(process.pid))
            for child in _children(process.pid):
                workers = max(workers, _peak_mb(child))
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"the scan ended with exit code {process.returncode}.")
    return own, workers


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text(encoding="ascii").split()]
        except OSError:
            continue
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--files", type=int, default=300, help="files of the smaller library")
    arguments.add_argument("--hours", type=float, default=10.0, help="length of the long file")
    options = arguments.parse_args()
    model = free_model(options)
    few = short_files(options.work / f"short-{options.files}", options.files)
    many = short_files(options.work / f"short-{10 * options.files}", 10 * options.files)
    small, _ = peaks(few, "--model", model)
    large, _ = peaks(many, "--model", model)
    book = long_file(options.work / f"{options.hours:g}-hours.flac", options.hours)
    _, worker = peaks(book, "--model", model, "--windows", "all", "--timeout", "3600")
    note = f"{small:.0f} MB for {options.files} files, {large:.0f} MB for {10 * options.files}"
    claims = [
        Claim("memory of a scan: ten times the files / the files", large / small, 1.1, at_most=True, note=note),
        Claim(f"memory of the worker on a file of {options.hours:g} hours", worker, 300, at_most=True, unit="MB"),
    ]
    conclude(claims, options)


if __name__ == "__main__":
    main()
