"""`--out folder/`: parts that are whole, resumed and marked as finished, and memory that stays flat."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from faults import PROGRAM
from synthesis import music

from sonicscan.cli import report as report_cli
from sonicscan.cli.demo import write_sound
from sonicscan.library.discovery import listing
from sonicscan.library.selection import Selection
from sonicscan.library.tracks import Track
from sonicscan.report.metadata import ReportMetadata, with_metadata
from sonicscan.report.readers import PART_GLOB, SUCCESS, read_report
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA, to_results
from sonicscan.scanning.parts import JOURNAL, PartsSink
from sonicscan.scanning.reportfile import FileSink
from sonicscan.scanning.resumable import ResumableScan
from sonicscan.scanning.scan import Scan, ScanOptions
from sonicscan.scanning.sinks import Origin


def scan(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=120)


def rows(path: Path) -> list[FileResult]:
    return [replace(r, elapsed_ms=None) for r in to_results(read_report(path))]


def dataset_paths(folder: Path) -> list[str]:
    table = pyarrow.dataset.dataset(folder, format="parquet").to_table(columns=["path"])
    return sorted(table.column("path").to_pylist())


def parts(folder: Path) -> list[int]:
    return [pq.read_metadata(part).num_rows for part in sorted(folder.glob(PART_GLOB))]


def test_the_parts_together_are_the_report(small_library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    one, many = tmp_path / "one.parquet", tmp_path / "many"
    assert scan(small_library, "--model", calibrated_model, "--out", one).returncode == 0
    options = ("--model", calibrated_model, "--part-size", "4")
    done = scan(small_library, *options, "--out", f"{many}/")
    assert done.returncode == 0, done.stderr
    assert rows(many) == rows(one)
    assert len(dataset_paths(many)) == 6
    assert parts(many) == [4, 2]
    assert {p.name for p in many.iterdir()} == {"_SUCCESS", "part-000000.parquet", "part-000001.parquet"}

    for name in ("._part-000000.parquet", ".DS_Store", "Thumbs.db", ".nfs0001"):  # operating systems leave them
        (many / name).write_bytes(b"x")

    # Other commands take the folder as they take the file.
    show = [CliRunner().invoke(report_cli.main, ["show", str(path)]).stdout for path in (one, many)]
    assert show[0] == show[1]
    merged = CliRunner().invoke(report_cli.main, ["merge", str(many), "--out", str(tmp_path / "m.parquet")])
    assert merged.exit_code == 0 and rows(tmp_path / "m.parquet") == rows(one)
    since = scan(small_library, "--model", calibrated_model, "--since", many, "--out", tmp_path / "next.parquet")
    assert "carried  6 rows" in since.stderr and rows(tmp_path / "next.parquet") == rows(one)

    # A finished report is not overwritten unasked.
    again = scan(small_library, *options, "--out", many)
    assert again.returncode == 2 and "holds a finished report" in again.stderr
    assert scan(small_library, *options, "--out", many, "--fresh").returncode == 0
    assert rows(many) == rows(one)


def test_an_empty_library_is_a_dataset_too(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    assert scan(tmp_path / "library", "--model", tiny_model, "--out", f"{tmp_path / 'out'}/").returncode == 0
    assert dataset_paths(tmp_path / "out") == []


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "library"
    root.mkdir()
    for k in range(12):
        write_sound(root / f"{k:02d}.wav", music(30.0, seed=k))
    (root / "empty.wav").touch()
    return root


def wait_for(folder: Path, n: int) -> None:
    limit = time.monotonic() + 60
    while len(list(folder.glob(PART_GLOB))) < n:
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_scan_goes_on(
    how: signal.Signals, library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole.parquet"
    command = [PROGRAM, library, "--model", calibrated_model, "--out", f"{out}/", "--part-size", "2"]
    command += ["--workers", "1", "--batch-size", "1", "--windows", "all", "--max-errors", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(out, 2)
        process.send_signal(how)
        said = process.communicate(timeout=60)[1]
    assert not (out / SUCCESS).exists()
    if how == signal.SIGINT:
        assert process.returncode == 130 and f"rows are in {out}" in said
    refused = CliRunner().invoke(report_cli.main, ["show", str(out)])
    assert refused.exit_code == 2 and "is not finished" in refused.stderr

    # Meanwhile a file that was scored changes, one goes and one comes.
    scored = [Path(path) for path in dataset_paths(out)]
    write_sound(scored[0], music(12.0, seed=99))
    scored[1].unlink()
    write_sound(library / "new.wav", music(9.0, seed=98))
    done = scan(*command[1:])
    assert done.returncode == 0 and "resuming from" in done.stderr
    assert scan(library, "--model", calibrated_model, "--out", whole, "--windows", "all").returncode == 3
    assert rows(out) == rows(whole)
    assert Counter(dataset_paths(out)).most_common(1)[0][1] == 1
    assert (out / SUCCESS).exists() and not (out / JOURNAL).exists()


def test_parts_are_judged_by_the_thresholds_of_the_scan_that_ends(
    library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [PROGRAM, library, "--model", calibrated_model, "--out", f"{out}/", "--part-size", "1", "--workers", "1"]
    with subprocess.Popen([*command, "--threshold", "1", "--batch-size", "1"], stderr=subprocess.DEVNULL) as process:
        wait_for(out, 2)
        process.kill()
    done = scan(*command[1:], "--threshold", "0")
    assert done.returncode == 3 and "flagged 12" in done.stderr
    assert {r.verdict for r in rows(out) if r.status == "ok"} == {"flagged"}


@pytest.fixture
def group_umask() -> Iterator[None]:
    """New files may be written by the group, the default of many systems; the parts of a report must not be."""
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.mark.usefixtures("group_umask")
def test_a_part_that_was_written_just_before_the_end_is_not_written_again(
    small_library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    """The machine goes down between the part's rename and the clearing of the journal."""
    ready = Scan(ScanOptions(model=calibrated_model))
    tracks = listing([small_library], Selection())

    def reported() -> ResumableScan:
        return ResumableScan(ready, tracks, PartsSink(Origin(ready, tracks), tmp_path / "out", part_rows=100))

    first = reported()
    first.run(lambda result: None)
    left = (tmp_path / "out" / JOURNAL).read_bytes()
    first.finish()
    (tmp_path / "out" / SUCCESS).unlink()
    (tmp_path / "out" / JOURNAL).write_bytes(left)
    (tmp_path / "out" / JOURNAL).chmod(0o600)
    again = reported()
    assert again.sink.resumed == 6
    again.run(lambda result: pytest.fail(f"{result.path} was scored again"))
    again.finish()
    assert len(dataset_paths(tmp_path / "out")) == 6 and parts(tmp_path / "out") == [6]


