"""Repeated audits: `--out 'audits/{date}.parquet' --since latest --fail-on new-flagged`."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sonicscan.analysis.catalogue import lines
from sonicscan.analysis.delivered import Delivered, News, news
from sonicscan.analysis.reviewed import Reviewed
from sonicscan.cli.options import NEW_FLAGGED, Arguments
from sonicscan.cli.parameters import LATEST
from sonicscan.errors import InputError, ReportError
from sonicscan.library.roots import Roots
from sonicscan.library.urls import Location, Url, is_url, located
from sonicscan.report.bounded import read_bounded
from sonicscan.report.metadata import ReportMetadata
from sonicscan.report.readers import part_files, read_report
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_results
from sonicscan.scanning.reuse import respelled_paths
from sonicscan.scanning.series import DATE, Series

_COLUMNS = ["path", "path_raw", "status", "verdict", "score", "size", "mtime_ns", "content_hash", "warnings"]


@dataclass(frozen=True)
class Audit:
    """The report of one scan, the report that it builds on, and the definition of new flags.

    Attributes:
        report: the report of this scan.
        since: the report whose rows are carried over; None for no report.
        series: all reports of this `--out`; None for a single report that is compared with `since`.
        standing: if true, new flags are those never delivered; else those that `since` does not have.
        notes: sentences about reports that `--since latest` skips, and about an unfinished scan.
    """

    report: Location
    since: Location | None
    series: Series | None = None
    standing: bool = False
    notes: tuple[str, ...] = ()

    def journal(self) -> Path | None:
        """The journal of the series; None if the scan uses the journal of its report."""
        return self.series.journal if self.series is not None else None

    def starts_anew(self, key: str, journal: Path | None) -> bool:
        """Whether the series has an unfinished scan in `journal` that is not comparable with a scan of this key.

        If the model or the program of an audit changed, an unfinished scan is started again.
        """
        if self.series is None or not isinstance(self.report, Path):
            return False
        return not self.series.fits(self.report, key, journal)

    def delivered(self, roots: Roots, shard: tuple[int, int] | None) -> Delivered:
        """The flags that were delivered before, or those that `since` has. Read them before the scan, because its
        report may replace `since`.

        Args:
            roots: the folders that the scan was given.
            shard: the shard of the scan; None for a whole library.

        Raises:
            ReportError: `since` or the record cannot be read, or `since` may lack flags.
        """
        if self.standing and self.series is not None:
            return Delivered.read(self.series.record)
        if self.since is None:
            return Delivered()
        tables = _tables_of(self.since)
        first = next(tables)
        scanned = ReportMetadata(shards=() if shard is None else (shard,))
        ReportMetadata.of(first.schema, self.since).require_flags_of(scanned, self.since)
        return Delivered.by_report(_rows_of(itertools.chain([first], tables), roots), roots)

    def news(self, before: Delivered, roots: Roots, reviewed: Reviewed | None) -> News:
        """The flags of the finished report that `before` lacks.

        Raises:
            ReportError: the report cannot be read.
        """
        return news(_rows_of(_tables_of(self.report), roots), before, roots, reviewed)

    def deliver(self, found: News) -> None:
        """Print new flags, one on each line; then record them as delivered.

        Raises:
            ReportError: standard output or the record cannot be written.
        """
        try:
            for line in lines(found.flagged):
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError as error:
            raise ReportError(
                f"new flags could not be printed ({error.strerror or error}); the next audit prints them again."
            ) from error
        if self.standing and self.series is not None:
            found.delivered.write(self.series.record)


def is_audit(given: Arguments) -> bool:
    """Whether a scan belongs to a series, or has to report new flags."""
    return given.out is not None and (DATE in given.out or given.since == LATEST or NEW_FLAGGED in given.fail_on)


@contextlib.contextmanager
def audit_of(out: str, since: Location | None) -> Iterator[Audit]:
    """The audit of today; locks its series against a second audit at the same time.

    Raises:
        InputError: a series on a URL.
        ReportError: another audit is running, or the folder of the reports cannot be read.
    """
    if since != LATEST and DATE not in out:
        yield Audit(located(out), since)
        return
    if is_url(out):
        raise InputError(f"--out {out}: {DATE} and --since latest need reports on this machine; name a local --out.")
    series = Series.of(out)
    if since == LATEST and not series.in_parts and series.suffix != ".parquet":
        raise InputError(f"--out {out}: only .parquet reports can be built on by --since latest.")
    with series.locked():
        report = series.report(dt.date.today())
        earlier = series.take_over(report)
        notes = () if earlier is None else (f"{earlier} was not finished; its scan is resumed as {report}.",)
        if since != LATEST:
            yield Audit(report, since, series, False, notes)
            return
        latest, passed_over = series.latest()
        yield Audit(report, latest, series, True, (*notes, *passed_over))


def _tables_of(report: Location) -> Iterator[pa.Table]:
    """The rows of a report, one table for each of its files: without their window columns if it is on this machine."""
    if isinstance(report, Url):
        yield read_report(report)
    else:
        yield from (read_bounded(file, _COLUMNS) for file in part_files(report))


def _rows_of(tables: Iterable[pa.Table], roots: Roots) -> Iterator[FileResult]:
    """All rows; folders are spelled as in `roots`."""
    for table in tables:
        yield from to_results(respelled_paths(table, roots))
