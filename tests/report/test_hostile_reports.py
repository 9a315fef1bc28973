"""Reports from strangers and for spreadsheets and terminals: size, formulas, characters that are commands."""

from __future__ import annotations

import csv
import json
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_samples import sample_report
from synthesis import calibrated

from sonicscan.analysis import tables
from sonicscan.analysis.catalogue import load
from sonicscan.analysis.merge import Allowed, merge
from sonicscan.analysis.reviewed import load_reviewed
from sonicscan.analysis.summary import summarise
from sonicscan.analysis.suppliers import load_declared
from sonicscan.errors import InputError, ReportError
from sonicscan.report import bounded
from sonicscan.report.bounded import read_bounded
from sonicscan.report.metadata import metadata_of, with_metadata
from sonicscan.report.pages import DamagedPageError, expanded_bytes
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


def varint(value: int, length: int) -> bytes:
    """A zigzag number of Thrift in that many bytes."""
    value <<= 1
    parts = [value >> 7 * k & 0x7F | (0x80 if k + 1 < length else 0) for k in range(length)]
    return bytes(parts)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", 1 << 20)


def page_bomb(path: Path) -> Path:
    """A report with one row of 16 MB in a kilobyte, whose footer says that the row has one byte."""
    table = table_of(row("x" * (16 << 20)))
    keys = metadata_of(pq.read_schema(sample_report(path, [row("x")])))
    pq.write_table(with_metadata(table, keys), path, compression="zstd", use_dictionary=False, write_statistics=False)
    group = pq.read_metadata(path).row_group(0)
    content = path.read_bytes()
    for size in (group.total_byte_size, group.column(0).total_uncompressed_size):
        assert varint(size, 4) in content
        content = content.replace(varint(size, 4), varint(1, 4))
    path.write_bytes(content)
    assert len(content) < 50_000 and pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 1
    return path


@pytest.mark.usefixtures("small_limit")
def test_a_page_that_expands_is_refused_whatever_the_footer_says(tmp_path: Path) -> None:
    bomb = page_bomb(tmp_path / "bomb.parquet")
    with pytest.raises(ReportError, match="expands to more than"):
        load(bomb)
    with pytest.raises(ReportError, match="expands to more than"):
        merge([bomb], tmp_path / "merged.parquet", Allowed())
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.parquet"]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_pages_add_up_to_what_an_honest_footer_says(
    version: str, compression: str, dictionary: bool, tmp_path: Path
) -> None:
    rows = [row(f"{k:020}", title=None if k % 3 else "\u00e9" * k, window_margins=[0.1 * k] * 5) for k in range(1000)]
    path = tmp_path / "r.parquet"
    options = {"data_page_version": version, "compression": compression, "use_dictionary": dictionary}
    pq.write_table(table_of(*rows), path, data_page_size=1000, row_group_size=400, **options)  # type: ignore[arg-type]
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    stated = sum(group.total_byte_size for group in groups)
    found = expanded_bytes(path, metadata, SCHEMA.names, 1 << 40)
    assert 0.3 * stated < found < stated  # the footer counts the headers too
    only = sum(group.column(0).total_uncompressed_size for group in groups)
    assert 0.3 * only < expanded_bytes(path, metadata, ["path"], 1 << 40) < only


@pytest.mark.parametrize("damage", [b"\xff" * 8, b"\x19" * 8, b"\x1c" * 64, b"\x00" * 8, b"\x15\x04\x15\x01\x15\x01"])
def test_a_page_header_that_makes_no_sense_is_an_error(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    pq.write_table(table_of(row("x")), path)
    content = bytearray(path.read_bytes())
    content[4 : 4 + len(damage)] = damage
    path.write_bytes(content)
    with pytest.raises(DamagedPageError):
        expanded_bytes(path, pq.read_metadata(path), SCHEMA.names, 1 << 40)
    with pytest.raises(ReportError, match="is damaged"):
        read_bounded(path)


@pytest.mark.usefixtures("small_limit")
def test_declarations_that_expand_are_refused(tmp_path: Path) -> None:
    n = 100_000
    texts = {"path": "x" * 500, "declared": "none"}
    columns = {
        name: pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), [text]) for name, text in texts.items()
    }
    pq.write_table(pa.table(columns), tmp_path / "d.parquet", compression="zstd")
    with pytest.raises(InputError, match="expands to more than"):
        load_declared(tmp_path / "d.parquet")


@pytest.mark.parametrize("read", [load_reviewed, load_declared])
def test_tables_without_an_end_are_refused(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_BYTES", 1 << 20)
    with pytest.raises(InputError, match="it is larger than 1 MiB"):
        read(Path("/dev/zero"))
    (tmp_path / "one.csv").write_text("path,declared,decision,by,date\n" + "x" * 200_000)
    with pytest.raises(InputError, match="is not CSV in UTF-8"):
        read(tmp_path / "one.csv")


def test_a_report_that_claims_a_trillion_shards_is_refused_at_once(tmp_path: Path) -> None:
    path = sample_report(tmp_path / "r.parquet", [row("x")], shards=[[1, 10**12]])
    with pytest.raises(ReportError, match=r"shard 2/1000000000000, .* and more of the library is missing"):
        merge([path], tmp_path / "merged.parquet", Allowed())
    assert merge([path], tmp_path / "merged.parquet", Allowed(gaps=True)) == 1


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
