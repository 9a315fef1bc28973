"""Rows that no scan writes: each is an error in one sentence, whichever command reads the report."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from report_samples import row, sample_report
from synthesis import calibrated

from sonicscan.analysis.merge import Allowed, merge
from sonicscan.cli.report import main
from sonicscan.errors import ReportError
from sonicscan.provenance.record import Provenance
from sonicscan.report.metadata import ReportMetadata, metadata_of, with_metadata
from sonicscan.report.readers import read_report
from sonicscan.report.schema import SCHEMA, to_results
from sonicscan.scoring.thresholds import Thresholds

ESCAPES = "\x1b]0;owned\x07\u202e\x9b2J"
NAN, INFINITE = float("nan"), float("inf")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    limits = Thresholds(0.5, 0.3)
    full = {
        "verdict": "clear",
        "p_value": 0.5,
        "class_scores": {"human": 0.6, "ai": 0.4},
        "windows": 1,
        "window_starts_s": [0.0],
        "window_margins": [-0.4],
        "flagged_s": 0.0,
        "flagged_ranges": [{"start_s": 0.0, "end_s": 5.0}],
        "provenance": Provenance(),
        "duration_s": 5.0,
        "bandwidth_hz": 8000.0,
    }
    rows = [row("a.mp3", 0.4, **full), row("b.mp3")]
    return sample_report(tmp_path_factory.mktemp("good") / "r.parquet", rows, spec=calibrated(), thresholds=limits)


def changed(good: Path, path: Path, name: str, value: object, kind: pa.DataType | None = None) -> Path:
    """The report with another value in the first row."""
    table = read_report(good)
    at = table.schema.get_field_index(name)
    field = pa.field(name, kind or table.schema.field(at).type)
    values = table.column(name).to_pylist() if kind is None else [value, value]
    new = table.set_column(at, field, pa.array([value, values[1]], field.type))
    pq.write_table(new.replace_schema_metadata(table.schema.metadata), path)
    return path


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("score", value) for value in (NAN, INFINITE, -0.1, 1.1, None)),  # None: a verdict without a score
        *(("p_value", value) for value in (NAN, 0.0, -1.0, 2.0)),
        *(("verdict", value) for value in (ESCAPES, "", "FLAGGED")),
        *(("status", value) for value in (ESCAPES, "human")),
        *((name, None) for name in ("windows", "silent_windows", "size", "mtime_ns", "warnings")),
        *((name, -1) for name in ("windows", "silent_windows", "duration_s", "bandwidth_hz", "flagged_s")),
        ("warnings", [None]),
        *((name, [value]) for name in ("window_starts_s", "window_margins") for value in (NAN, INFINITE, None)),
        ("flagged_ranges", [None]),
        ("flagged_ranges", [{"start_s": 0.0, "end_s": NAN}]),
        ("class_scores", [("human", NAN)]),
        ("provenance", {"claim": None, "signature": "absent"}),
        ("provenance", {"claim": "human", "signature": "absent"}),
        ("provenance", {"claim": "none", "signature": ESCAPES}),
        ("provenance", {"claim": "none", "signature": "absent", "source": "heaven"}),
    ],
)
def test_a_value_that_no_scan_writes_is_refused(column: str, value: object, good: Path, tmp_path: Path) -> None:
    path = changed(good, tmp_path / "r.parquet", column, value)
    with pytest.raises(ReportError, match=r"r\.parquet holds values of `\w+` that no scan writes"):
        read_report(path)
    with pytest.raises(ReportError, match="that no scan writes"):
        merge([path], tmp_path / "merged.parquet", Allowed())


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [("path", None, pa.string()), ("score", "high", pa.string()), ("warnings", 5, pa.int64())],
)
def test_a_column_of_another_type_is_refused(
    column: str, value: object, kind: pa.DataType, good: Path, tmp_path: Path
) -> None:
    path = changed(good, tmp_path / "r.parquet", column, value, kind)
    with pytest.raises(ReportError, match=r"r\.parquet is damaged"):
        read_report(path)
    with pytest.raises(ReportError, match=r"r\.parquet is damaged"):
        merge([path], tmp_path / "merged.parquet", Allowed())


def test_two_columns_or_two_scores_of_one_name_are_refused(good: Path, tmp_path: Path) -> None:
    table = read_report(good)
    pq.write_table(table.append_column("score", table.column("score")), tmp_path / "two.parquet")
    with pytest.raises(ReportError, match="two of its columns have one name"):
        read_report(tmp_path / "two.parquet")
    path = changed(good, tmp_path / "r.parquet", "class_scores", [("ai", 0.5), ("ai", 0.4)])
    with pytest.raises(ReportError, match="two scores of one class"):
        list(to_results(read_report(path)))


LIES = {
    "shards": ["[[0, 0]]", "[[2, 1]]", "{}", '[["a", 1]]'],
    "thresholds": ['{"flagged": 2}', "[]", '{"flagged": "a"}', '{"flagged": NaN}'],
    "options": ["[]", "5"],
    "model_spec": ["{}", "[", "[" * 100_000, '"x"', '{"version": 2}'],
    "roots": ['[["a", 5]]', "[[1]]"],
    "left_out": ['[{"pattern": "a"}]', "[5]"],
    "differences": ["[5]", '"x"'],
    "filtered": ["5"],
    "started": [ESCAPES],
    "finished": [ESCAPES, "2026-01" + ESCAPES, "1" * 1000],
    "schema_version": ["99", "-1", "\u00b2", ESCAPES],
    "command": ["[]", "[[[["],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in LIES.items() for value in values])
def test_metadata_that_lies_about_its_types_is_one_sentence(key: str, value: str, good: Path, tmp_path: Path) -> None:
    table = read_report(good)
    pq.write_table(with_metadata(table, metadata_of(table.schema) | {key: value}), tmp_path / "r.parquet")
    result = CliRunner().invoke(main, ["summary", str(tmp_path / "r.parquet")])
    assert result.exit_code == 2 and not result.stdout
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert "unexpectedly" not in result.stderr
    assert all(character.isprintable() for character in result.stderr[:-1])


@pytest.mark.parametrize("command", [["show"], ["summary"], ["trend"]])
def test_text_of_a_report_cannot_send_commands_to_a_terminal(command: list[str], good: Path, tmp_path: Path) -> None:
    named = {"model": ESCAPES, "model_digest": ESCAPES, "key": ESCAPES, "tool_version": ESCAPES}
    rows = [row(ESCAPES, 0.9, verdict="flagged", artist=ESCAPES, error=ESCAPES, codec=ESCAPES), row("b", error=ESCAPES)]
    path = sample_report(tmp_path / "r.parquet", rows, spec=calibrated(), thresholds=Thresholds(0.5))
    table = read_report(path)
    pq.write_table(with_metadata(table, metadata_of(table.schema) | named), path)
    assert ReportMetadata.of(pq.read_schema(path), "r").model == ESCAPES
    result = CliRunner().invoke(main, [*command, str(path)])
    assert result.exit_code == 0, result.output
    assert all(character.isprintable() or character in "\n\t" for character in result.output)


def test_an_empty_report_holds_no_wrong_value(tmp_path: Path) -> None:
    assert read_report(sample_report(tmp_path / "r.parquet", [])).num_rows == 0
    assert pq.read_schema(tmp_path / "r.parquet").names == SCHEMA.names