def test_the_first_part_says_how_the_tracks_differ_from_the_calibration(calibrated_model: Path, tmp_path: Path) -> None:
    """As the metadata of a report in one file does, also if an earlier end left other differences."""
    origin = Origin(Scan(ScanOptions(model=calibrated_model, provenance=False)), listing([]))

    def row(k: int) -> FileResult:
        return FileResult(path=f"{k:02}", status="ok", score=0.01, size=1, mtime_ns=1, warnings=[])

    one, many = FileSink(origin, tmp_path / "one.parquet"), PartsSink(origin, tmp_path / "many", part_rows=25)
    for sink in (one, many):
        sink.append([row(k) for k in range(60)])
        sink.finish([])
    expected = metadata_in(tmp_path / "one.parquet").differences
    assert len(expected) == 1 and many.differences == expected
    assert metadata_in(tmp_path / "many").differences == expected
    assert parts(tmp_path / "many") == [25, 25, 10] and rows(tmp_path / "many") == rows(tmp_path / "one.parquet")

    (tmp_path / "many" / SUCCESS).unlink()  # the end was not reached; 50 of the tracks are gone by now
    again = PartsSink(origin, tmp_path / "many", part_rows=25)
    assert all(again.known.take(Track(f"{k:02}".encode(), 1, 1)) for k in range(10))
    again.finish([])
    assert metadata_in(tmp_path / "many").differences == () and len(rows(tmp_path / "many")) == 10


def metadata_in(report: Path) -> ReportMetadata:
    return ReportMetadata.of(read_report(report).schema, report)


def test_what_cannot_be_is_said_in_a_sentence(small_library: Path, tiny_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "song.mp3").touch()
    (tmp_path / "file.x").touch()
    for options, words in (
        (("--out", other), "there are other files in it (song.mp3)"),
        (("--out", f"{tmp_path / 'no' / 'where'}/"), "there is no folder"),
        (("--out", f"{tmp_path / 'file.x'}/"), "that is a file"),
        (("--out", tmp_path / "a.parquet", "--part-size", "5"), "--part-size is for a report in parts"),
    ):
        done = scan(small_library, "--model", tiny_model, *options)
        assert done.returncode == 2 and words in done.stderr, done.stderr
    out = tmp_path / "out"
    out.mkdir()
    pq.write_table(with_metadata(SCHEMA.empty_table(), {"key": "other"}), out / "part-000000.parquet")
    done = scan(small_library, "--model", tiny_model, "--out", out)
    assert done.returncode == 2 and "was left by a scan with another model" in done.stderr
    (out / "part-000000.parquet").chmod(0o666)
    done = scan(small_library, "--model", tiny_model, "--out", out)
    assert done.returncode == 2 and "other users can write to the part" in done.stderr
    (out / "part-000000.parquet").rename(out / "part-zzz.parquet")
    done = scan(small_library, "--model", tiny_model, "--out", out)
    assert done.returncode == 2 and "part-zzz.parquet is not a part of a report" in done.stderr
    assert "Traceback" not in done.stderr


def test_memory_does_not_grow_with_rows(tiny_model: Path, tmp_path: Path) -> None:
    """Peak memory of the scan of 1,000 and of 12,000 files; their rows are made of a long name and little else."""

    def peak_mb(files: int) -> float:
        root = tmp_path / str(files)
        for k in range(files):
            folder = root / str(k // 1000)
            folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(folder / f"{k}{'x' * 220}.mp3", os.O_CREAT))
        program = (
            "import resource, sys\nfrom sonicscan.cli.scan import main\ntry:\n    main()\nfinally:\n"
            "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        command = [sys.executable, "-c", program, root, "--model", tiny_model, "--part-size", "500", "-q"]
        done = subprocess.run([*command, "--out", f"{tmp_path / 'out'}{files}/"], capture_output=True, text=True)
        assert done.returncode == 3, done.stderr
        assert sum(parts(tmp_path / f"out{files}")) == files
        return float(done.stdout)

    assert peak_mb(12_000) - peak_mb(1_000) < 13  # it is 6; with the report in one file, 20 to 27
