"""`sonicscan-report show`, `summary` and `convert` from the command line."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from report_samples import World, catalogue_rows, row, sample_report
from synthesis import TINY_SPEC, music

from sonicscan.analysis.catalogue import load
from sonicscan.cli.demo import write_sound
from sonicscan.cli.report import main
from sonicscan.cli.scan import main as scan
from sonicscan.report.row import FileResult
from sonicscan.scoring.thresholds import Thresholds, certified_thresholds
from sonicscan.spec import Calibration, ModelSpec

ROWS = [
    row("a/clear.mp3", 0.25, verdict="clear"),
    row("a/=SUM(A1).mp3", 0.9999, verdict="flagged", p_value=0.001),
    row("b/new\nline\ttab.mp3", 0.5, verdict="review"),
    row("b/empty.mp3", status="empty", error="the file has no bytes."),
]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return sample_report(tmp_path / "r.parquet", ROWS, thresholds=Thresholds(0.9, 0.5))


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_show_prints_a_plain_table_highest_first(report: Path) -> None:
    result = run("show", report)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "0.9999\tflagged\tok\ta/=SUM(A1).mp3",
        "0.5000\treview\tok\tb/new\\nline\\ttab.mp3",
        "0.2500\tclear\tok\ta/clear.mp3",
        "-\t-\tempty\tb/empty.mp3",
    ]


def test_a_report_under_a_threshold_that_no_score_reaches_is_read(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    """The threshold lies over the highest score of the calibration, which can be 1."""
    spec = dataclasses.replace(TINY_SPEC, calibration=Calibration.of([0.5] * 299 + [1.0] * 10))
    sound = write_sound(tmp_path / "x.wav", music(6.0))
    scanned = CliRunner().invoke(
        scan, [str(sound), "--model", str(make_model(spec)), "--device", "cpu", "--out", str(tmp_path / "r.parquet")]
    )
    assert scanned.exit_code == 0
    assert run("show", tmp_path / "r.parquet").stdout.split("\t")[1] == "review"
    assert run("summary", tmp_path / "r.parquet").exit_code == 0


@pytest.mark.parametrize("command", ["show", "summary"])
def test_what_is_not_a_report_is_said_in_a_sentence(tmp_path: Path, command: str) -> None:
    (tmp_path / "x.parquet").write_text("no report")
    (tmp_path / "x.csv").write_text("path\n")
    for name, said in (
        ("x.parquet", "cannot be read"),
        ("x.csv", "only a .parquet report"),
        ("none", "none cannot be read: No such file or directory.\n"),
    ):
        result = run(command, tmp_path / name)
        assert ".." not in result.stderr
        assert result.exit_code == 2 and said in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"thresholds": '{"x": 1}'}, "thresholds"),
        ({"thresholds": "[1]"}, "thresholds"),
        ({"thresholds": '{"flagged": "high"}'}, "thresholds"),
        ({"thresholds": '{"flagged": 0.9, "review": "low"}'}, "thresholds"),
        ({"options": "{"}, "`options`"),
        ({"model_spec": "{}"}, "contract"),
        ({"schema_version": "9"}, "schema version"),
        ({"options": "[" * 100_000}, "`options`"),
        ({"model_spec": "[" * 100_000}, "not JSON"),
        ({"thresholds": {"flagged": 10**400}}, "thresholds"),
        ({"thresholds": '{"flagged": NaN}'}, "thresholds"),
    ],
)
def test_strange_metadata_is_said_in_a_sentence(tmp_path: Path, broken: dict[str, str], said: str) -> None:
    path = sample_report(tmp_path / "r.parquet", ROWS, **broken)
    result = run("diff", path, path)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and said in result.stderr and "r.parquet" in result.stderr


def test_a_summary_as_json_holds_every_figure(tmp_path: Path) -> None:
    spec = ModelSpec("x")
    path = sample_report(tmp_path / "r.parquet", ROWS, spec, Thresholds(0.9, 0.5))
    result = run("summary", path, "--json")
    figures = json.loads(result.stdout)
    assert figures["verdicts"] == {"flagged": 1, "review": 1, "clear": 1}
    assert figures["statuses"] == {
        "ok": {"tracks": 3, "not_assessed": 0, "reason": None},
        "empty": {"tracks": 1, "not_assessed": 1, "reason": "the file has no bytes."},
    }
    assert figures["ai_share"] is None and "not calibrated" in figures["ai_share_why_not"]
    assert [g["name"] for g in figures["folders"]] == ["a", "b"]


def test_a_summary_in_words_says_share_false_flags_and_discoveries(tmp_path: Path) -> None:
    import numpy as np

    world, rng = World(), np.random.default_rng(0)
    spec = world.model(rng)
    limits = certified_thresholds(spec.calibration, 0.01)
    rows = catalogue_rows(world.margins(rng, 950, 50), spec, limits)
    result = run("summary", sample_report(tmp_path / "r.parquet", rows, spec, limits), "--top", 3)
    text = " ".join(result.stdout.split())
    assert "Estimated share of AI:" in text and "95% interval" in text
    assert "are expected to be by people" in text
    assert "Benjamini-Hochberg" in text
    assert "... and 5 more" in text  # folders
    assert "it does not say that a person made it" in text


def test_an_untrained_model_is_said_plainly(tmp_path: Path) -> None:
    rows = [row("a.mp3", 0.5), row("b.mp3", 0.7)]
    result = run("summary", sample_report(tmp_path / "r.parquet", rows, ModelSpec("x", untrained=True)))
    assert "flagged " not in result.stdout.partition("folder")[0] and "no verdict" in result.stdout
    assert "The model is untrained" in result.stdout and "scores mean nothing" in result.stdout.replace("\n", " ")


def written(report: Path, *options: object) -> list[str]:
    out = report.with_name("out.parquet")
    result = run("convert", report, "--out", out, *options)
    assert result.exit_code == 0, result.output
    return [r.path for r in load(out).rows]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ((), [0, 1, 2, 3]),
        (("--flagged",), [1]),
        (("--verdict", "review", "--flagged"), [1, 2]),
        (("--status", "empty"), [3]),
        (("--min-score", 0.5), [1, 2]),
        (("--path", "b/*"), [2, 3]),
        (("--path", "b/*", "--min-score", 0.1), [2]),
        (("--fdr", 0.05), [1]),
        (("--verdict", "clear", "--min-score", 0.9), []),
    ],
)
def test_a_filter_keeps_what_it_says(report: Path, options: tuple[object, ...], kept: list[int]) -> None:
    assert written(report, *options) == [ROWS[i].path for i in kept]


def test_decided_tracks_can_be_left_out(report: Path, tmp_path: Path) -> None:
    decisions = tmp_path / "reviewed.csv"
    decisions.write_text("path,decision,by,date\na/=SUM(A1).mp3,human,Kim,2026-01-05\n")
    assert written(report, "--reviewed", decisions) == [ROWS[i].path for i in (0, 2, 3)]


def test_every_format_holds_the_same_rows(report: Path, tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        result = run("convert", report, "--out", tmp_path / f"out.{suffix}")
        assert result.exit_code == 0 and "4 of 4 tracks" in result.stderr and not result.stdout
    copy = load(tmp_path / "out.parquet")
    assert copy.rows == load(report).rows == tuple(ROWS)
    assert copy.thresholds == Thresholds(0.9, 0.5)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [r.path for r in ROWS]
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8-sig") as file:
        cells = list(csv.DictReader(file))
    assert [c["path"] for c in cells] == [r.path for r in ROWS]
    assert pd.read_csv(tmp_path / "out.csv")["score"].tolist()[:3] == [0.25, 0.9999, 0.5]


def test_metadata_of_wrong_bytes_cost_no_traceback(report: Path, tmp_path: Path) -> None:
    table = pq.read_table(report)
    metadata = {**table.schema.metadata, b"sonicscan.\xff": b"\xfe", b"sonicscan.model": b"a\xffb"}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "odd.parquet")
    assert "a\ufffdb" in run("summary", tmp_path / "odd.parquet").stdout
    metadata[b"sonicscan.thresholds"] = b"\xff"
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "odd.parquet")
    result = run("summary", tmp_path / "odd.parquet")
    assert result.exit_code == 2 and "`thresholds` of odd.parquet is not JSON" in result.stderr


def test_a_name_that_starts_a_formula_is_defused_in_csv(tmp_path: Path) -> None:
    rows: list[FileResult] = [row("=cmd|'/c calc'!A1.mp3", 0.1, title="@x")]
    result = run("convert", sample_report(tmp_path / "r.parquet", rows), "--out", tmp_path / "out.csv")
    assert result.exit_code == 0
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8-sig") as file:
        cell = next(csv.DictReader(file))
    assert cell["path"].startswith("'=") and cell["title"] == "'@x"


def test_a_target_that_cannot_be_is_refused(report: Path, tmp_path: Path) -> None:
    result = run("convert", report, "--out", tmp_path / "x.txt")
    assert result.exit_code == 2 and "must end in" in result.stderr


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom sonicscan.cli.report import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "print([m for m in ('numpy', 'pyarrow', 'onnxruntime', 'matplotlib', 'jinja2', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_core_commands_do_without_the_extra(report: Path, tmp_path: Path) -> None:
    """Run in a Python to which the extra's packages do not exist."""
    hide = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('jinja2', 'plotly', 'itables', 'matplotlib')))\n"
        "from sonicscan.cli.report import main\n"
        "main(sys.argv[1:])\n"
    )

    def hidden(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", hide, *map(str, args)], capture_output=True, text=True, check=False
        )

    for args in (("show", report), ("summary", report), ("diff", report, report)):
        assert hidden(*args).returncode == 0
    assert hidden("convert", report, "--out", tmp_path / "o.csv").returncode == 0
    for args in (("html", report, "--out", tmp_path / "o.html"), ("explain", report, "--out", tmp_path / "o.png")):
        done = hidden(*args)
        assert done.returncode == 2 and "pip install 'sonicscan[report]'" in done.stderr


def test_commands_that_read_local_files_name_a_url_as_such(tmp_path: Path) -> None:
    address = "https://me:secret@host/song.mp3"
    done = CliRunner().invoke(main, ["explain", address, "--out", str(tmp_path / "x.png")])
    assert done.exit_code == 2
    assert "https://***@host/song.mp3 is a URL; name a file on this machine." in done.stderr


def test_every_command_and_option_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    assert "--verbose" in text  # said once: every command takes it
    for name, command in main.commands.items():
        assert f"## {name}\n" in text
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            for option in (o for o in parameter.opts if o.startswith("--") and o != "--verbose"):
                assert option in section, f"{name} {option}"


def test_convert_onto_standard_output(tmp_path: Path) -> None:
    report = sample_report(tmp_path / "r.parquet", [row("a.mp3", 0.9, verdict="flagged"), row("b.mp3", 0.1)])
    done = CliRunner().invoke(main, ["convert", str(report), "--flagged", "--out", "-"])
    assert done.exit_code == 0 and [json.loads(line)["path"] for line in done.stdout.splitlines()] == ["a.mp3"]
    assert list(tmp_path.iterdir()) == [report]
