"""The protocol for targets of rows: a report file or a report in parts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from sonicscan.library.discovery import Listing
from sonicscan.library.roots import NO_ROOTS, Roots
from sonicscan.library.tracks import Track
from sonicscan.library.urls import Location, Url, is_url
from sonicscan.report.compared import differences
from sonicscan.report.metadata import LeftOut, ReportMetadata
from sonicscan.report.row import FileResult
from sonicscan.scanning.reuse import judged_again, needed_columns
from sonicscan.scanning.scan import Scan, now


class Earlier(Protocol):
    """The rows of an earlier scan, searchable by track.

    Attributes:
        lacking: columns that this scan needs and none of the rows has.
    """

    lacking: tuple[str, ...]

    def take(self, track: Track) -> bool:
        """Returns whether the track's row can be reused, and marks it as taken."""

    def __len__(self) -> int:
        """How many rows have been taken."""


class ReportSink(Protocol):
    """A report that grows while a scan runs, and keeps its rows if the scan is interrupted.

    Attributes:
        out: the report.
        kept_in: where an interrupted scan's rows are.
        resumed: rows that an interrupted scan left.
        differences: once the report is complete, how its tracks differ from those that the model was calibrated on.
    """

    out: Location
    kept_in: Path
    resumed: int
    differences: tuple[str, ...]

    @property
    def known(self) -> Earlier:
        """The rows of the interrupted scan, to be looked up."""
        ...

    def append(self, results: Sequence[FileResult]) -> None:
        """Keep rows; they survive the end of this process."""

    def carried(self) -> Iterator[pa.Table]:
        """The rows of the interrupted scan that were taken; complete once the scan is."""

    def finish(self, further: Iterable[pa.Table]) -> None:
        """Completes the report, including the rows of `further`, and removes the rows that the interrupted scan
        left."""

    def close(self) -> None:
        """Closes the journal and keeps its rows, so that the same command resumes the scan."""


class Origin:
    """The facts about a scan that its sink needs.

    Args:
        scan: the scan.
        tracks: the tracks that it scores.
        roots: the folders that it was given.
        command: the command line, for the metadata.
        decisions: the column `decision` of rows; None if people have decided nothing.
    """

    def __init__(
        self,
        scan: Scan,
        tracks: Listing,
        roots: Roots = NO_ROOTS,
        command: Mapping[str, Any] | None = None,
        decisions: Callable[[pa.Table], list[str | None]] | None = None,
    ) -> None:
        self._scan = scan
        self._tracks = tracks
        self._roots = roots
        self._command = {name: _without_secrets(value) for name, value in (command or {}).items()}
        self._decisions = decisions
        self._started = now()

    @property
    def key(self) -> str:
        """Digest of all that must be equal for two rows to be comparable."""
        return self._scan.key

    @property
    def needed(self) -> tuple[str, ...]:
        """Rows with a null in one of these columns do not count."""
        return needed_columns(self._scan.options)

    def metadata(self, found: tuple[str, ...] = ()) -> ReportMetadata:
        """The metadata of a report that is written now; `found` are its differences."""
        matches = self._tracks.left_out
        return dataclasses.replace(
            self._scan.metadata(self._started, self._tracks.selection.shard),
            roots=self._roots.kept,
            command=self._command,
            differences=found,
            left_out=tuple(
                LeftOut(pattern=r.text, origin=r.origin, files=matches.files[r], folders=matches.folders[r])
                for r in matches.rules
            ),
        )

    def differences(self, rows: pa.Table) -> tuple[str, ...]:
        """How rows differ from the tracks that the model was calibrated on, in sentences."""
        return differences(rows, self._scan.model.spec)

    def judged(self, rows: pa.Table) -> pa.Table:
        """Rows with the verdicts that the scan's thresholds give."""
        return judged_again(rows, self._scan.judged_by, self._scan.thresholds)

    def decided(self, rows: pa.Table) -> pa.Table:
        """Rows with people's decisions as they are now; those of an earlier scan are replaced."""
        values = [None] * rows.num_rows if self._decisions is None else self._decisions(rows)
        at = rows.schema.get_field_index("decision")
        return rows.set_column(at, rows.schema.field(at), pa.array(values, pa.string()))

    def same_verdicts(self, metadata: ReportMetadata) -> bool:
        """Whether rows of a report with this metadata got their verdicts from the scan's own thresholds."""
        return metadata.thresholds == self._scan.thresholds


def _without_secrets(value: Any) -> Any:
    """The value of an option, with the secrets of its URLs hidden."""
    if isinstance(value, list | tuple):
        return [_without_secrets(one) for one in value]
    if isinstance(value, str) and is_url(os.fsencode(value)):
        return str(Url(value))
    return value
