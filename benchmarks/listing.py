"""Unchanged files take hardly any time, and a million files take no memory and cause no pause.

    python benchmarks/listing.py [--files N] [--listed N] [--rounds N]

Makes a library of N named but tiny files, and a report in which all of them are already scored; then scans with
`--since`. Then it lists a library of a million empty files, of which the first holds sound.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile
from material import free_model
from paired import PROGRAM, Claim, conclude, in_turns, median, parser, wall

from sonicscan.engine.outcome import Outcome, Reading
from sonicscan.engine.rows import track_result
from sonicscan.library.discovery import listing
from sonicscan.model.sessions import Device
from sonicscan.provenance.record import Provenance
from sonicscan.report.metadata import with_metadata
from sonicscan.report.row import FileResult
from sonicscan.report.schema import sort_rows, to_batch
from sonicscan.report.writers import write_report
from sonicscan.scanning.scan import Scan, ScanOptions, now

A_FOLDER = 1000
LISTED = """
import sys
import sonicscan.scanning.scan, sonicscan.cli.session
from sonicscan.library.discovery import listing
n = sum(1 for _ in listing([sys.argv[1]]))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(n, int(peak.split()[1]) / 1024)
"""


def make_tree(root: Path, n: int) -> Path:
    """`n` empty files with names of sound, a thousand a folder; the very first is a second of noise."""
    done = root / ".made"
    if not done.exists():
        for k in range(0, n, A_FOLDER):
            folder = root / f"{k // A_FOLDER:04d}"
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(min(A_FOLDER, n - k)):
                (folder / f"{i:04d} some artist - some title.mp3").touch()
        noise = 0.1 * np.random.default_rng(0).standard_normal(5 * 22050)
        soundfile.write(root / "0000" / "0000 a first track.wav", noise, 22050)
        done.touch()
    return root


def make_report(scan: Scan, root: Path, path: Path) -> Path:
    """What a scan of `root` would have left, with twelve windows a track."""
    outcome = Outcome(
        status="ok",
        duration_s=180.0,
        sample_rate=44100,
        channels=2,
        codec="mp3",
        title="some title",
        artist="some artist",
        provenance=Provenance(),
    )
    starts = [15.0 * k for k in range(12)]
    random = np.random.default_rng(0)

    def rows() -> Iterator[FileResult]:
        for track in listing([root]):
            logits = random.standard_normal((12, 2)).astype(np.float32)
            yield track_result(track, Reading(outcome, starts, list(logits)), scan.model.spec, scan.thresholds)

    table = sort_rows(pa.Table.from_batches([to_batch(list(rows()))]))
    write_report(with_metadata(table, scan.metadata(now())), path)
    return path


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--files", type=int, default=100_000, help="files of the rescan")
    arguments.add_argument("--listed", type=int, default=1_000_000, help="files of the listing")
    options = arguments.parse_args()
    rounds = options.rounds or 3
    model = free_model(options)
    library = make_tree(options.work / f"files-{options.files}", options.files)
    scan = Scan(ScanOptions(model=model, threshold=0.9, device=Device("cpu")))
    earlier = make_report(scan, library, options.work / "earlier.parquet")
    n = options.files + 1

    def rescan(*paths: object) -> float:
        out = options.work / "rescan.parquet"
        command = [PROGRAM, *map(str, paths), "--model", str(model), "--threshold", "0.9", "--device", "cpu"]
        command += ["--since", str(earlier), "--out", str(out), "-q"]
        return wall(lambda: subprocess.run(command, check=True))

    times = in_turns(lambda: rescan(library), rounds=rounds, warm_up=1)
    many = make_tree(options.work / f"files-{options.listed}", options.listed)
    one = make_tree(options.work / "files-1", 1)
    listed, peak = subprocess.run(
        [sys.executable, "-c", LISTED, str(many)], check=True, capture_output=True, text=True
    ).stdout.split()

    def until_first_row(root: Path) -> float:
        command = [PROGRAM, str(root), "--model", str(model), "--device", "cpu", "--out", "-", "-q"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            rows = process.stdout
            assert rows is not None
            took = wall(lambda: json.loads(rows.readline()))
            process.terminate()
            rows.read()
        return took

    firsts = in_turns(lambda: until_first_row(many), lambda: until_first_row(one), rounds=rounds + 2)
    pause = sorted(a / b for a, b in firsts)[len(firsts) // 2]
    what = f"{median(times, 0):.1f} s for {n} files, Python and the model included"
    claims = [
        Claim("files/s of a rescan with --since", n / median(times, 0), 10_000, unit="files/s", note=what),
        Claim(f"memory of the process that lists {listed} files", float(peak), 200, at_most=True, unit="MB"),
        Claim(
            f"time to the first row: {listed} files / one file",
            pause,
            1.2,
            at_most=True,
            note=f"{median(firsts, 0):.2f} s",
        ),
    ]
    conclude(claims, options)


if __name__ == "__main__":
    main()
