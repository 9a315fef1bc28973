"""The cost of the rows of a big scan: the journal while the scan runs, and the report at its end.

    python benchmarks/writing.py [--rows N] [--rounds N]

Rows of 12 windows go through the sinks of a scan: one report file, and a folder of parts. Time and memory are those of
a process of its own. A scan hands rows over twenty times a second: one at a time, or ten where it is fast.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from material import free_model
from paired import Claim, conclude, parser

PROGRAM = """
import dataclasses, json, sys, time
from pathlib import Path
import numpy as np
from sonicscan.engine.outcome import Outcome, Reading
from sonicscan.engine.rows import track_result
from sonicscan.library.discovery import listing
from sonicscan.library.tracks import Track
from sonicscan.model.sessions import Device
from sonicscan.provenance.record import Provenance
from sonicscan.scanning.parts import PartsSink
from sonicscan.scanning.reportfile import FileSink
from sonicscan.scanning.scan import Scan, ScanOptions
from sonicscan.scanning.sinks import Origin

model, out, rows, at_once = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
scan = Scan(ScanOptions(model=model, threshold=0.9, device=Device("cpu")))
sink = (FileSink if out.suffix else PartsSink)(Origin(scan, listing([])), out)
outcome = Outcome(status="ok", duration_s=180.0, sample_rate=44100, channels=2, codec="mp3", title="some title",
                  artist="some artist", album="some album", provenance=Provenance())
random = np.random.default_rng(0)
reading = Reading(outcome, [15.0 * k for k in range(12)], list(random.standard_normal((12, 2)).astype(np.float32)))
first = track_result(Track(b"x", 1, 1), reading, scan.model.spec, scan.thresholds)

def row(k):
    margins = random.standard_normal(12).astype(np.float32).tolist()
    path = f"library/{k % 977:04d}/{k:07d} some artist - some title.mp3"
    return dataclasses.replace(first, path=path, score=random.random(), window_margins=margins, mtime_ns=10**18 + k)

def memory(name):
    return int(dict(line.split(":", 1) for line in open("/proc/self/status"))[name].split()[0]) / 1024

appending = 0.0
for start in range(0, rows, at_once):
    some = [row(k) for k in range(start, min(start + at_once, rows))]
    began = time.process_time()
    sink.append(some)
    appending += time.process_time() - began
journal = Path(f"{out}.journal")
journal_mb = journal.stat().st_size / 1e6 if journal.exists() else 0.0
began = time.perf_counter()
sink.finish([])
took = time.perf_counter() - began
size = sum(path.stat().st_size for path in ([out] if out.is_file() else out.iterdir()))
print(json.dumps([1e6 * appending / rows, took, memory("VmHWM"), size / 1e6, journal_mb]))
"""


def written(model: Path, out: Path, rows: int, at_once: int) -> list[float]:
    """Microseconds to append a row, seconds to finish, peak memory in MB, MB of the report and of the journal."""
    for old in (out, Path(f"{out}.journal")):
        if old.is_dir():
            shutil.rmtree(old)
        old.unlink(missing_ok=True)
    command = [sys.executable, "-c", PROGRAM, str(model), str(out), str(rows), str(at_once)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [float(value) for value in found]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    options = arguments.parse_args()
    model = free_model(options)
    alone = [written(model, options.work / "ones.parquet", 2000, 1)[0] for _ in range(options.rounds or 3)]
    claims = [
        Claim(
            "processor time of the journal for a row by itself",
            statistics.median(alone) / 1000,
            2.0,
            at_most=True,
            unit="ms",
        )
    ]
    for name, out in (("one report file", "rows.parquet"), ("a folder of parts", "rows")):
        append_us, took, peak_mb, size_mb, journal_mb = written(model, options.work / out, options.rows, 10)
        note = f"{size_mb:.0f} MB of {name}, {append_us:.0f} us a row in the journal"
        note += f" of {journal_mb:.0f} MB" if journal_mb else ""
        what = f"the end of a scan of {options.rows} rows into {name}"
        claims.append(Claim(f"{what}: time", took, 20, at_most=True, unit="s", note=note))
        claims.append(Claim(f"{what}: memory", peak_mb, 500, at_most=True, unit="MB"))
    conclude(claims, options)


if __name__ == "__main__":
    main()
