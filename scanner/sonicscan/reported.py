"""A scan that ends in a report file: journal, resume, `--since`, and the report by rename."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from sonicscan import carry, report
from sonicscan.discover import Listing
from sonicscan.errors import ReportError
from sonicscan.journal import Journal
from sonicscan.results import FileResult, Track
from sonicscan.scanning import Scan, now

_JOURNAL_EVERY_S = 0.05


class ReportedScan:
    """A scan that ends in a report file, survives interruption, and can build on an earlier report.

    Args:
        scan: what to run.
        tracks: what to run it on.
        out: the report; its journal lies beside it until it is written.
        since: an earlier report whose unchanged rows are carried over.
        fresh: throw away what an interrupted scan left in the journal.

    Raises:
        ReportError: the journal is another scan's, or `since` cannot be read.
    """

    def __init__(self, scan: Scan, tracks: Listing, out: Path, since: Path | None = None, fresh: bool = False) -> None:
        self._scan = scan
        self._tracks = tracks
        self._out = out
        self._started = now()
        self._earlier: list[carry.Known] = []
        earlier, judged = _earlier(scan, since)
        self.journal = Journal(out.with_name(out.name + ".journal"), scan.key, fresh)
        self.resumed = len(self.journal)
        for table, as_it_is in ((self.journal.rows(), False), (earlier, judged)):
            if table is not None and table.num_rows:
                rows = table if as_it_is else carry.judged_again(table, scan.model.spec, scan.thresholds)
                self._earlier.append(carry.Known(rows, scan.options.hash))

    def run(self, each: Callable[[FileResult], None]) -> None:
        """Score what is not known yet; `each` sees every new row once it is in the journal."""
        waiting: list[FileResult] = []
        written = time.monotonic()
        with contextlib.closing(self._scan.score(self._todo())) as results:
            for result in results:
                waiting.append(result)
                # Slow scans write each row at once; fast ones a few at a time.
                if time.monotonic() - written > _JOURNAL_EVERY_S:
                    self._write(waiting, each)
                    written = time.monotonic()
            self._write(waiting, each)

    def _write(self, waiting: list[FileResult], each: Callable[[FileResult], None]) -> None:
        self.journal.append(waiting)
        for result in waiting:
            each(result)
        waiting.clear()

    def _todo(self) -> Iterator[Track]:
        return (track for track in self._tracks if not any(known.take(track) for known in self._earlier))

    @property
    def n_carried(self) -> int:
        """How many rows have been taken over so far."""
        return sum(len(known) for known in self._earlier)

    def carried(self) -> pa.Table:
        """Rows taken over from the journal and the earlier report; complete once `run` is."""
        return pa.concat_tables([report.SCHEMA.empty_table(), *(known.taken() for known in self._earlier)])

    def finish(self) -> pa.Table:
        """Write the report, then let go of the journal; returns the report's rows."""
        fresh = self.journal.rows().slice(self.resumed)
        table = report.sort(pa.concat_tables([self.carried(), fresh]))
        table = report.with_metadata(table, self._scan.metadata(self._started))
        report.write(table, self._out)
        self.journal.remove()
        return table


def _earlier(scan: Scan, since: Path | None) -> tuple[pa.Table | None, bool]:
    """The rows of `--since` that are comparable, and whether their verdicts are by the scan's own thresholds.

    The scan's notes say so where none are comparable.
    """
    if since is None:
        return None, False
    if since.suffix != ".parquet":
        raise ReportError(f"--since {since}: only Parquet reports can be built on.")
    table = report.read(since)
    metadata = report.metadata_of(table.schema)
    if metadata.get("key") != scan.key:
        scan.notes.append(f"{since} was made with another model, other windows or another version: all is scored anew.")
        return None, False
    thresholds = None if scan.thresholds is None else dataclasses.asdict(scan.thresholds)
    judged = json.loads(metadata.get("thresholds", "0")) == thresholds
    return table.replace_schema_metadata(None), judged
