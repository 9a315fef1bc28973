"""Sorts the rows of a report by path, with few of them in memory.

Rows become sorted runs of `RUN_ROWS`. Whole runs are compressed into temporary files that have no name, so nothing is
left of them if the process dies. A last, shorter run stays in memory.

Only the paths of all rows stay in memory. They give the order in which the runs are merged, block by block (external
merge sort; Knuth, The Art of Computer Programming 3, 5.4).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sonicscan.report.schema import SCHEMA, path_order, sort_rows

RUN_ROWS = 30_000
_READ_ROWS = 1_000  # rows of each run that are in memory while runs are merged
_KEYS = ["path", "path_raw"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Run:
    """Sorted rows: in memory, or in a temporary file."""

    rows: pa.Table | None
    file: IO[bytes] | None

    def batches(self, columns: Sequence[str] = SCHEMA.names) -> Iterator[pa.RecordBatch]:
        """The rows in order, with `columns` only, at most `_READ_ROWS` at a time."""
        if self.rows is not None:
            yield from self.rows.select(columns).to_batches(max_chunksize=_READ_ROWS)
        if self.file is not None:
            self.file.seek(0)
            fields = sorted(SCHEMA.get_field_index(name) for name in columns)
            options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
            with pa.ipc.open_stream(pa.PythonFile(self.file, mode="r"), options=options) as reader:
                for batch in reader:
                    yield batch.select(columns)


class SortedRows:
    """The rows of a report, by path; a context manager.

    Args:
        tables: the rows in any order.
        folder: where temporary files are made.
        run_rows: rows of a run, and of a block.

    Raises:
        OSError: they cannot be written.
    """

    def __init__(self, tables: Iterable[pa.Table], folder: Path, run_rows: int = RUN_ROWS) -> None:
        self._files = contextlib.ExitStack()
        self._folder = folder
        self._run_rows = run_rows
        self._runs: list[_Run] = []
        keys = []
        try:
            for run in _runs_of(tables, run_rows):
                keys.append(self._add(run))
        except BaseException:
            self._files.close()
            raise
        order: Int64 = path_order(pa.concat_tables([SCHEMA.empty_table().select(_KEYS), *keys])).to_numpy()
        starts = np.cumsum([0, *(key.num_rows for key in keys)])
        self._run_of = np.searchsorted(starts, order, side="right").astype(np.int32) - 1
        self.num_rows = len(order)

    def __enter__(self) -> SortedRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def blocks(self) -> Iterator[pa.Table]:
        """All rows by path, `run_rows` at a time."""
        sources = [_Source(run.batches()) for run in self._runs]
        for start in range(0, self.num_rows, self._run_rows):
            runs = self._run_of[start : start + self._run_rows]
            counts = np.bincount(runs, minlength=len(sources))
            pieces = [batch for source, n in zip(sources, counts.tolist(), strict=True) for batch in source.take(n)]
            places = np.empty(len(runs), dtype=np.int64)
            places[np.argsort(runs, kind="stable")] = np.arange(len(runs))
            yield pa.Table.from_batches(pieces, SCHEMA).combine_chunks().take(_indices(places))

    def spread(self, most: int, columns: Sequence[str]) -> pa.Table:
        """At most `most` rows, evenly spread over the paths, with `columns` only; in no particular order."""
        chosen = np.zeros(self.num_rows, dtype=bool)
        chosen[np.linspace(0, self.num_rows, min(most, self.num_rows), endpoint=False).astype(np.int64)] = True
        found = [SCHEMA.empty_table().select(columns)]
        for number, run in enumerate(self._runs):
            wanted = chosen[self._run_of == number]
            start = 0
            for batch in run.batches(columns):
                some = wanted[start : start + batch.num_rows]
                start += batch.num_rows
                found.append(pa.Table.from_batches([batch]).take(_indices(np.flatnonzero(some))))
        return pa.concat_tables(found).combine_chunks()

    def _add(self, rows: pa.Table) -> pa.Table:
        """Adds a run and returns its keys; a run of full length goes to a file."""
        rows = sort_rows(rows)
        if rows.num_rows < self._run_rows:
            self._runs.append(_Run(rows, None))
        else:
            file = self._files.enter_context(_unnamed(self._folder))
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            with pa.ipc.new_stream(pa.PythonFile(file, mode="w"), SCHEMA, options=options) as writer:
                writer.write_table(rows, max_chunksize=_READ_ROWS)
            self._runs.append(_Run(None, file))
        return rows.select(_KEYS).combine_chunks()


def _indices(values: Int64) -> pa.Int64Array:
    """The same values without a copy; `pa.array` would import numpy.ma, which takes 30 ms."""
    return pa.Int64Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def _unnamed(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder, prefix=".sonicscan-")


class _Source:
    """The rows of a run, taken from its start on."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._left: pa.RecordBatch | None = None

    def take(self, n: int) -> Iterator[pa.RecordBatch]:
        """The next `n` rows."""
        while n:
            batch = self._left if self._left is not None else next(self._batches)
            self._left = batch.slice(n) if batch.num_rows > n else None
            yield batch.slice(0, n)
            n -= min(n, batch.num_rows)


def _runs_of(tables: Iterable[pa.Table], run_rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `run_rows`; the last one may have fewer."""
    waiting: list[pa.Table] = []
    missing = run_rows
    for table in tables:
        while table.num_rows >= missing:
            yield pa.concat_tables([*waiting, table.slice(0, missing)])
            table, waiting, missing = table.slice(missing), [], run_rows
        waiting.append(table)
        missing -= table.num_rows
    if missing < run_rows:
        yield pa.concat_tables(waiting)
