"""Reads untrusted Parquet files: a few kilobytes can expand to terabytes, and such a file is refused.

Two sizes are known before the memory is taken. The headers of the pages say what each page expands to (`pages`). Text
is read as dictionaries, which store a repeated value once, so each batch is measured before its text is written out.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sonicscan.errors import ReportError
from sonicscan.library.urls import Location
from sonicscan.report.pages import DamagedPageError, expanded_bytes

BATCH_ROWS, SMALL_BATCH_ROWS = 16_384, 128
MOST_BYTES, MOST_TIMES = 256 << 20, 200  # a report of 100,000 rows grows about 25 times


def read_bounded(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of one Parquet file, with all columns or only `columns`.

    Raises:
        ReportError: it expands to more than `MOST_TIMES` its size and `MOST_BYTES`.
        OSError, ArrowException: it cannot be read, or holds text that is not UTF-8.
    """
    wanted = _wanted(path, columns)
    return pa.Table.from_batches(list(_checked(path, wanted, BATCH_ROWS)), wanted)


def bounded_batches(path: Path, rows: int = BATCH_ROWS) -> Generator[pa.RecordBatch, None, None]:
    """Yields the rows of one Parquet file, at most `rows` at a time, so that only these are in memory.

    Raises: as `read_bounded`.
    """
    yield from _checked(path, _wanted(path, None), rows)


def schema_of(path: Path) -> pa.Schema:
    """The schema of one Parquet file, with its metadata.

    Raises:
        ReportError: it cannot be read.
    """
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def unreadable(path: Location, error: Exception) -> ReportError:
    """The error for a report that the system or Arrow cannot read."""
    why = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, OSError) and error.errno:  # Arrow's own words repeat number and path
        why = os.strerror(error.errno)
    return ReportError(f"the report {path} cannot be read: {why}.")


def _wanted(path: Path, columns: list[str] | None) -> pa.Schema:
    with pq.ParquetFile(path) as file:  # `read_table` does the same, but imports other modules for half a second
        plain: pa.Schema = file.schema_arrow
    if len(set(plain.names)) < len(plain.names):
        raise ReportError(f"{path} is damaged: two of its columns have one name.")
    return pa.schema([plain.field(name) for name in columns or plain.names], plain.metadata)


def _checked(path: Path, wanted: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of the columns of `wanted`, each batch measured before it is expanded."""
    most = MOST_BYTES + MOST_TIMES * path.stat().st_size
    with pq.ParquetFile(path) as file:
        metadata = file.metadata
    try:
        if expanded_bytes(path, metadata, set(wanted.names), most) > most:
            raise _too_much(path, most)
    except DamagedPageError as error:
        raise ReportError(f"{path} is damaged ({error}); do not use it.") from error
    total = 0
    for group in range(metadata.num_row_groups):
        for batch in _batches(path, group, wanted.names, rows):
            batch.validate(full=True)
            total += sum(_spelled_out(column) for column in batch.columns)
            if total > most:
                raise _too_much(path, most)
            yield batch.select(wanted.names).cast(wanted)


def _too_much(path: Path, most: int) -> ReportError:
    return ReportError(f"{path} expands to more than {most >> 20} MB, which no report does; do not use it.")


def _batches(path: Path, group: int, columns: list[str], most_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a row group, text as dictionaries.

    Arrow cannot read nested text as dictionaries if the writer gave up its dictionary. Then only flat text is read as
    dictionaries, in small batches.
    """
    done = 0
    for flat, rows in ((False, most_rows), (True, min(most_rows, SMALL_BATCH_ROWS))):
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
    if isinstance(array, pa.ExtensionArray):
        return _spelled_out(array.storage)
    if kind.num_fields:  # lists of each kind have one array inside, structs have several
        inner = array.flatten()
        return int(array.nbytes) + sum(map(_spelled_out, inner if pa.types.is_struct(kind) else [inner]))
    return int(array.nbytes)
