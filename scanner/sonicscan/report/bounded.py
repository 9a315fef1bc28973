"""Reads untrusted Parquet files: a few kilobytes can expand to terabytes of repeated or missing values. Text is read as
dictionaries, which store a repeated value once. So each batch is measured before it is expanded, and a file that
expands too much is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sonicscan.errors import ReportError

BATCH_ROWS, SMALL_BATCH_ROWS = 16_384, 128
MOST_BYTES, MOST_TIMES = 256 << 20, 200  # a report of 100,000 rows grows about 25 times


def read_bounded(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of one Parquet file; of all columns, or of those named.

    Raises:
        ReportError: it expands to more than `MOST_TIMES` its size and `MOST_BYTES`.
        OSError, ArrowException: it cannot be read, or holds text that is not UTF-8.
    """
    most = MOST_BYTES + MOST_TIMES * path.stat().st_size
    with pq.ParquetFile(path) as file:  # `read_table` does the same, but imports other modules for half a second
        plain: pa.Schema = file.schema_arrow
        groups = file.num_row_groups
    wanted = pa.schema([plain.field(name) for name in columns or plain.names], plain.metadata)
    batches: list[pa.RecordBatch] = []
    total = 0
    for group in range(groups):
        for batch in _batches(path, group, wanted.names):
            batch.validate(full=True)
            total += sum(_spelled_out(column) for column in batch.columns)
            if total > most:
                raise ReportError(f"{path} expands to more than {most >> 20} MB, which no report does; do not use it.")
            batches.append(batch.select(wanted.names).cast(wanted))
    return pa.Table.from_batches(batches, wanted)


def _batches(path: Path, group: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a row group, text as dictionaries.

    Arrow cannot read nested text as dictionaries if the writer gave up its dictionary. Then only flat text is read as
    dictionaries, in small batches.
    """
    done = 0
    for flat, rows in ((False, BATCH_ROWS), (True, SMALL_BATCH_ROWS)):
        left = done
        try:
            with pq.ParquetFile(path, read_dictionary=_text(path, flat)) as file:
                for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                    new = batch.slice(left) if left < batch.num_rows else None
                    left -= min(left, batch.num_rows)
                    if new is not None:
                        done += new.num_rows
                        yield new
            return
        except pa.ArrowNotImplementedError:
            if flat:
                raise


def _text(path: Path, flat: bool) -> list[str]:
    """Returns the paths of all text columns; with `flat`, only of those that are not nested."""
    with pq.ParquetFile(path) as file:
        leaves = [file.schema.column(k) for k in range(len(file.schema))]
        return [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and not (flat and "." in leaf.path)]


def _spelled_out(array: Any) -> int:
    """Bytes of a column whose dictionaries are replaced by their values."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary)
        return int(array.indices.nbytes) + int(pc.sum(lengths.take(array.indices)).as_py() or 0)
    if pa.types.is_map(kind):
        return int(array.nbytes) + _spelled_out(array.keys) + _spelled_out(array.items)
    if pa.types.is_list(kind) or pa.types.is_struct(kind):
        inner = [array.flatten()] if pa.types.is_list(kind) else array.flatten()
        return int(array.nbytes) + sum(map(_spelled_out, inner))
    return int(array.nbytes)
