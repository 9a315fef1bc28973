"""Reuses the rows of unchanged files from an earlier scan with the same model and options."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sonicscan.errors import Status
from sonicscan.library.roots import Roots, respelled
from sonicscan.library.tracks import Track
from sonicscan.report.metadata import ReportMetadata
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_batch, to_results
from sonicscan.scoring import aggregate
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import ModelSpec

if TYPE_CHECKING:
    from sonicscan.scanning.scan import ScanOptions

# Statuses to try again: the cause may be gone though the file is unchanged.
_PASSING: frozenset[Status] = frozenset({"timeout", "crashed", "permission_denied", "vanished", "unreadable"})


def needed_columns(options: ScanOptions) -> tuple[str, ...]:
    """The columns that the rows of an earlier scan must have a value in, to be those of a scan with these options."""
    wanted = {"content_hash": options.hash, "provenance": options.provenance}
    return tuple(name for name, needed in wanted.items() if needed)


def identified(table: pa.Table, needed: Sequence[str]) -> Iterator[tuple[bytes, int, int, bool]]:
    """Path, size and time of change of each row, and whether the row can stand for a scan of the file."""
    columns = [table.column(name).to_pylist() for name in ("path", "path_raw", "size", "mtime_ns", "status")]
    whole = np.ones(table.num_rows, dtype=bool)
    for name in needed:
        whole &= table.column(name).is_valid().to_numpy()
    for path, raw, size, mtime_ns, status, complete in zip(*columns, whole.tolist(), strict=True):
        usable = status not in _PASSING and complete
        yield raw if raw is not None else path.encode(), size, mtime_ns, usable


class Known:
    """Looks up tracks among the rows of an earlier scan.

    Args:
        table: the rows, of `report.SCHEMA`; of several rows of one path the last counts.
        needed: rows with a null in one of these columns do not count.

    Attributes:
        lacking: the columns of `needed` that no row has a value in.
    """

    def __init__(self, table: pa.Table, needed: Sequence[str] = ()) -> None:
        self._table = table
        self._rows = {
            path: (size, mtime_ns, row)
            for row, (path, size, mtime_ns, usable) in enumerate(identified(table, needed))
            if usable
        }
        self.lacking = tuple(name for name in needed if table.column(name).null_count == table.num_rows)
        self._taken: list[int] = []

    def take(self, track: Track) -> bool:
        """Returns whether the track's row can be reused; it is then part of `taken`."""
        size, mtime_ns, row = self._rows.get(track.path, (-1, 0, 0))
        if size < 0 or not mtime_ns or (size, mtime_ns) != (track.size, track.mtime_ns):
            return False
        self._taken.append(row)
        return True

    def __len__(self) -> int:
        return len(self._taken)

    def taken(self) -> pa.Table:
        """The rows that were reused so far."""
        return self._table.take(pa.array(self._taken, type=pa.int64()))


def respelled_paths(table: pa.Table, now: Roots) -> pa.Table:
    """A report's rows with the paths of their folders spelled as this scan spells them.

    Args:
        table: columns of a report, `path` and `path_raw` among them, with the report's metadata.
        now: the folders of this scan.
    """
    prefixes = respelled(ReportMetadata.of(table.schema, "the earlier report").roots, now)
    if not prefixes or not table.num_rows:
        return table
    names = []
    for path, raw in zip(table.column("path").to_pylist(), table.column("path_raw").to_pylist(), strict=True):
        name = raw if raw is not None else path.encode()
        old = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        names.append(Track(name if old is None else prefixes[old] + name[len(old) :], -1, 0))
    for column, values in (
        ("path", [track.name for track in names]),
        ("path_raw", [track.path_raw for track in names]),
    ):
        at = table.schema.get_field_index(column)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    return table


def judged_again(table: pa.Table, spec: ModelSpec, thresholds: Thresholds | None) -> pa.Table:
    """Computes the verdict columns of rows again with `thresholds`; the margins stay unchanged."""
    if not table.num_rows:
        return table
    rows = [_judged(row, spec, thresholds) for row in to_results(table)]
    return pa.Table.from_batches([to_batch(rows)])


def _judged(row: FileResult, spec: ModelSpec, thresholds: Thresholds | None) -> FileResult:
    if row.score is None:
        return row
    columns: dict[str, Any] = aggregate.judgement(
        row.score, row.window_starts_s or [], row.window_margins or [], spec, thresholds, row.codec, row.duration_s
    )
    columns["attribution"] = aggregate.attribution_of(row.class_scores or {}, spec, columns["verdict"])
    return dataclasses.replace(row, **columns)
