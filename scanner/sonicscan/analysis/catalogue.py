"""A report file as rows, with the model and the thresholds that it was made with."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sonicscan.errors import ModelError, ReportError
from sonicscan.report.row import FileResult
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import ModelSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from sonicscan.library.remote import Location


@dataclass(frozen=True)
class Catalogue:
    """A report that was read.

    Attributes:
        name: the report's file name, for people.
        table: the report as an Arrow table, metadata included.
        rows: its rows, in the table's order.
        metadata: its `sonicscan.*` metadata, keys without the prefix.
        spec: the model's contract; None where the report does not hold one.
        thresholds: what verdicts were given by; None where there were none.
    """

    name: str
    table: pa.Table
    rows: tuple[FileResult, ...]
    metadata: dict[str, str]
    spec: ModelSpec | None
    thresholds: Thresholds | None

    @property
    def model(self) -> str:
        """File name of the model, and the start of its digest."""
        digest = self.metadata.get("model_digest", "")
        return f"{self.metadata.get('model', 'unknown model')} ({digest[:12] or 'no digest'})"

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """What the scan was asked for; empty where the report does not say."""
        options = _json_of(self.metadata, "options", self.name)
        return options if isinstance(options, dict) else {}


def load(path: Location) -> Catalogue:
    """Read a Parquet report.

    Raises:
        ReportError: not a report, or damaged.
        ModelError: it holds a model contract of a version that this program does not know.
    """
    from sonicscan.report.metadata import metadata_of
    from sonicscan.report.readers import read_report
    from sonicscan.report.schema import to_results

    if path.suffix in (".csv", ".jsonl"):
        raise ReportError(f"{path} does not hold its model and thresholds: only a .parquet report does; scan to that.")
    table = read_report(path)
    metadata = metadata_of(table.schema)
    text = metadata.get("model_spec")
    try:
        spec = ModelSpec.from_json(text) if text else None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return Catalogue(path.name, table, tuple(to_results(table)), metadata, spec, _thresholds(metadata, path.name))


def _thresholds(metadata: dict[str, str], name: str) -> Thresholds | None:
    found = _json_of(metadata, "thresholds", name)
    if found is None:
        return None
    try:
        flagged, *others = [found["flagged"], found.get("review"), found.get("max_fpr")]
        review, max_fpr = (None if value is None else float(value) for value in others)
        if not 0.0 <= float(flagged) <= 1.0:
            raise ValueError("a threshold is a score")
        return Thresholds(float(flagged), review, max_fpr)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ReportError(f"the thresholds in {name} make no sense: {found!r:.60}.") from error


def _json_of(metadata: dict[str, str], key: str, name: str) -> Any:
    try:
        return json.loads(metadata.get(key, "null"))
    except (ValueError, RecursionError) as error:
        raise ReportError(f"the metadata `{key}` of {name} is not JSON ({error}).") from error


def by_score(rows: Iterable[FileResult]) -> list[FileResult]:
    """Rows with the highest score first, those without one last, equal ones by path."""
    return sorted(rows, key=lambda row: (row.score is None, -(row.score or 0.0), row.path))


def identity(row: FileResult) -> bytes:
    """What tells a file from every other of its report: the path's bytes."""
    return row.path_raw if row.path_raw is not None else row.path.encode("utf-8", "surrogatepass")


def folder_of(row: FileResult) -> str:
    """The folder that holds the file; `.` for a bare name."""
    return str(PurePosixPath(row.path).parent)


def lines(rows: Iterable[FileResult]) -> Iterator[str]:
    """The plain table: score, verdict, status and path, tab-separated, one line a row.

    A missing value is `-`; the path is escaped so that it holds no tab, newline or terminal command.
    """
    from sonicscan.text import printable

    for row in rows:
        score = "-" if row.score is None else f"{row.score:.4f}"
        yield f"{score}\t{row.verdict or '-'}\t{row.status}\t{printable(row.path)}"
