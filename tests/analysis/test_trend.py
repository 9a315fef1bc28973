"""`sonicscan-report trend`: a line a month."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from report_samples import row, sample_report

from sonicscan.cli.report import main
from sonicscan.report.row import FileResult
from sonicscan.scoring.thresholds import Thresholds

LIMITS = Thresholds(0.9, 0.5, 0.01)


def verdict(path: str, score: float) -> FileResult:
    return row(path, score, verdict=LIMITS.verdict(score), mtime_ns=1 + sum(path.encode()))


@pytest.fixture
def audits(tmp_path: Path) -> list[Path]:
    """Two reports of October and one of November, in which a track was added, one moved and one got flagged."""
    first = [verdict("a", 0.1), verdict("b", 0.95), row("broken", status="unreadable")]
    nights = [
        ("2026-10-01", [verdict("a", 0.1)]),
        ("2026-10-31", first),
        ("2026-11-02", [verdict("a", 0.97), verdict("b", 0.95), verdict("c", 0.99), verdict("d", 0.2)]),
    ]
    return [
        sample_report(tmp_path / f"{day}.parquet", rows, thresholds=LIMITS, finished=f"{day}T03:00:00+00:00")
        for day, rows in nights
    ]


def run(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["trend", *map(str, args)])
    return done.exit_code, done.output


def test_counts_and_shares_by_month(audits: list[Path]) -> None:
    code, text = run(*reversed(audits), "--json")
    assert code == 0
    october, november = json.loads(text)
    assert (october["month"], october["reports"], october["tracks"], october["assessed"]) == ("2026-10", 2, 3, 2)
    assert october["flagged"] == 1 and october["share"]["value"] == 0.5 and october["added"] is None
    assert (november["flagged"], november["added"], november["added_flagged"], november["newly_flagged"]) == (
        3,
        2,
        1,
        2,
    )
    assert november["added_share"]["low"] < 0.5 < november["added_share"]["high"] and november["notes"] == []
    code, text = run(*audits)
    lines = text.splitlines()
    assert code == 0 and lines[1].split()[:6] == ["2026-10", "2", "3", "2", "1", "0"]
    assert lines[2].startswith("2026-11  ") and "75.0% (" in lines[2]


def test_what_makes_months_hard_to_compare_is_said(audits: list[Path], tmp_path: Path) -> None:
    other = sample_report(
        tmp_path / "z.parquet", [verdict("a", 0.1)], thresholds=LIMITS, digest="e" * 64, finished="2026-12-01T00:00:00"
    )
    code, text = run(*audits, other)
    assert code == 0 and "2026-12: The reports are of different models" in text


def test_decisions_and_errors(audits: list[Path], tmp_path: Path) -> None:
    (tmp_path / "reviewed.csv").write_text("path,decision,by,date\nc,human,Kim,2026-11-03\n")
    found = json.loads(run(*audits, "--reviewed", tmp_path / "reviewed.csv", "--json")[1])
    assert found[1]["newly_flagged"] == 1
    undated = sample_report(tmp_path / "u.parquet", [verdict("a", 0.1)], finished="")
    code, text = run(undated)
    assert code == 2 and "does not say when it was finished" in text
    code, text = run(tmp_path / "nowhere.parquet")
    assert code == 2 and "nowhere.parquet cannot be read" in text
