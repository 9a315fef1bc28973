"""A report in one file: the rows of an interrupted scan, of an earlier report and of this scan, by path."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from sonicscan.library.discovery import listing
from sonicscan.library.tracks import Track
from sonicscan.report.readers import read_report
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_batch, to_results
from sonicscan.scanning.reportfile import FileSink
from sonicscan.scanning.resumable import ResumableScan
from sonicscan.scanning.scan import Scan, ScanOptions
from sonicscan.scanning.sinks import Origin


def row(name: str) -> FileResult:
    return FileResult(path=name, status="unsupported", error="no sound", size=1, mtime_ns=1, warnings=[])


@pytest.fixture
def origin(tiny_model: Path) -> Origin:
    return Origin(Scan(ScanOptions(model=tiny_model, provenance=False)), listing([]))


def test_the_report_has_all_rows_by_path(origin: Origin, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    interrupted = FileSink(origin, out)
    interrupted.append([row("f"), row("b"), row("gone")])
    interrupted.close()
    sink = FileSink(origin, out)
    assert sink.resumed == 3
    assert [sink.known.take(Track(name, 1, 1)) for name in (b"b", b"f", b"new")] == [True, True, False]
    sink.append([row("e")])
    sink.append([row("a"), row("d")])
    sink.finish([pa.Table.from_batches([to_batch([row("c")])])])
    assert list(to_results(read_report(out))) == [row(name) for name in "abcdef"]
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]


def test_rows_of_an_interrupted_scan_of_another_library_are_not_lost_silently(origin: Origin, tmp_path: Path) -> None:
    scan = Scan(ScanOptions(model=Path(origin.metadata(()).options["model"]), provenance=False))
    interrupted = FileSink(origin, tmp_path / "r.parquet")
    interrupted.append([row("f"), row("b")])
    interrupted.close()
    sink = FileSink(origin, tmp_path / "r.parquet")
    resumed = ResumableScan(scan, listing([]), sink)
    assert "none of the 2 rows of the interrupted scan was used" in str(resumed.nothing_resumed())
    sink.known.take(Track(b"f", 1, 1))
    assert resumed.nothing_resumed() is None
    sink.close()
