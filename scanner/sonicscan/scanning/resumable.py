"""A scan that writes a report, can be resumed after interruption, and can reuse an earlier report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from sonicscan.errors import ReportError
from sonicscan.library.discovery import Listing
from sonicscan.library.roots import NO_ROOTS, Roots
from sonicscan.library.tracks import Track
from sonicscan.library.urls import Location
from sonicscan.report.metadata import ReportMetadata
from sonicscan.report.readers import read_report
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA
from sonicscan.scanning.reuse import Known, judged_again, needed_columns, respelled_paths
from sonicscan.scanning.scan import Scan
from sonicscan.scanning.sinks import ReportSink

_APPEND_EVERY_S = 0.05


class ResumableScan:
    """Scores the tracks without a reusable earlier row, and completes the report.

    Args:
        scan: the scan to run.
        tracks: the tracks to score.
        sink: receives the rows.
        earlier: rows of an earlier report, as `comparable_rows` gives them; unchanged files keep theirs.

    Attributes:
        sink: as above.
    """

    def __init__(self, scan: Scan, tracks: Listing, sink: ReportSink, earlier: pa.Table | None = None) -> None:
        self.sink = sink
        self._scan = scan
        self._tracks = tracks
        self._n_earlier = 0 if earlier is None else earlier.num_rows
        self._earlier = Known(SCHEMA.empty_table() if earlier is None else earlier, needed_columns(scan.options))

    def run(self, each: Callable[[FileResult], None], carried: Callable[[int], None] = lambda rows: None) -> None:
        """Scores the remaining tracks.

        Args:
            each: called with every new row after the sink has stored it.
            carried: called with the number of rows taken over so far, after each of them. It may be called in
                another thread than `each`.
        """
        waiting: list[FileResult] = []
        written = time.monotonic()
        with contextlib.closing(self._scan.score(self._unknown(carried))) as results:
            for result in results:
                waiting.append(result)
                # Slow scans write each row at once; fast ones a few at a time.
                if time.monotonic() - written > _APPEND_EVERY_S:
                    self._append(waiting, each)
                    written = time.monotonic()
            self._append(waiting, each)

    def _append(self, waiting: list[FileResult], each: Callable[[FileResult], None]) -> None:
        self.sink.append(waiting)
        for result in waiting:
            each(result)
        waiting.clear()

    def _unknown(self, carried: Callable[[int], None]) -> Iterator[Track]:
        for track in self._tracks:
            if self.sink.known.take(track) or self._earlier.take(track):
                carried(self.n_carried)
            else:
                yield track

    @property
    def n_carried(self) -> int:
        """How many rows have been taken over so far."""
        return len(self.sink.known) + len(self._earlier)

    def nothing_carried(self) -> str | None:
        """Returns a warning if the finished scan reused no row of the earlier report; None if it reused some."""
        if not self._n_earlier or self.n_carried:
            return None
        if self._earlier.lacking:
            return f"no row of the earlier report was carried over: {_lack(self._earlier.lacking)}."
        return (
            f"no row of the earlier report was carried over: all of its {self._n_earlier} tracks have other paths "
            "or have changed; name the folder that was scanned then."
        )

    def nothing_resumed(self) -> str | None:
        """Returns a warning if the finished scan used no row of the interrupted one; None if it used some."""
        if not self.sink.resumed or len(self.sink.known):
            return None
        if self.sink.known.lacking:
            return (
                f"none of the {self.sink.resumed} rows of the interrupted scan was used: "
                f"{_lack(self.sink.known.lacking)}. The rows are discarded."
            )
        return (
            f"none of the {self.sink.resumed} rows of the interrupted scan was used: their files are not in this scan, "
            "or have changed. The rows are discarded; use one --out for each library."
        )

    def carried(self) -> Iterator[pa.Table]:
        """Rows taken over from the interrupted scan and the earlier report; complete once `run` is."""
        yield from self.sink.carried()
        yield self._earlier.taken()

    def finish(self) -> None:
        """Complete the report."""
        self.sink.finish([self._earlier.taken()])


def comparable_rows(scan: Scan, since: Location | None, roots: Roots = NO_ROOTS) -> pa.Table | None:
    """The rows of an earlier report with the paths and verdicts of the scan; None and a note if they are not
    comparable.

    Raises:
        ReportError: it cannot be read, or it is not a Parquet report.
    """
    if since is None:
        return None
    if since.suffix != ".parquet" and not (isinstance(since, Path) and since.is_dir()):
        raise ReportError(f"--since {since}: only Parquet reports can be built on.")
    table = read_report(since)
    metadata = ReportMetadata.of(table.schema, since)
    if metadata.key != scan.key:
        scan.notes.append(f"{since} was made {_difference(scan, metadata)}: every file is scored again.")
        return None
    rows = respelled_paths(table, roots).replace_schema_metadata(None)
    same = metadata.thresholds == scan.thresholds
    return rows if same else judged_again(rows, scan.judged_by, scan.thresholds)


def _lack(columns: Sequence[str]) -> str:
    return f"they have no {' and no '.join(columns)}, which this scan asks for"


def _difference(scan: Scan, metadata: ReportMetadata) -> str:
    """Why the rows of a report with another key are not comparable."""
    if metadata.model_digest != scan.model.digest:
        return "with another model"
    if metadata.options.get("c2pa_trust") != scan.trust_digest:
        return "with another trust list"
    if metadata.windows == str(scan.options.windows) and not scan.options.windows.adaptive:
        return "by another version of sonicscan, whose rows lack columns"
    return "with other windows or thresholds"
