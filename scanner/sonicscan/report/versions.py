"""Reports of earlier schema versions: columns that they lack are null."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from sonicscan.errors import ReportError
from sonicscan.library.urls import Location
from sonicscan.report.metadata import metadata_of
from sonicscan.report.schema import SCHEMA, SCHEMA_VERSION

_ADDED: dict[int, tuple[str, ...]] = {  # columns that a version brought
    2: ("log10_lr", "provenance"),
    3: ("decision", "loudness_db"),
}
_OLDEST = 1
_VERSION_KEY = b"sonicscan.schema_version"


def check_version(schema: pa.Schema, path: Location | Path) -> None:
    """Raise `ReportError` unless `schema` is that of a report that `upgraded` reads."""
    text = metadata_of(schema).get("schema_version")
    version = int(text) if text is not None and re.fullmatch("[0-9]{1,4}", text) else 0
    if not _OLDEST <= version <= SCHEMA_VERSION:
        found = "no version in it" if text is None else f"its version is {text}"
        raise ReportError(
            f"{path} is not a report of schema version {_OLDEST} to {SCHEMA_VERSION} ({found}); "
            "read it with the version of sonicscan that wrote it."
        )
    missing = [name for name in _columns_of(version) if name not in schema.names]
    if missing:
        raise ReportError(f"{path} is damaged: the column {missing[0]} of a report is missing; scan again.")


def upgraded(table: pa.Table, path: Location | Path) -> pa.Table:
    """A table whose version was checked, with the columns and the metadata of this schema version.

    Raises:
        ReportError: a column has another type, or a null where no report has one.
    """
    columns = [
        table.column(field.name) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in SCHEMA
    ]
    metadata = dict(table.schema.metadata or {})
    if _VERSION_KEY in metadata:
        metadata[_VERSION_KEY] = str(SCHEMA_VERSION).encode()
    try:
        cast = pa.Table.from_arrays(columns, names=SCHEMA.names).cast(SCHEMA)
    except (ValueError, pa.ArrowException) as error:
        raise ReportError(f"{path} is damaged: {' '.join(str(error).split())}.") from error
    return cast.replace_schema_metadata(metadata or None)


def _columns_of(version: int) -> list[str]:
    later = {name for number, names in _ADDED.items() if number > version for name in names}
    return [name for name in SCHEMA.names if name not in later]
