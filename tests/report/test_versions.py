"""Reports of schema versions 1 and 2 are read by every command; the columns that they lack are null."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from report_samples import row, sample_report

from sonicscan.analysis import merge
from sonicscan.cli.report import main
from sonicscan.errors import ReportError
from sonicscan.provenance.record import Provenance
from sonicscan.report.metadata import metadata_of, with_metadata
from sonicscan.report.readers import read_report
from sonicscan.report.schema import to_batch, to_results
from sonicscan.scanning.resumable import comparable_rows
from sonicscan.scanning.scan import Scan, ScanOptions, now
from sonicscan.scoring.thresholds import Thresholds

ADDED = {"1": ["log10_lr", "provenance", "decision", "loudness_db"], "2": ["decision", "loudness_db"]}
DECLARED = Provenance(
    claim="generated", generator="=Suno", signature="absent", source="tag", statement="made with suno"
)
ROWS = [
    row("a.mp3", 0.95, verdict="flagged", log10_lr=1.5, provenance=DECLARED),
    row("b.mp3", 0.2, verdict="clear", decision="human", loudness_db=-14.5, provenance=Provenance()),
    row("c.mp3", None, error="the file has no bytes."),
]


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return sample_report(tmp_path / "new.parquet", ROWS, thresholds=Thresholds(0.9, 0.5))


@pytest.fixture(params=sorted(ADDED))
def old(tmp_path: Path, new: Path, request: pytest.FixtureRequest) -> Path:
    """The same report as an earlier version wrote it."""
    table = pq.read_table(new).drop_columns(ADDED[request.param])
    metadata = table.schema.metadata | {b"sonicscan.schema_version": request.param.encode()}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "old.parquet")
    return tmp_path / "old.parquet"


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


def test_rows_survive_the_way_through_parquet(new: Path) -> None:
    assert list(to_results(read_report(new))) == ROWS


def test_columns_that_a_version_lacks_are_null(old: Path) -> None:
    table = read_report(old)
    assert metadata_of(table.schema)["schema_version"] == "3"
    lacked = ADDED[metadata_of(pq.read_schema(old))["schema_version"]]
    assert [table.column(name).null_count for name in lacked] == [3] * len(lacked)
    assert [r.score for r in to_results(table)] == [0.95, 0.2, None]


@pytest.mark.parametrize("command", ["show", "summary"])
def test_commands_read_earlier_versions(old: Path, command: str) -> None:
    done = run(command, old)
    assert done.exit_code == 0 and done.stdout


def test_earlier_versions_are_compared_converted_and_drawn(old: Path, new: Path, tmp_path: Path) -> None:
    assert run("diff", old, new).exit_code == 0
    assert run("html", old, "--out", tmp_path / "audit.html").exit_code == 0
    assert run("convert", old, "--out", tmp_path / "again.parquet").exit_code == 0
    assert read_report(tmp_path / "again.parquet").equals(read_report(old), check_metadata=True)


def test_versions_are_merged_into_the_newer_one(old: Path, new: Path, tmp_path: Path) -> None:
    other = sample_report(tmp_path / "other.parquet", [row("z.mp3", 0.1, provenance=DECLARED)])
    out = tmp_path / "all.parquet"
    assert merge.merge([old, other], out, merge.Allowed(mixed_models=True)) == 4
    assert [r.decision for r in to_results(read_report(out))] == [None] * 4
    assert metadata_of(pq.read_schema(out))["schema_version"] == "3"


@pytest.mark.parametrize(("version", "said"), [("0", "its version is 0"), ("4", "its version is 4"), ("²", "version")])
def test_other_versions_are_refused(new: Path, tmp_path: Path, version: str, said: str) -> None:
    table = pq.read_table(new)
    metadata = table.schema.metadata | {b"sonicscan.schema_version": version.encode()}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "x.parquet")
    with pytest.raises(ReportError, match=said):
        read_report(tmp_path / "x.parquet")


def test_a_missing_column_is_named(new: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(new).drop_columns(["score"]), tmp_path / "x.parquet")
    with pytest.raises(ReportError, match="column score"):
        read_report(tmp_path / "x.parquet")


def test_provenance_in_csv_is_one_cell_of_json(new: Path, tmp_path: Path) -> None:
    assert run("convert", new, "--out", tmp_path / "r.csv").exit_code == 0
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8-sig") as file:
        cells = [line["provenance"] for line in csv.DictReader(file)]
    assert json.loads(cells[0])["generator"] == "=Suno"
    assert cells[0].startswith("{") and cells[2] == ""


def test_provenance_in_json_lines_is_an_object(new: Path, tmp_path: Path) -> None:
    assert run("convert", new, "--out", tmp_path / "r.jsonl").exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0]["provenance"]["claim"] == "generated" and rows[0]["log10_lr"] == 1.5
    assert rows[1]["provenance"]["claim"] == "none" and rows[2]["provenance"] is None


def test_a_batch_of_rows_without_provenance_has_nulls() -> None:
    table = pa.Table.from_batches([to_batch([row("a.mp3", 0.5)])])
    assert table.column("provenance").null_count == 1


def test_since_version_1_scores_again_and_says_why(calibrated_model: Path, tmp_path: Path) -> None:
    scan = Scan(ScanOptions(model=calibrated_model))
    metadata = replace(scan.metadata(now()), key="1", schema_version="1")
    table = with_metadata(pa.Table.from_batches([to_batch(ROWS)]), metadata)
    old = tmp_path / "old.parquet"
    pq.write_table(table.drop_columns(ADDED["1"]), old)
    assert comparable_rows(scan, old) is None
    assert scan.notes[-1].startswith(f"{old} was made by another version of sonicscan, whose rows lack columns: every")
