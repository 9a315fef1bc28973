"""docs/columns.md says what the schema in code says."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import get_args

import pyarrow as pa

from sonicscan.errors import STATUSES
from sonicscan.provenance.record import Claim, Provenance, Signature, Source
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA

PAGE = (Path(__file__).parents[2] / "docs" / "columns.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def type_name(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"map<{type_name(kind.key_type)}, {type_name(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct<" + ", ".join(f"{f.name}: {type_name(f.type)}" for f in kind) + ">"
    return str(kind)


def test_every_column_is_documented_with_its_type() -> None:
    documented = [(row[0].strip("`"), row[1]) for row in table("Columns")]
    assert documented == [(field.name, type_name(field.type)) for field in SCHEMA]


def test_every_column_has_a_meaning() -> None:
    assert all(len(row) == 4 and len(row[3]) > 10 for row in table("Columns"))


def test_every_field_of_provenance_is_documented_with_its_values() -> None:
    documented = {row[0].strip("`"): row[1] for row in table("Provenance")}
    assert list(documented) == [field.name for field in dataclasses.fields(Provenance)]
    for name, values in {"claim": Claim, "signature": Signature, "source": Source}.items():
        assert all(f"`{value}`" in documented[name] for value in get_args(values))


def test_every_status_is_documented() -> None:
    assert [row[0].strip("`") for row in table("Statuses")] == list(STATUSES)


def test_schema_and_result_have_the_same_fields_in_the_same_order() -> None:
    assert SCHEMA.names == [field.name for field in dataclasses.fields(FileResult)]


def test_written_metadata_is_documented(tmp_path: Path, calibrated_model: Path) -> None:
    from sonicscan.scanning.scan import Scan, ScanOptions, now

    written = Scan(ScanOptions(model=calibrated_model)).metadata(now())
    documented = {name for row in table("Metadata") for name in re.findall(r"`(\w+)`", row[0])}
    assert {field.name for field in dataclasses.fields(written)} == documented
