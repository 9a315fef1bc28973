"""If the model takes no time, the scan is as fast as its workers decode.

    python benchmarks/free_model.py [--library FOLDER] [--workers N] [--rounds N]

Starting processes and touching buffers for the first time is left out on both sides.
A model of one layer stands in for a GPU that is never the bottleneck. All windows of tracks of two to four minutes
are scanned by N workers, against N times what one process decodes alone with no transport. The processor time of the
parent, per window, gives the largest number of windows a second for one parent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from material import add_folders, free_model, tracks
from paired import Claim, conclude, in_turns, median, parser

from sonicscan.machine import usable_cpus

LENGTHS = [120.0, 180.0, 240.0, 150.0]
# What a worker does, in a process like a worker's, without sending anything.
ALONE = """
import sys, time
from sonicscan.audio.decode import read_windows
from sonicscan.audio.melspec import LogMel
from sonicscan.spec import AudioSpec
from sonicscan.audio.windows import ALL_WINDOWS
log_mel, windows, began = LogMel(AudioSpec()), 0, time.perf_counter()
for path in sys.argv[1:]:
    for window in read_windows(path.encode(), AudioSpec(), ALL_WINDOWS):
        log_mel(window.samples)
        windows += 1
print(windows / (time.perf_counter() - began))
"""
# The scan, in a process of its own, so that its processor time is the parent's alone.
SCAN = """
import json, sys, time
from pathlib import Path
from sonicscan.model.sessions import Device
from sonicscan.library.discovery import listing
from sonicscan.scanning.scan import Scan, ScanOptions
from sonicscan.audio.windows import ALL_WINDOWS
options = ScanOptions(model=Path(sys.argv[1]), windows=ALL_WINDOWS, device=Device("cpu"),
                      workers=int(sys.argv[2]), threads=1, batch_size=64)
scan = Scan(options)
windows, marks = 0, []
for result in scan.score(listing(sys.argv[3:])):
    windows += result.windows
    if windows > 256 or marks:  # processes have started and buffers are in use
        marks.append((windows, time.perf_counter(), time.process_time()))
(n, began, cpu), (m, ended, spent) = marks[0], marks[-1]
print(json.dumps([(m - n) / (ended - began), 1e3 * (spent - cpu) / (m - n)]))
"""


def main() -> None:
    arguments = parser(__doc__)
    add_folders(arguments, "library")
    arguments.add_argument("--workers", type=int, default=usable_cpus())
    options = arguments.parse_args()
    model = free_model(options)
    # Each worker has the same mixture of tracks; links give every copy a name of its own.
    paths = tracks(options, LENGTHS, [".mp3", ".ogg"])
    copies = [_link(path, k) for path in paths for k in range(4 * options.workers)]
    one_thread = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    parents: list[float] = []

    def run(program: str, *values: object) -> str:
        command = [sys.executable, "-c", program, *map(str, values)]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=one_thread).stdout

    def scanned() -> float:
        rate, parent_ms = json.loads(run(SCAN, model, options.workers, *copies))
        parents.append(parent_ms)
        return float(rate)

    def alone() -> float:
        return float(run(ALONE, *paths, *paths))

    def beside_each_other() -> float:
        with ThreadPoolExecutor(options.workers) as pool:
            return sum(pool.map(lambda _: alone(), range(options.workers)))

    rates = in_turns(scanned, alone, beside_each_other, rounds=options.rounds or 5)
    share = sorted(scan / (options.workers * one) for scan, one, _ in rates)[len(rates) // 2]
    scaling = sorted(scan / beside for scan, _, beside in rates)[len(rates) // 2]
    parent_ms = sorted(parents[1:])[len(parents) // 2 - 1]
    note = f"{median(rates, 0):.0f} of {options.workers} x {median(rates, 1):.0f} windows/s; "
    note += f"{scaling:.2f} of as many processes side by side without transport"
    claims = [
        Claim("speed: a scan with a free model / workers x one worker alone", share, 0.9, note=note),
        Claim("processor time of the parent per window", parent_ms, 0.3, at_most=True, unit="ms"),
    ]
    conclude(claims, options)


def _link(path: Path, number: int) -> Path:
    link = path.parent / "copies" / f"{number}-{path.name}"
    link.parent.mkdir(exist_ok=True)
    if not link.exists():
        os.link(path, link)
    return link


if __name__ == "__main__":
    main()
