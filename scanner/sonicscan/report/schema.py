"""The report's columns; docs/columns.md says what each one means, and a test compares that page with `SCHEMA`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sonicscan.errors import ReportError
from sonicscan.provenance.record import Provenance
from sonicscan.report.row import FileResult

SCHEMA_VERSION = 3

SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        ("path_raw", pa.binary()),
        pa.field("status", pa.string(), nullable=False),
        ("error", pa.string()),
        ("score", pa.float64()),
        ("verdict", pa.string()),
        ("decision", pa.string()),
        ("p_value", pa.float64()),
        ("log10_lr", pa.float64()),
        ("class_scores", pa.map_(pa.string(), pa.float32())),
        ("attribution", pa.string()),
        ("windows", pa.int32()),
        ("silent_windows", pa.int32()),
        ("window_starts_s", pa.list_(pa.float32())),
        ("window_margins", pa.list_(pa.float32())),
        ("flagged_s", pa.float64()),
        ("flagged_ranges", pa.list_(pa.struct([("start_s", pa.float32()), ("end_s", pa.float32())]))),
        ("provenance", pa.struct([(field.name, pa.string()) for field in dataclasses.fields(Provenance)])),
        ("duration_s", pa.float64()),
        ("sample_rate", pa.int32()),
        ("channels", pa.int16()),
        ("codec", pa.string()),
        ("bandwidth_hz", pa.float32()),
        ("loudness_db", pa.float32()),
        ("title", pa.string()),
        ("artist", pa.string()),
        ("album", pa.string()),
        ("isrc", pa.string()),
        ("content_hash", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("warnings", pa.list_(pa.string())),
        ("elapsed_ms", pa.float32()),
    ]
)


def to_batch(results: Iterable[FileResult]) -> pa.RecordBatch:
    """Results as one Arrow record batch of `SCHEMA`."""
    rows = list(results)
    columns = []
    for field in SCHEMA:
        values: list[Any] = [getattr(row, field.name) for row in rows]
        if field.name == "class_scores":
            values = [None if v is None else list(v.items()) for v in values]
        elif field.name == "provenance":
            values = [None if v is None else dataclasses.asdict(v) for v in values]
        columns.append(pa.array(values, type=field.type))
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def to_results(table: pa.Table | pa.RecordBatch) -> Iterator[FileResult]:
    """The rows of a report as `FileResult`s; columns that were not read have their defaults.

    Raises:
        ReportError: a row has two scores of one class.
    """
    names = [field.name for field in dataclasses.fields(FileResult) if field.name in table.schema.names]
    for batch in table.to_batches() if isinstance(table, pa.Table) else [table]:
        try:
            rows = batch.to_pylist(maps_as_pydicts="strict")
        except KeyError as error:
            raise ReportError("the report is damaged: a row has two scores of one class.") from error
        for row in rows:
            fields = {name: row[name] for name in names}
            if fields.get("provenance") is not None:
                fields["provenance"] = Provenance(**fields["provenance"])
            yield FileResult(**fields)


def sort_rows(table: pa.Table) -> pa.Table:
    """Rows by path; by the raw bytes where two paths read the same."""
    return table.take(path_order(table))


def path_order(table: pa.Table) -> pa.Array:
    """The numbers of the rows in the order of `sort_rows`; of the columns, `path` and `path_raw` are used."""
    return pc.sort_indices(table, sort_keys=[("path", "ascending"), ("path_raw", "ascending")])
