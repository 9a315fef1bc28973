"""Which flags an audit prints, and which it records as printed."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import row

from sonicscan.analysis.delivered import Delivered, News, news
from sonicscan.analysis.moves import Content, moved
from sonicscan.analysis.reviewed import Decision, Reviewed
from sonicscan.errors import ReportError
from sonicscan.library.roots import Roots, respelled
from sonicscan.report.row import FileResult

ROOTS = Roots(((b"music/", b"/srv/music"),))


def track(name: str, score: float | None = 0.9, **fields: object) -> FileResult:
    """A row that is flagged from 0.5 on; each file has its own time of change."""
    given = {"mtime_ns": 1 + sum(name.encode()), "verdict": None if score is None else "clear"} | fields
    if score is not None and score >= 0.5:
        given["verdict"] = "flagged"
    return row(f"music/{name}", score, **given)


def told(found: News) -> list[str]:
    return [result.path.removeprefix("music/") for result in found.flagged]


def test_a_flag_is_new_once_whatever_becomes_of_its_file() -> None:
    nights = [
        ([track("a"), track("b", 0.2)], ["a"]),
        ([track("a"), track("b", 0.8)], ["b"]),
        ([track("b", 0.8)], []),  # a is away
        ([track("a", None), track("b", 0.8)], []),  # damaged
        ([track("a"), track("b", 0.8)], []),
        ([track("a", 0.3), track("b", 0.8)], []),  # replaced by something that is not flagged
        ([track("a", 0.7), track("b", 0.8)], ["a"]),
        ([track("c", 0.7, mtime_ns=1 + ord("a")), track("b", 0.8)], []),  # moved
        ([track("c", 0.7), track("b", 0.8), track("d", 0.7, mtime_ns=1 + ord("a"))], ["d"]),  # a copy
    ]
    record = Delivered()
    for rows, expected in nights:
        found = news(rows, record, ROOTS)
        assert told(found) == expected
        record = found.delivered


def test_a_decision_silences_a_flag_until_it_lapses() -> None:
    day = dt.date.today()
    decided = Reviewed({"music/a": Decision("music/a", "", "human", "Kim", day, None)})
    found = news([track("a")], Delivered(), ROOTS, decided)
    assert told(found) == [] and not found.delivered.tracks
    lapsed = Reviewed({"music/a": Decision("music/a", "", "human", "Kim", day, day - dt.timedelta(days=1))})
    assert told(news([track("a")], found.delivered, ROOTS, lapsed)) == ["a"]
    before = news([track("a")], Delivered(), ROOTS).delivered
    after = news([track("a")], before, ROOTS, decided).delivered
    assert told(news([track("a")], after, ROOTS, lapsed)) == ["a"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from([None, 0.1, 0.8]), max_size=4), max_size=12))
def test_whatever_happens_no_flag_is_lost_or_told_twice(nights: list[dict[str, float | None]]) -> None:
    record, standing = Delivered(), set[str]()
    for night in nights:
        found = news([track(name, score) for name, score in night.items()], record, ROOTS)
        flagged = {name for name, score in night.items() if score == 0.8}
        assert set(told(found)) == flagged - standing
        standing = (standing | flagged) - {name for name, score in night.items() if score == 0.1}
        record = found.delivered


def test_the_record_reads_back_and_strangers_cannot_forge_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.delivered.json"
    assert Delivered.read(path) == Delivered()
    kept = Delivered({b"/srv/caf\xe9\n.wav": Content("ab", 3, 4, 0.5), b"/srv/b": Content(None, -1, 0, None)})
    kept.write(path)
    assert Delivered.read(path) == kept
    for content in (b"", b"[]", b"{}", b'{"format": "sonicscan-delivered-1", "tracks": [{"size": 1}]}', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ReportError, match="move it away"):
            Delivered.read(path)
    if os.geteuid() == 0:
        kept.write(path)
        os.chown(path, 65534, 65534)
        with pytest.raises(ReportError, match="another user owns"):
            Delivered.read(path)


def test_moves_are_told_by_bytes_or_by_size_time_and_score() -> None:
    one = Content(None, 10, 20, 0.5)
    assert moved({"old": one}, {"new": one}) == {"new": "old"}
    for other in (
        Content(None, 11, 20, 0.5),
        Content(None, 10, 21, 0.5),
        Content(None, 10, 20, 0.6),
        Content(None, 10, 20, None),
    ):
        assert moved({"old": one}, {"new": other}) == {}
    assert moved({"old": one}, {"new": one, "copy": one}) == {}
    hashed = Content("aa", 10, 20, 0.5)
    assert moved({"old": hashed}, {"new": Content("aa", 10, 99, 0.1)}) == {"new": "old"}
    assert moved({"old": hashed}, {"new": Content("bb", 10, 20, 0.5)}) == {}
    assert moved({"old": hashed}, {"new": one}) == {"new": "old"}


def test_a_folder_is_recognised_under_another_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "library" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("library")
    monkeypatch.chdir(tmp_path)
    whole = os.fsencode(tmp_path / "library")
    for spelling, path in ((b"library", b"library/a"), (b"link", b"link/a"), (whole, whole + b"/a")):
        roots = Roots.of([spelling])
        assert roots.real(path) == whole + b"/a"
        assert respelled(roots.kept, roots) == {}
        assert not any(str(tmp_path) in digest for _, digest in roots.kept)
    assert respelled(Roots.of([b"link"]).kept, Roots.of([whole])) == {b"link/": whole + b"/"}
    monkeypatch.chdir(tmp_path / "library")
    assert Roots.of([b"."]).real(b"sub/a") == whole + b"/sub/a"
    assert respelled(Roots.of([b"."]).kept, Roots.of([whole])) == {b"": whole + b"/"}
    assert respelled([("library/", "0" * 32)], Roots.of([whole])) == {}
    assert Roots.of([b"/srv/x.mp3", b"s3://bucket/music"]).kept == ()
    assert Roots().real(b"s3://bucket/music/x.mp3") == b"s3://bucket/music/x.mp3"
