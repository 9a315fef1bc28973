"""Decisions that people took, and how reports respect them."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from report_samples import DAY_NS, NOON_2026, row, sample_report

from sonicscan.analysis.catalogue import load
from sonicscan.analysis.reviewed import load_reviewed
from sonicscan.analysis.summary import summarise
from sonicscan.cli.scan import main as scanner
from sonicscan.errors import InputError
from sonicscan.scoring.thresholds import Thresholds

HEADER = "path,content_hash,decision,by,date,expires\n"
HASH = "ab" * 32
TODAY = dt.date(2026, 3, 1)


def reviewed_file(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "reviewed.csv"
    path.write_text(header + "".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_decision_is_found_by_path_and_by_hash(tmp_path: Path) -> None:
    reviewed = load_reviewed(
        reviewed_file(tmp_path, "a.mp3,,human,Kim,2026-02-01,", f",{HASH.upper()},ai,Ada,2026-02-02,2026-12-31")
    )
    by_path = reviewed.covers(row("a.mp3", 0.9), TODAY)
    by_hash = reviewed.covers(row("moved.mp3", 0.9, content_hash=HASH), TODAY)
    assert by_path is not None and (by_path.decision, by_path.by) == ("human", "Kim")
    assert by_hash is not None and (by_hash.decision, by_hash.expires) == ("ai", dt.date(2026, 12, 31))
    assert reviewed.covers(row("b.mp3", 0.9), TODAY) is None
    assert reviewed.covers(row("b.mp3", 0.9, content_hash="cd" * 32), TODAY) is None


def test_the_bytes_count_more_than_the_path_and_the_last_line_counts(tmp_path: Path) -> None:
    reviewed = load_reviewed(
        reviewed_file(
            tmp_path, "a.mp3,,human,Kim,2026-02-01,", "a.mp3,,accepted,Kim,2026-02-03,", f",{HASH},ai,Ada,2026-02-02,"
        )
    )
    last = reviewed.covers(row("a.mp3", 0.9), TODAY)
    bytes_ = reviewed.covers(row("a.mp3", 0.9, content_hash=HASH), TODAY)
    assert last is not None and last.decision == "accepted"
    assert bytes_ is not None and bytes_.decision == "ai"


def test_a_decision_holds_through_its_last_day(tmp_path: Path) -> None:
    reviewed = load_reviewed(reviewed_file(tmp_path, "a.mp3,,human,Kim,2026-02-01,2026-02-28"))
    track = row("a.mp3", 0.9)
    assert reviewed.covers(track, dt.date(2026, 2, 28)) is not None
    assert reviewed.covers(track, dt.date(2026, 3, 1)) is None
    assert reviewed.lapsed([track], dt.date(2026, 3, 1)) == {"expired": 1}


def test_a_decision_on_a_path_ends_when_the_file_changes(tmp_path: Path) -> None:
    reviewed = load_reviewed(reviewed_file(tmp_path, "a.mp3,,human,Kim,2026-01-01,", f",{HASH},human,Kim,2026-01-01,"))
    replaced = row("a.mp3", 0.9, mtime_ns=NOON_2026 + 2 * DAY_NS)
    assert reviewed.covers(row("a.mp3", 0.9, mtime_ns=NOON_2026), TODAY) is not None
    assert reviewed.covers(replaced, TODAY) is None
    assert reviewed.lapsed([replaced], TODAY) == {"file changed since": 1}
    touched = row("b.mp3", 0.9, mtime_ns=NOON_2026 + 2 * DAY_NS, content_hash=HASH)
    assert reviewed.covers(touched, TODAY) is not None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (",,human,Kim,2026-01-01,", "line 2: neither a path nor a content hash"),
        ("a,12ab,human,Kim,2026-01-01,", "64 hexadecimal digits"),
        ("a,,guilty,Kim,2026-01-01,", "'guilty'; it must be one of human, ai, accepted"),
        ("a,,human,,2026-01-01,", "`by` must say who"),
        ("a,,human,Kim,01.02.2026,", "date is '01.02.2026'"),
        ("a,,human,Kim,2026-01-01,soon", "expires is 'soon'"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_reviewed(reviewed_file(tmp_path, line))


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="first line must name its columns"):
        load_reviewed(reviewed_file(tmp_path, "1,2", header="a,b\n"))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not CSV in UTF-8"):
        load_reviewed(tmp_path / "binary.csv")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_reviewed(tmp_path / "none.csv")


def test_a_summary_counts_decisions_openly(tmp_path: Path) -> None:
    rows = [
        row("/m/a/1.mp3", 0.95, verdict="flagged"),
        row("/m/a/2.mp3", 0.94, verdict="flagged"),
        row("/m/b/3.mp3", 0.93, verdict="flagged"),
        row("/m/b/4.mp3", 0.6, verdict="review"),
        row("/m/b/5.mp3", 0.1, verdict="clear"),
    ]
    report = load(sample_report(tmp_path / "r.parquet", rows, thresholds=Thresholds(0.9, 0.5)))
    reviewed = load_reviewed(
        reviewed_file(
            tmp_path,
            "/m/a/1.mp3,,human,Kim,2026-02-01,",
            "/m/a/2.mp3,,ai,Kim,2026-02-01,",
            "/m/b/3.mp3,,human,Kim,2026-02-01,2026-02-02",
            "/m/b/4.mp3,,accepted,Kim,2026-02-01,",
            "/m/b/5.mp3,,human,Kim,2026-02-01,",
        )
    )
    summary = summarise(report, reviewed=reviewed, today=TODAY)
    assert summary.reviewed is not None
    assert summary.reviewed.decided == {"human": 1, "ai": 1, "accepted": 1}
    assert summary.reviewed.lapsed == {"expired": 1}
    assert (summary.reviewed.open_flagged, summary.reviewed.open_review) == (1, 0)
    # The model's own verdicts stay what they are; a false alarm no longer counts against its folder.
    assert summary.verdicts == {"flagged": 3, "review": 1, "clear": 1}
    assert {g.name: g.flagged for g in summary.folders} == {"a": 1, "b": 1}
    assert summarise(report, today=TODAY).reviewed is None


def test_a_scan_writes_the_decisions_of_its_day_to_its_report(
    small_library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    """Without `--fail-on`; a later scan of unchanged files replaces them, also in a folder of parts."""

    def scan(*options: object) -> Result:
        words = [small_library, "--model", calibrated_model, "--threshold", "0", "--workers", "1", *options]
        done = CliRunner().invoke(scanner, [str(word) for word in words])
        assert done.exit_code == 0, done.stderr
        return done

    def decided(report: Path) -> dict[str, str | None]:
        return {Path(r.path).name: r.decision for r in load(report).rows if r.decision}

    for folder in ("a", "b"):
        for file in (small_library / folder).iterdir():
            os.utime(file, (1.7e9, 1.7e9))
    names = (f"{small_library}/a/1.wav,,human,Kim,2026-02-01,", f"{small_library}/a/2.flac,,unsure,Kim,2026-02-01,")
    lapsed = f"{small_library}/b/5.wav,,ai,Kim,2026-02-01,2026-02-02"
    first = reviewed_file(tmp_path, *names, lapsed, "gone.mp3,,ai,Kim,2026-02-01,", f"{small_library}/b/4.ogg,,,,,")
    one, parts = tmp_path / "r.parquet", tmp_path / "parts"
    said = scan("--reviewed", first, "--out", one)
    assert "decisions about tracks that this scan did not find: 1 (gone.mp3)" in said.stderr
    assert decided(one) == {"1.wav": "human", "2.flac": "unsure"}
    scan("--reviewed", first, "--out", f"{parts}/", "--since", one)
    assert decided(parts) == {"1.wav": "human", "2.flac": "unsure"}
    again = tmp_path / "s.parquet"
    assert "need --hash" not in said.stderr
    by_hash = reviewed_file(tmp_path, f",{'ab' * 32},human,Kim,2026-02-01,")
    assert "reviewed decisions by content hash need --hash" in scan("--reviewed", by_hash, "--out", one).stderr
    second = reviewed_file(tmp_path, f"{small_library}/a/3.mp3,,accepted,Kim,2026-02-01,")
    assert "carried  6 rows" in scan("--reviewed", second, "--out", again, "--since", parts).stderr
    assert decided(again) == {"3.mp3": "accepted"}
    out = CliRunner().invoke(scanner, [f"{small_library}/a/3.mp3", "--model", str(calibrated_model), "--out", "-",
                                       "--reviewed", str(second), "-q", "--workers", "1"])  # fmt: skip
    assert json.loads(out.stdout)["decision"] == "accepted"
