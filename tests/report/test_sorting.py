"""Reports that are sorted in runs: the same rows in the same order as one sort of all of them in memory."""

from __future__ import annotations

import dataclasses
import itertools
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sonicscan.provenance.record import Provenance
from sonicscan.report.metadata import metadata_of, with_metadata
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA, sort_rows, to_batch
from sonicscan.report.sorting import SortedRows
from sonicscan.report.writers import write_blocks, write_report

ROWS = 5000  # a run of 1,700 rows is read in two pieces


def row(k: int, draw: random.Random) -> FileResult:
    plain = FileResult(path=f"{draw.randrange(900):03d}/{k}.mp3", status="ok", size=k, mtime_ns=k, warnings=[])
    return dataclasses.replace(
        plain,
        path_raw=None if k % 3 else b"\xff%d" % k,
        score=draw.random() if k % 5 else None,
        class_scores={"ai": 0.5} if k % 2 else None,
        window_margins=[draw.gauss(0, 1) for _ in range(k % 4)],
        flagged_ranges=[{"start_s": 1.0, "end_s": 2.0}] * (k % 2),
        provenance=Provenance(generator="some") if k % 7 == 0 else None,
        warnings=["short"] * (k % 3 == 0),
    )


@pytest.fixture(scope="module")
def table() -> pa.Table:
    draw = random.Random(0)
    rows = [row(k, draw) for k in range(ROWS)]
    twins = [dataclasses.replace(rows[0], path="twin.mp3", path_raw=raw) for raw in (b"b", None, b"a")]
    return pa.Table.from_batches([to_batch([*rows, *twins])])


def pieces(table: pa.Table, lengths: list[int]) -> list[pa.Table]:
    starts = [sum(lengths[:k]) for k in range(len(lengths) + 1)]
    return [table.slice(start, length) for start, length in zip(starts, [*lengths, None], strict=True)]


@pytest.mark.parametrize("lengths", [[], [0, 1, 4000], [1700, 1700], [7] * 40])
def test_runs_give_the_rows_that_one_sort_gives(table: pa.Table, lengths: list[int], tmp_path: Path) -> None:
    with SortedRows(pieces(table, lengths), tmp_path, run_rows=1700) as rows:
        blocks = list(rows.blocks())
        assert not list(tmp_path.iterdir()), "temporary files have no names"
    assert [block.num_rows for block in blocks] == [1700, 1700, table.num_rows - 3400]
    assert pa.concat_tables(blocks).combine_chunks().equals(sort_rows(table).combine_chunks())


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_report_in_blocks_is_the_report_in_one(table: pa.Table, suffix: str, tmp_path: Path) -> None:
    whole, blocks = tmp_path / f"whole{suffix}", tmp_path / f"blocks{suffix}"
    ordered = with_metadata(sort_rows(table), {"model": "some"})
    write_report(ordered, whole)
    with SortedRows([table], tmp_path, run_rows=1700) as rows:
        write_blocks(ordered.schema, rows.blocks(), blocks)
    if suffix == ".parquet":
        assert pq.read_table(blocks).equals(pq.read_table(whole))
        assert metadata_of(pq.read_schema(blocks)) == {"model": "some"}
    else:
        assert blocks.read_bytes() == whole.read_bytes()


def test_rows_spread_over_the_paths(table: pa.Table, tmp_path: Path) -> None:
    places = {path: k for k, path in enumerate(sort_rows(table).column("path").to_pylist())}
    with SortedRows([table], tmp_path, run_rows=1700) as rows:
        some = rows.spread(500, ["score", "path"])
        assert rows.spread(10**6, ["size"]).num_rows == rows.num_rows == table.num_rows
    assert some.column_names == ["score", "path"]
    chosen = sorted(places[path] for path in some.column("path").to_pylist())
    assert len(chosen) == 500
    assert {b - a for a, b in itertools.pairwise(chosen)} <= {10, 11}


def test_no_rows(tmp_path: Path) -> None:
    with SortedRows([], tmp_path) as rows:
        assert list(rows.blocks()) == []
        assert rows.spread(10, ["path"]).num_rows == 0
        write_blocks(SCHEMA, rows.blocks(), tmp_path / "r.parquet")
    assert pq.read_table(tmp_path / "r.parquet").equals(SCHEMA.empty_table())
