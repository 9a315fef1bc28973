"""Compares a report's tracks with those that its model was calibrated on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sonicscan.scoring.mismatch import Library, compare
from sonicscan.spec import ModelSpec

MOST_ROWS = 20_000  # rows of a report that are compared; more rows would not change the result
COLUMNS = ["codec", "sample_rate", "bandwidth_hz", "score", "artist", "content_hash", "path"]


def differences(table: pa.Table, spec: ModelSpec | None) -> tuple[str, ...]:
    """Describes the differences in sentences; empty if there are none, or too little data to compare. One track of each
    artist counts, because the tracks of one artist are similar and not independent.

    Args:
        table: rows of a report; of the columns `COLUMNS` at least.
        spec: the model's contract.
    """
    if spec is None or spec.untrained or not spec.calibration.n:
        return ()
    rows = table.select(COLUMNS).filter(pc.is_valid(table.column("score")))
    rows = rows.take(pa.array(_one_of_each(rows), pa.int64()))
    library = Library(
        rows.column("codec").to_pylist(),
        rows.column("sample_rate").to_pylist(),
        np.asarray(rows.column("bandwidth_hz").cast(pa.float64()).fill_null(np.nan)),
        np.asarray(rows.column("score")),
    )
    return tuple(found.sentence for found in compare(spec.calibration, library) if found.differs)


def _one_of_each(rows: pa.Table) -> list[int]:
    """The first track of each artist by path, and every track without an artist that is not a copy of another."""
    seen: set[object] = set()
    chosen = []
    order = pc.sort_indices(rows, sort_keys=[("path", "ascending")]).to_pylist()
    names = [rows.column(name).to_pylist() for name in ("artist", "content_hash", "path")]
    for i in order:
        artist, content, path = (column[i] for column in names)
        name = ("artist", artist) if artist else ("content", content) if content else ("path", path, i)
        if name not in seen:
            seen.add(name)
            chosen.append(i)
    return sorted(chosen)
