"""A scan that ends in a report file: journal, resume, `--since`, and the report by rename."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import platformdirs
import pyarrow as pa

from sonicscan.errors import ReportError
from sonicscan.library.discovery import Listing
from sonicscan.library.remote import Location
from sonicscan.library.tracks import Track
from sonicscan.report.metadata import ReportMetadata, with_metadata
from sonicscan.report.readers import read_report
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA, sort_rows
from sonicscan.report.writers import write_report
from sonicscan.scanning import reuse as carry
from sonicscan.scanning.journal import Journal
from sonicscan.scanning.scan import Scan, now

_JOURNAL_EVERY_S = 0.05


class Earlier(Protocol):
    """Rows of an earlier scan, in which tracks can be looked up."""

    def take(self, track: Track) -> bool:
        """Whether the track's row can be carried over; it then is."""

    def __len__(self) -> int:
        """How many rows have been taken."""


class ReportedScan:
    """A scan that ends in a report file, survives interruption, and can build on an earlier report.

    Args:
        scan: what to run.
        tracks: what to run it on.
        out: the report.
        since: an earlier report whose unchanged rows are carried over.
        fresh: throw away what an interrupted scan left in the journal.
        journal: what is done so far, until the report is written; None for `journal_of(out)`.

    Raises:
        ReportError: the journal is another scan's, or `since` cannot be read.
    """

    def __init__(
        self,
        scan: Scan,
        tracks: Listing,
        out: Location,
        since: Location | None = None,
        fresh: bool = False,
        journal: Path | None = None,
    ) -> None:
        self._scan = scan
        self._tracks = tracks
        self.out = out
        self._started = now()
        earlier = _earlier(scan, since)
        self.journal = Journal(journal or self._journal_path, scan.key, fresh)
        self.resumed = 0
        self._tables: list[carry.Known] = []  # of what is known, what is held as a table
        try:
            self._known: list[Earlier] = self._resumable(fresh)
            if earlier is not None and earlier.num_rows:
                self._known.append(self._hold(earlier))
        except BaseException:
            self.journal.close()
            raise

    @property
    def kept_in(self) -> Path:
        """Where an interrupted scan's rows are."""
        return self.journal.path

    @property
    def _journal_path(self) -> Path:
        return journal_of(self.out)

    def _resumable(self, fresh: bool) -> list[Earlier]:
        """What an interrupted scan left; sets `resumed`."""
        self.resumed = len(self.journal)
        return [self._hold(self._judged(self.journal.rows()))] if self.resumed else []

    def _judged(self, rows: pa.Table) -> pa.Table:
        return carry.judged_again(rows, self._scan.model.spec, self._scan.thresholds)

    def _hold(self, rows: pa.Table) -> carry.Known:
        self._tables.append(carry.Known(rows, self._scan.options.hash))
        return self._tables[-1]

    def _metadata(self) -> ReportMetadata:
        return self._scan.metadata(self._started, self._tracks.selection.shard)

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
        self._append(waiting)
        for result in waiting:
            each(result)
        waiting.clear()

    def _append(self, results: list[FileResult]) -> None:
        self.journal.append(results)

    def _todo(self) -> Iterator[Track]:
        return (track for track in self._tracks if not any(known.take(track) for known in self._known))

    @property
    def n_carried(self) -> int:
        """How many rows have been taken over so far."""
        return sum(len(known) for known in self._known)

    def carried(self) -> Iterator[pa.Table]:
        """Rows taken over from the journal and the earlier report; complete once `run` is."""
        return (known.taken() for known in self._tables)

    def finish(self) -> None:
        """Write the report, then let go of the journal."""
        fresh = self.journal.rows().slice(self.resumed)
        table = sort_rows(pa.concat_tables([SCHEMA.empty_table(), *self.carried(), fresh]))
        write_report(with_metadata(table, self._metadata()), self.out)
        self.journal.remove()


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


def _earlier(scan: Scan, since: Location | None) -> pa.Table | None:
    """The rows of `--since` that are comparable, with the scan's verdicts; its notes say so where none are."""
    if since is None:
        return None
    if since.suffix != ".parquet" and not (isinstance(since, Path) and since.is_dir()):
        raise ReportError(f"--since {since}: only Parquet reports can be built on.")
    table = read_report(since)
    metadata = ReportMetadata.of(table.schema, since)
    if metadata.key != scan.key:
        scan.notes.append(f"{since} was made {_difference(scan, metadata)}: every file is scored again.")
        return None
    table = table.replace_schema_metadata(None)
    return table if same_verdicts(scan, metadata) else carry.judged_again(table, scan.model.spec, scan.thresholds)


def _difference(scan: Scan, metadata: ReportMetadata) -> str:
    """Why the rows of a report with another key are not comparable."""
    if metadata.model_digest != scan.model.digest:
        return "with another model"
    if metadata.windows == str(scan.options.windows) and not scan.options.windows.adaptive:
        return "by another version of sonicscan, whose rows lack columns"
    return "with other windows or thresholds"


def same_verdicts(scan: Scan, metadata: ReportMetadata) -> bool:
    """Whether rows of a report with this metadata got their verdicts from the scan's own thresholds."""
    return metadata.thresholds == scan.thresholds
