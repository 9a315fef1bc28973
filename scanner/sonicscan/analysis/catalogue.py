"""Reads a report file: its rows, its model and its thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sonicscan.errors import ReportError
from sonicscan.machine import leave_out_pandas
from sonicscan.report.row import FileResult
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import ModelSpec
from sonicscan.text import harmless

if TYPE_CHECKING:
    import pyarrow as pa

    from sonicscan.library.urls import Location
    from sonicscan.report.metadata import ReportMetadata


_NAMED_SHARDS = 10


@dataclass(frozen=True)
class Catalogue:
    """A report that was read.

    Attributes:
        name: the report's file name, for people.
        table: the report as an Arrow table, metadata included.
        rows: its rows, in the table's order.
        metadata: the settings that its rows were made with.
        spec: the model's contract; None if the report holds none.
    """

    name: str
    table: pa.Table
    rows: tuple[FileResult, ...]
    metadata: ReportMetadata
    spec: ModelSpec | None

    @property
    def thresholds(self) -> Thresholds | None:
        """The thresholds of the verdicts; None if the report has no verdicts."""
        return self.metadata.thresholds

    @property
    def partial(self) -> tuple[str, ...]:
        """What the report lacks of its library, in sentences; empty if it has all tracks."""
        found = []
        if self.metadata.filtered is not None:
            told = (
                "Shares and error rates of such tracks would be wrong, and are left out; use the whole report."
                if self.metadata.selected
                else "All figures are about these tracks."
            )
            found.append(f"{self.name} has {self.metadata.chosen}. {told}")
        if self.metadata.missing_shards:
            shards = sorted(set(self.metadata.shards))
            names = ", ".join(f"{i}/{n}" for i, n in shards[:_NAMED_SHARDS])
            names += " and more" if len(shards) > _NAMED_SHARDS else ""
            found.append(
                f"{self.name} has only shard {names} of the library. All figures are about these tracks; "
                "join the reports of all shards with sonicscan-report merge."
            )
        return tuple(map(harmless, found))


def load(path: Location) -> Catalogue:
    """Read a Parquet report.

    Raises:
        ReportError: not a report, or damaged.
        ModelError: it holds a model contract of a version that this program does not know.
    """
    from sonicscan.report.metadata import ReportMetadata
    from sonicscan.report.readers import read_report
    from sonicscan.report.schema import to_results

    if path.suffix in (".csv", ".jsonl"):
        raise ReportError(f"{path} does not hold its model and thresholds; only a .parquet report does.")
    leave_out_pandas()
    table = read_report(path)
    metadata = ReportMetadata.of(table.schema, path.name)
    return Catalogue(path.name, table, tuple(to_results(table)), metadata, metadata.spec(path))


def by_score(rows: Iterable[FileResult]) -> list[FileResult]:
    """Rows by descending score, then by path; rows without a score last."""
    return sorted(rows, key=lambda row: (row.score is None, -(row.score or 0.0), row.path))


def identity(row: FileResult) -> bytes:
    """The identity of a file within its report: the bytes of its path."""
    return row.path_raw if row.path_raw is not None else row.path.encode("utf-8", "surrogatepass")


def folder_of(row: FileResult) -> str:
    """The folder that holds the file; `.` for a bare name."""
    return str(PurePosixPath(row.path).parent)


def lines(rows: Iterable[FileResult]) -> Iterator[str]:
    """The plain table: one line for each row, with score, verdict, status, path and declaration, tab-separated.

    A missing value is `-`; the path is escaped so that it holds no tab, newline or terminal command. A file that
    declares nothing and has no Content Credentials has no fifth field.
    """
    from sonicscan.provenance.words import described
    from sonicscan.text import printable

    for row in rows:
        score = "-" if row.score is None else f"{row.score:.4f}"
        declared = described(row.provenance)
        yield (
            f"{score}\t{printable(row.verdict or '-')}\t{printable(row.status)}\t{printable(row.path)}"
            + ("" if declared is None else f"\t{declared}")
        )
