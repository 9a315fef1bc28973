"""A report in one file: rows are kept in a journal beside it, and the report appears by rename."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import platformdirs
import pyarrow as pa

from sonicscan.errors import InputError, ReportError
from sonicscan.files import same_place
from sonicscan.library.urls import Location
from sonicscan.report.compared import COLUMNS, MOST_ROWS
from sonicscan.report.metadata import with_metadata
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA
from sonicscan.report.sorting import SortedRows
from sonicscan.report.writers import write_blocks
from sonicscan.scanning.journal import Journal
from sonicscan.scanning.reuse import Known
from sonicscan.scanning.sinks import Origin


class FileSink:
    """A `ReportSink` that writes one report file.

    Args:
        origin: the scan.
        out: the report.
        fresh: delete the rows that an interrupted scan left.
        journal: the file that keeps the rows until the report is written; None for `journal_of(out)`.

    Raises:
        InputError: the journal is the report itself.
        ReportError: the journal is another scan's, or cannot be written.
    """

    def __init__(self, origin: Origin, out: Location, fresh: bool = False, journal: Path | None = None) -> None:
        if journal is not None and isinstance(out, Path) and same_place(journal, out):
            raise InputError(f"--journal {journal} is the report of --out {out}; name another file for the journal.")
        self.out = out
        self._origin = origin
        self._journal = Journal(journal or journal_of(out), origin.key, fresh)
        self.kept_in = self._journal.path
        self.resumed = len(self._journal)
        self.differences: tuple[str, ...] = ()
        try:
            rows = origin.judged(self._journal.rows()) if self.resumed else SCHEMA.empty_table()
            self.known = Known(rows, origin.needed)
        except BaseException:
            self.close()
            raise

    def append(self, results: Sequence[FileResult]) -> None:
        self._journal.append(results)

    def carried(self) -> Iterator[pa.Table]:
        yield self.known.taken()

    def finish(self, further: Iterable[pa.Table]) -> None:
        tables = itertools.chain(self.carried(), further, self._journal.tables(self.resumed))
        try:
            with SortedRows(tables, self._journal.path.parent) as rows:
                self.differences = self._origin.differences(rows.spread(MOST_ROWS, COLUMNS))
                schema = with_metadata(SCHEMA.empty_table(), self._origin.metadata(self.differences)).schema
                write_blocks(schema, map(self._origin.decided, rows.blocks()), self.out)
        except OSError as error:
            where = self._journal.path.parent
            raise ReportError(
                f"the rows of {self.out} cannot be sorted in {where}: {error.strerror or error}."
            ) from error
        self._journal.remove()

    def close(self) -> None:
        self._journal.close()


def journal_of(out: Location) -> Path:
    """Where a scan's journal is: beside a local report; for a URL, in this machine's state folder."""
    if isinstance(out, Path):
        return out.with_name(out.name + ".journal")
    folder = platformdirs.user_state_path("sonicscan") / "journals"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(f"no journal can be kept in {folder}: {error.strerror}; name one with --journal.") from error
    return folder / f"{hashlib.sha256(str(out).encode()).hexdigest()[:16]}-{out.name[-100:]}.journal"
