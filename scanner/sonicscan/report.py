"""The report's schema, and its writers: Parquet, CSV and JSON Lines, whole or not at all.

docs/report.md says what each column means; a test holds it against `SCHEMA`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sonicscan import remote
from sonicscan.errors import InputError, ReportError
from sonicscan.files import replacing
from sonicscan.remote import Location, Url
from sonicscan.results import FileResult

SCHEMA_VERSION = 1
SUFFIXES = (".parquet", ".csv", ".jsonl")
PART_GLOB, SUCCESS = "part-*.parquet", "_SUCCESS"  # of a report that is a folder
_METADATA_PREFIX = "sonicscan."

SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        ("path_raw", pa.binary()),
        pa.field("status", pa.string(), nullable=False),
        ("error", pa.string()),
        ("score", pa.float64()),
        ("verdict", pa.string()),
        ("p_value", pa.float64()),
        ("class_scores", pa.map_(pa.string(), pa.float32())),
        ("attribution", pa.string()),
        ("windows", pa.int32()),
        ("silent_windows", pa.int32()),
        ("window_starts_s", pa.list_(pa.float32())),
        ("window_margins", pa.list_(pa.float32())),
        ("flagged_s", pa.float64()),
        ("flagged_ranges", pa.list_(pa.struct([("start_s", pa.float32()), ("end_s", pa.float32())]))),
        ("duration_s", pa.float64()),
        ("sample_rate", pa.int32()),
        ("channels", pa.int16()),
        ("codec", pa.string()),
        ("bandwidth_hz", pa.float32()),
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
        columns.append(pa.array(values, type=field.type))
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def to_results(table: pa.Table | pa.RecordBatch) -> Iterator[FileResult]:
    """The rows of a report as `FileResult`s."""
    names = [field.name for field in dataclasses.fields(FileResult)]
    for batch in table.to_batches() if isinstance(table, pa.Table) else [table]:
        for row in batch.to_pylist(maps_as_pydicts="strict"):
            yield FileResult(**{name: row[name] for name in names})


def with_metadata(table: pa.Table, metadata: Mapping[str, object]) -> pa.Table:
    """The table with `metadata` (JSON values) stored under `sonicscan.*` keys of its schema."""
    encoded = {_METADATA_PREFIX + k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    return table.replace_schema_metadata(encoded)


def metadata_of(schema: pa.Schema) -> dict[str, str]:
    """The `sonicscan.*` metadata of a report, keys without their prefix."""
    return {
        key.decode()[len(_METADATA_PREFIX) :]: value.decode()
        for key, value in (schema.metadata or {}).items()
        if key.startswith(_METADATA_PREFIX.encode())
    }


def check_target(path: Location) -> None:
    """Raise `InputError` or `RemoteError` unless `path` names a report that could be written."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"--out {path}: the name must end in {', '.join(SUFFIXES)}, or be - for standard output.")
    if isinstance(path, Url):
        remote.check_target(path)
        return
    if path.is_dir():
        raise InputError(f"--out {path}: that is a folder.")
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: there is no folder {path.parent}.")


def write(table: pa.Table, path: Location) -> None:
    """Write a report in the format that `path`'s suffix names; it appears whole, by rename or upload.

    Raises:
        ReportError, RemoteError: it could not be written; an earlier one is left as it was.
    """
    if isinstance(path, Url):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / f"report{path.suffix}"
            write(table, local)
            remote.upload(local, path)
        return
    writers = {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_jsonl}
    try:
        with replacing(path) as file:
            writers[path.suffix](table, file)
    except OSError as error:
        raise ReportError(f"the report {path} could not be written: {error.strerror or error}.") from error


def _write_parquet(table: pa.Table, file: IO[bytes]) -> None:
    pq.write_table(table, file, compression="zstd")


def _write_jsonl(table: pa.Table, file: IO[bytes]) -> None:
    for result in to_results(table):
        file.write(json_line(result).encode())


def json_line(result: FileResult) -> str:
    """One result as a line of JSON, with its newline; `path_raw` in hexadecimal."""
    row = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    row["path_raw"] = result.path_raw.hex() if result.path_raw is not None else None
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _write_csv(table: pa.Table, file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(SCHEMA.names)
    for result in to_results(table):
        writer.writerow([_cell(name, getattr(result, name)) for name in SCHEMA.names])
    text.detach()


def _cell(name: str, value: object) -> object:
    """A CSV cell: lists as JSON, and no text that a spreadsheet would take for a formula."""
    if name == "path_raw" and isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | dict):
        return json.dumps(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value


def read(path: Location) -> pa.Table:
    """A Parquet report, or all parts of one, with its metadata.

    Raises:
        ReportError: not there, damaged, unfinished, or not a report of this schema version.
        RemoteError: it cannot be fetched.
    """
    try:
        if isinstance(path, Url):
            table = _read_url(path)
        else:
            table = pa.concat_tables([read_file(file) for file in part_files(path)])
    except (OSError, pa.ArrowException) as error:
        raise ReportError(f"the report {path} cannot be read: {error}.") from error
    version = metadata_of(table.schema).get("schema_version")
    if version != str(SCHEMA_VERSION):
        raise ReportError(
            f"{path} is not a report of schema version {SCHEMA_VERSION} "
            f"({'no version in it' if version is None else f'its version is {version}'})."
        )
    table = table.select(SCHEMA.names).cast(SCHEMA.with_metadata(table.schema.metadata))
    return sort(table) if isinstance(path, Path) and path.is_dir() else table


def part_files(path: Path) -> tuple[Path, ...]:
    """The Parquet files of a report: itself, or the parts of a folder, in order.

    Raises:
        ReportError: a folder without parts, or whose scan has not finished.
    """
    if not path.is_dir():
        return (path,)
    parts = tuple(sorted(path.glob(PART_GLOB)))
    if not parts:
        raise ReportError(f"the folder {path} holds no parts of a report.")
    if not (path / SUCCESS).exists():
        raise ReportError(f"the report in {path} is not finished ({SUCCESS} is missing); finish its scan first.")
    return parts


def read_file(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of one Parquet file, unchecked; of all columns, or of those named."""
    with pq.ParquetFile(path) as file:  # `read_table` does the same, and imports half a second of other things
        return file.read(columns)


def _read_url(url: Url) -> pa.Table:
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "report.parquet"
        remote.download(url, local)
        return read_file(local)


def sort(table: pa.Table) -> pa.Table:
    """Rows by path; by the raw bytes where two paths read the same."""
    order = pc.sort_indices(table, sort_keys=[("path", "ascending"), ("path_raw", "ascending")])
    return table.take(order)
