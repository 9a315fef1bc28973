"""The changes that `sonicscan-report diff` reports, and when it fails a scheduled audit."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from click.testing import CliRunner
from report_samples import NOON_2026, row, sample_report

from sonicscan.analysis.catalogue import load
from sonicscan.analysis.diff import compare
from sonicscan.analysis.reviewed import Decision, Reviewed
from sonicscan.cli.report import main
from sonicscan.report.row import FileResult
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import ModelSpec

LIMITS = Thresholds(0.9, 0.5, 0.01)


def verdict(path: str, score: float, **fields: object) -> FileResult:
    return row(path, score, **({"verdict": LIMITS.verdict(score)} | fields))


def two(folder: Path, old: list[FileResult], new: list[FileResult], **of_new: object) -> tuple[Path, Path]:
    return (
        sample_report(folder / "old.parquet", old, thresholds=LIMITS),
        sample_report(folder / "new.parquet", new, **({"thresholds": LIMITS} | of_new)),  # type: ignore[arg-type]
    )


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["diff", *map(str, args)])
    return result.exit_code, result.output


def test_each_kind_of_change_is_told_apart(tmp_path: Path) -> None:
    old = [
        verdict("same.mp3", 0.2),
        verdict("gone.mp3", 0.2),
        verdict("changed.mp3", 0.2),
        verdict("moved-from.mp3", 0.95, content_hash="a" * 64),
        verdict("copy-from.mp3", 0.2, content_hash="b" * 64),
        verdict("drifts.mp3", 0.2),
        verdict("jitters.mp3", 0.2),
        verdict("retagged.mp3", 0.2, content_hash="c" * 64),
        row("broken.mp3", status="unreadable", error="no sound."),
    ]
    new = [
        verdict("same.mp3", 0.2),
        verdict("new.mp3", 0.2),
        verdict("changed.mp3", 0.6, size=2000),
        verdict("moved-to.mp3", 0.95, content_hash="a" * 64),
        verdict("copy-1.mp3", 0.2, content_hash="b" * 64),
        verdict("copy-2.mp3", 0.2, content_hash="b" * 64),
        verdict("drifts.mp3", 0.25),
        verdict("jitters.mp3", 0.2001),
        verdict("retagged.mp3", 0.2, content_hash="c" * 64, mtime_ns=NOON_2026 + 5),
        verdict("broken.mp3", 0.3),
    ]
    found = compare(*map(load, two(tmp_path, old, new)))
    assert found.notes == () and found.comparable
    assert found.new_files == ("new.mp3", "copy-1.mp3", "copy-2.mp3")
    assert found.gone_files == ("gone.mp3", "copy-from.mp3")
    assert found.changed_files == ("changed.mp3",)
    assert found.moved_files == (("moved-from.mp3", "moved-to.mp3"),)
    assert [(c.path, c.before, c.after) for c in found.verdict_changes] == [
        ("changed.mp3", "clear", "review"),
        ("broken.mp3", "unreadable", "clear"),
    ]
    assert [c.path for c in found.drift] == ["drifts.mp3"]
    assert found.newly_flagged == ()  # the moved one was flagged before


def test_a_newly_flagged_track_fails_the_audit(tmp_path: Path) -> None:
    old = [verdict("a.mp3", 0.2), verdict("b.mp3", 0.95)]
    new = [verdict("a.mp3", 0.95, size=7), verdict("b.mp3", 0.96), verdict("c.mp3", 0.97), verdict("d.mp3", 0.1)]
    reports = two(tmp_path, old, new)
    code, text = run(*reports, "--json")
    assert code == 1
    found = json.loads(text)
    assert [(c["path"], c["before"], c["file"]) for c in found["newly_flagged"]] == [
        ("a.mp3", "clear", "changed"),
        ("c.mp3", None, "new"),
    ]
    code, text = run(*reports)
    assert code == 1 and "2 newly flagged" in text
    assert run(reports[1], reports[1])[0] == 0


def test_a_decision_closes_a_newly_flagged_track(tmp_path: Path) -> None:
    reports = two(tmp_path, [verdict("a.mp3", 0.2)], [verdict("a.mp3", 0.95)])
    (tmp_path / "reviewed.csv").write_text("path,decision,by,date\na.mp3,human,Kim,2026-01-02\n")
    code, text = run(*reports, "--reviewed", tmp_path / "reviewed.csv")
    assert code == 0 and "1 more that people have decided about" in text
    expired = Decision("a.mp3", "", "human", "Kim", dt.date(2026, 1, 2), dt.date(2026, 1, 3))
    old, new = map(load, reports)
    found = compare(old, new, Reviewed({"a.mp3": expired}), dt.date(2026, 1, 4))
    assert len(found.newly_flagged) == 1 and found.decided == 0


def test_reports_of_different_models_are_compared_only_with_a_note(tmp_path: Path) -> None:
    reports = two(tmp_path, [verdict("a.mp3", 0.2)], [verdict("a.mp3", 0.4)], digest="e" * 64)
    found = compare(*map(load, reports))
    assert not found.comparable and found.drift == ()
    assert "different models" in found.notes[0] and "dddddddddddd" in found.notes[0]
    assert "Note: The reports are of different models" in run(*reports)[1]


def test_different_thresholds_windows_and_an_untrained_model_are_noted(tmp_path: Path) -> None:
    reports = two(
        tmp_path,
        [verdict("a.mp3", 0.2)],
        [verdict("a.mp3", 0.2)],
        thresholds=Thresholds(0.8),
        options={"windows": "all"},
        spec=ModelSpec("x", untrained=True),
    )
    notes = compare(*map(load, reports)).notes
    assert ["untrained" in notes[0], "different thresholds" in notes[1], "different windows" in notes[2]] == [True] * 3


def test_names_cannot_take_over_the_terminal(tmp_path: Path) -> None:
    name = "x\x1b[2J\n[red]y[/red].mp3"
    code, text = run(*two(tmp_path, [], [verdict(name, 0.95)]))
    assert code == 1
    assert "\x1b" not in text and "x\\x1b[2J\\n[red]y[/red].mp3" in text


def test_quiet_prints_each_finding_once_on_one_line(tmp_path: Path) -> None:
    long = "folder/" * 30 + "x.mp3"
    reports = two(tmp_path, [verdict("a.mp3", 0.95)], [verdict("a.mp3", 0.95), verdict(long, 0.97), verdict("b", 0.99)])
    code, text = run(*reports, "--quiet")
    assert code == 1 and text.splitlines() == ["0.9900\tflagged\tok\tb", f"0.9700\tflagged\tok\t{long}"]
    assert run(reports[1], reports[1], "--quiet") == (0, "")
    code, text = run(*reports)
    assert code == 1 and text.count(long) == 1 and "2 new, 2 of them listed as newly flagged" in text


def test_a_move_is_seen_without_hashes_where_size_time_and_score_agree(tmp_path: Path) -> None:
    reports = two(tmp_path, [verdict("a", 0.95), verdict("b", 0.95, size=7)], [verdict("c", 0.95), verdict("d", 0.9)])
    found = compare(*map(load, reports))
    assert found.moved_files == () and len(found.newly_flagged) == 2  # two files of one size and time: c may be d
    reports = two(tmp_path, [verdict("a", 0.95), verdict("b", 0.95, size=7)], [verdict("c", 0.95), verdict("b", 0.9)])
    found = compare(*map(load, reports))
    assert found.moved_files == (("a", "c"),) and found.newly_flagged == ()
