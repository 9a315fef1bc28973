"""Outcomes on the wire, and what several visits to one track add up to."""

from __future__ import annotations

import numpy as np
import pytest

from sonicscan.audio.windows import WindowPlan
from sonicscan.engine.outcome import Outcome, Reading
from sonicscan.engine.rows import next_visit
from sonicscan.engine.wire import Job
from sonicscan.errors import Status
from sonicscan.library.tracks import Track
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import AudioSpec, ModelSpec

ADAPTIVE = Job(AudioSpec(), WindowPlan.parse("adaptive", adaptive=True))


def outcome(status: Status, silent: int = 0, codec: str | None = None) -> Outcome:
    return Outcome(status=status, silent_windows=silent, elapsed_ms=1.0, whole_windows=36, codec=codec)


def part_after(reading: Reading) -> tuple[int, int] | None:
    visit = next_visit(Track(b"a", 0, 0), reading, ADAPTIVE, ModelSpec("tiny"), Thresholds(0.5))
    return None if visit is None else visit.part


def test_visits_add_up() -> None:
    logits = [np.array([0.0, k], dtype=np.float32) for k in range(3)]
    first = Reading().and_then(outcome("silent", 6, "a"), [], [])
    assert part_after(first) == (6, 9)
    second = first.and_then(outcome("ok", 1, "b"), [5.0, 10.0], logits[1:])
    assert second.outcome is not None
    assert (second.outcome.status, second.outcome.silent_windows, second.outcome.codec) == ("ok", 7, "b")
    third = second.and_then(outcome("silent", 3, "c"), [], [])
    assert third.outcome is not None
    assert (third.outcome.status, third.outcome.silent_windows, third.outcome.codec) == ("ok", 10, "b")
    last = third.and_then(outcome("ok", codec="d"), [0.0], logits[:1])
    assert list(last.starts_s) == [0.0, 5.0, 10.0]
    assert [float(logit[1]) for logit in last.logits] == [0.0, 1.0, 2.0]
    assert last.outcome is not None and last.outcome.elapsed_ms == 4.0
    assert last.windows == 13
    failed = last.and_then(outcome("vanished"), [], [])
    assert failed.outcome is not None
    assert (failed.outcome.status, list(failed.logits)) == ("vanished", [])
    assert part_after(failed) is None


def test_an_outcome_survives_the_wire() -> None:
    full = Outcome(status="truncated", error="it ends early.", duration_s=1.5, warnings=("short",), title="x")
    assert Outcome.from_header(full.to_header() | {"warnings": ["short"]}) == full


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        [],
        {"status": "human"},
        {"status": ["ok"]},
        {"status": "ok", "duration_s": "long"},
        {"status": "ok", "warnings": "short"},
        {"status": "ok", "whole_windows": 1.5},
        {"status": "ok", "title": 7},
    ],
)
def test_an_outcome_of_other_types_is_refused(nonsense: object) -> None:
    with pytest.raises(ValueError):
        Outcome.from_header(nonsense)
