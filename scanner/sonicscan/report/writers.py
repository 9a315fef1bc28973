"""Writes reports as Parquet, CSV or JSON Lines; a report appears whole or not at all."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from sonicscan.errors import InputError, ReportError
from sonicscan.files import replacing
from sonicscan.library import remote
from sonicscan.library.urls import Location, Url
from sonicscan.provenance.record import Provenance
from sonicscan.report.cells import escaped, json_cell
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA, to_results

# Characters that JSON does not escape and terminals interpret: C1 controls, bidirectional marks, U+2028.
_COMMANDS = re.compile("[\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]")
# Parquet columns whose values hardly repeat: a dictionary of them takes more space and time than the values.
_UNLIKE = ("score", "window_margins.list.element", "mtime_ns")
SUFFIXES = (".parquet", ".csv", ".jsonl")


def check_target(path: Location, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Raise `InputError` or `RemoteError` unless `path` names a report that could be written."""
    if path.suffix not in suffixes:
        raise InputError(f"--out {path}: the name must end in {', '.join(suffixes)}, or be - for standard output.")
    if isinstance(path, Url):
        remote.check_target(path)
        return
    if path.is_dir():
        raise InputError(f"--out {path}: that is a folder.")
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: there is no folder {path.parent}.")


def write_report(table: pa.Table, path: Location, mode: int = 0o666) -> None:
    """Write a report in the format that `path`'s suffix names; it appears whole, by rename or upload.

    Args:
        table: rows and metadata.
        path: a new or an earlier report.
        mode: permissions of a new local file, less those that the umask takes away.

    Raises:
        ReportError, RemoteError: it could not be written; an earlier report stays unchanged.
    """
    write_blocks(table.schema, [table], path, mode)


def write_blocks(schema: pa.Schema, blocks: Iterable[pa.Table], path: Location, mode: int = 0o666) -> None:
    """Write a report whose rows come a block at a time, as `write_report` does.

    Args:
        schema: `SCHEMA` with the report's metadata.
        blocks: the rows, in order.
        path, mode: as for `write_report`.

    Raises:
        ReportError, RemoteError: it could not be written; an earlier report stays unchanged.
    """
    if isinstance(path, Url):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / f"report{path.suffix}"
            write_blocks(schema, blocks, local)
            remote.upload(local, path)
        return
    writers = {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_jsonl}
    try:
        with replacing(path, mode=mode) as file:
            writers[path.suffix](schema, blocks, file)
    except OSError as error:
        raise ReportError(f"the report {path} could not be written: {error.strerror or error}.") from error


def _write_parquet(schema: pa.Schema, blocks: Iterable[pa.Table], file: IO[bytes]) -> None:
    dictionaries = [leaf for leaf in _leaves(schema) if leaf not in _UNLIKE]
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=dictionaries) as writer:
        for block in blocks:
            writer.write_table(block.replace_schema_metadata(schema.metadata))


def _leaves(schema: pa.Schema) -> list[str]:
    """The paths of the columns that Parquet stores for `schema`."""
    buffer = io.BytesIO()
    pq.write_table(schema.empty_table(), buffer)
    stored = pq.read_metadata(buffer).schema
    return [stored.column(k).path for k in range(len(stored))]


def _write_jsonl(schema: pa.Schema, blocks: Iterable[pa.Table], file: IO[bytes]) -> None:
    for block in blocks:
        for result in to_results(block):
            file.write(json_line(result).encode())


def json_line(result: FileResult) -> str:
    """One result as a line of JSON, with its newline; `path_raw` in hexadecimal."""
    row = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    row["path_raw"] = result.path_raw.hex() if result.path_raw is not None else None
    row["provenance"] = dataclasses.asdict(result.provenance) if result.provenance is not None else None
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _write_csv(schema: pa.Schema, blocks: Iterable[pa.Table], file: IO[bytes]) -> None:
    # Excel reads a file without a byte-order mark in the system's encoding.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(SCHEMA.names)
    for block in blocks:
        for result in to_results(block):
            writer.writerow([_cell(name, getattr(result, name)) for name in SCHEMA.names])
    text.detach()


def _cell(name: str, value: object) -> object:
    """Formats a CSV cell: lists and `provenance` as JSON; text that a spreadsheet would read as a formula is
    escaped."""
    if name == "path_raw" and isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Provenance):
        value = dataclasses.asdict(value)
    if isinstance(value, list | dict):
        return json_cell(value)
    return escaped(value) if isinstance(value, str) else value
