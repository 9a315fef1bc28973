"""Reports from strangers and for spreadsheets and terminals: size, formulas, characters that are commands."""

from __future__ import annotations

import csv
import json
import resource
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_samples import sample_report
from synthesis import calibrated

from sonicscan.analysis.catalogue import load
from sonicscan.analysis.summary import summarise
from sonicscan.errors import ReportError
from sonicscan.report.bounded import read_bounded
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA, to_batch
from sonicscan.report.writers import json_line, write_report
from sonicscan.scoring.thresholds import Thresholds


def row(path: str, **fields: object) -> FileResult:
    return FileResult(path=path, status="ok", size=1, mtime_ns=1, **{"warnings": [], **fields})  # type: ignore[arg-type]


def table_of(*rows: FileResult) -> pa.Table:
    return pa.Table.from_batches([to_batch(rows)])


@pytest.mark.parametrize("where", ["path", "warnings"])
def test_a_small_file_that_stands_for_gigabytes_is_refused(where: str, tmp_path: Path) -> None:
    n = 1_000_000
    text = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array(["x" * 5000]))
    if where == "warnings":
        text = pa.ListArray.from_arrays(pa.array(range(n + 1), pa.int32()), text)
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({where: text}), path, compression="zstd", row_group_size=n)
    assert path.stat().st_size < 500_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ReportError, match="expands to more than"):
        read_bounded(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB


def test_rows_come_out_as_they_went_in(tmp_path: Path) -> None:
    table = table_of(row("a", warnings=["short", "clipped"], class_scores={"human": 0.5}, title="\u00e9"), row("b"))
    pq.write_table(table.replace_schema_metadata({"k": "v"}), tmp_path / "r.parquet")
    found = read_bounded(tmp_path / "r.parquet")
    assert found.cast(SCHEMA).equals(table.cast(SCHEMA)) and found.schema.metadata == {b"k": b"v"}
    assert read_bounded(tmp_path / "r.parquet", ["title", "path"]).to_pydict() == {
        "title": ["\u00e9", None],
        "path": ["a", "b"],
    }
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    assert read_bounded(tmp_path / "empty.parquet").schema.names == SCHEMA.names


def test_nested_text_without_a_dictionary_is_read_too(tmp_path: Path) -> None:
    rows = [row(str(k), warnings=[f"{k:0100}", "short"], title=f"{k:0200}") for k in range(20_000)]
    pq.write_table(table_of(*rows), tmp_path / "r.parquet", dictionary_pagesize_limit=10_000, row_group_size=15_000)
    assert read_bounded(tmp_path / "r.parquet").cast(SCHEMA).equals(table_of(*rows).cast(SCHEMA))


def test_text_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    wrong = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"path": wrong}), tmp_path / "r.parquet")
    with pytest.raises(pa.ArrowException, match="UTF"):
        read_bounded(tmp_path / "r.parquet")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"),
        (" =1", " '=1"),
        ("song;=HYPERLINK(A1)", "song;'=HYPERLINK(A1)"),
        ("song\t@SUM(A1)", "song\t'@SUM(A1)"),
        ("song\n-2", "song\n'-2"),
        ('song," =1', "song,\" '=1"),
        ("\uff1d1", "'\uff1d1"),
        ("a|\uff0b1", "a|'\uff0b1"),
        ("Artist - Song = Live", "Artist - Song = Live"),
    ],
)
def test_no_cell_is_a_formula_in_any_locale(text: str, shown: str, tmp_path: Path) -> None:
    write_report(table_of(row("x", title=text, window_margins=[0.5, -1.5])), tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8-sig") as file:
        (cells,) = csv.DictReader(file)
    assert cells["title"] == shown and cells["window_margins"] == "[0.5, -1.5]"


def test_no_json_in_a_cell_holds_a_formula_behind_a_delimiter(tmp_path: Path) -> None:
    write_report(table_of(row("x", warnings=["=a", "b;=SUM(A1)", "@c"])), tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8-sig") as file:
        (cells,) = csv.DictReader(file)
    assert cells["warnings"] == """["=a", "b;'=SUM(A1)", "'@c"]"""


def test_json_lines_hold_nothing_that_a_terminal_obeys() -> None:
    text = "\x9b2J \x7f \u202e \u2066 \u2028 \u061c \u200f caf\u00e9 \U0001f3b5"
    line = json_line(row("x", title=text))
    assert json.loads(line)["title"] == text
    assert all(c.isprintable() for c in line[:-1]) and "caf\u00e9 \U0001f3b5" in line


def test_a_report_without_a_score_is_summed_up(tmp_path: Path) -> None:
    limits = Thresholds(0.5, 0.3)
    path = sample_report(tmp_path / "r.parquet", [row("x")], spec=calibrated(), thresholds=limits)
    assert summarise(load(path)).assessed == 0
