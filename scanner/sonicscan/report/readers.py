"""Reads Parquet reports: a file, a folder of parts, or a URL."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pyarrow as pa

from sonicscan.errors import ReportError
from sonicscan.library import remote
from sonicscan.library.urls import Location, Url
from sonicscan.report.bounded import read_bounded, schema_of, unreadable
from sonicscan.report.checks import check_rows
from sonicscan.report.schema import sort_rows
from sonicscan.report.versions import check_version, upgraded

PART_GLOB, SUCCESS = "part-*.parquet", "_SUCCESS"  # of a report that is a folder
MAX_REPORT_BYTES = 4 << 30  # of a report behind a URL; one of ten million rows has about 2 GB
_PART_NAME = re.compile(r"part-\d{6,9}\.parquet")


def read_report(path: Location) -> pa.Table:
    """A Parquet report, or all parts of one, with its metadata; columns that an earlier version lacks are null.

    Raises:
        ReportError: not there, damaged, unfinished, not a report of a known schema version, or with values that no
            scan writes.
        RemoteError: it cannot be fetched.
    """
    try:
        if isinstance(path, Url):
            table = _read_url(path)
        else:
            table = pa.concat_tables([read_bounded(file) for file in part_files(path)])
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    check_version(table.schema, path)
    table = upgraded(table, path)
    check_rows(table, path)
    return sort_rows(table) if isinstance(path, Path) and path.is_dir() else table


def check_report(path: Path) -> None:
    """Raise `ReportError` unless `path` is a whole report of a known schema version; reads the first file's schema."""
    check_version(schema_of(part_files(path)[0]), path)


def part_files(path: Path) -> tuple[Path, ...]:
    """The Parquet files of a report: itself, or the parts of a folder, in order.

    Raises:
        ReportError: a folder without parts, or whose scan has not finished.
    """
    if not path.is_dir():
        return (path,)
    parts = tuple(sorted_parts(path))
    if not parts:
        raise ReportError(f"the folder {path} holds no parts of a report.")
    if not (path / SUCCESS).exists():
        raise ReportError(f"the report in {path} is not finished ({SUCCESS} is missing); finish its scan first.")
    return parts


def sorted_parts(folder: Path) -> list[Path]:
    """The parts in a folder, in order, whether or not its scan has finished.

    Raises:
        ReportError: a file is named like a part, and sonicscan gives no such name.
    """
    parts = sorted(folder.glob(PART_GLOB))
    for part in parts:
        if not _PART_NAME.fullmatch(part.name):
            raise ReportError(f"{part} is not a part of a report; move it out of the folder.")
    return parts


def part_number(part: Path) -> int:
    """The number in a part's name."""
    return int(part.stem.rpartition("-")[2])


def _read_url(url: Url) -> pa.Table:
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "report.parquet"
        remote.download(url, local, MAX_REPORT_BYTES)
        return read_bounded(local)
