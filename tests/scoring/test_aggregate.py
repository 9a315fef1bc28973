"""From logits to score, verdict columns and flagged ranges."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonicscan.scoring import aggregate
from sonicscan.scoring.likelihood import spec_for_windows
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import Calibration, ModelSpec

LAW = settings(derandomize=True, deadline=None, max_examples=200)
LOGIT = st.floats(-1e4, 1e4, width=32)
BINARY = ModelSpec("tiny")
FAMILIES = ModelSpec("tiny", classes=("human", "suno", "udio", "other"), unknown_below=0.5)


@LAW
@given(st.lists(st.lists(LOGIT, min_size=3, max_size=3), min_size=1, max_size=40), st.floats(0.1, 10), st.randoms())
def test_score_is_a_number_in_range_and_forgets_the_order(
    logits: list[list[float]], temperature: float, random: object
) -> None:
    margins = aggregate.window_margins(logits, temperature)
    expected = [
        (max(row[1:]) + math.log(sum(math.exp(v - max(row[1:])) for v in row[1:])) - row[0]) / temperature
        for row in logits
    ]
    np.testing.assert_allclose(margins, expected, rtol=1e-9, atol=1e-9)
    score = aggregate.score_of(aggregate.track_margin(margins))
    assert 0.0 <= score <= 1.0
    shuffled = list(margins)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert aggregate.score_of(aggregate.track_margin(shuffled)) == score


@LAW
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=60))
def test_trimmed_mean_drops_a_tenth_at_each_end(values: list[float]) -> None:
    cut = len(values) // 10
    kept = sorted(values)[cut : len(values) - cut]
    mean = float(aggregate.trimmed_mean(values))
    assert mean == pytest.approx(math.fsum(kept) / len(kept), abs=1e-9)
    assert min(values) - 1e-9 <= mean <= max(values) + 1e-9


def test_one_wild_window_in_ten_does_not_make_a_track() -> None:
    assert aggregate.track_margin([-3.0] * 9 + [1e6]) == -3.0
    assert aggregate.track_margin([-3.0] * 8 + [1e6]) > 1e4  # fewer than ten windows: nothing is cut


@LAW
@given(st.floats(-700, 36))
def test_margin_and_score_are_inverse(margin: float) -> None:
    assert aggregate.margin_of(aggregate.score_of(margin)) == pytest.approx(
        margin, rel=1e-9, abs=0.6 if margin > 30 else 2e-3
    )


def test_margins_at_the_ends() -> None:
    assert aggregate.margin_of(0.0) == -math.inf
    assert aggregate.margin_of(1.0) == aggregate.margin_of(1.0000000001) == math.inf
    assert aggregate.score_of(1e308) == 1.0
    assert aggregate.score_of(-1e308) == 0.0


@LAW
@given(st.lists(st.lists(LOGIT, min_size=4, max_size=4), min_size=1, max_size=12), st.floats(0, 1))
def test_class_scores_are_shares_of_the_score(logits: list[list[float]], score: float) -> None:
    scores = aggregate.class_scores(logits, FAMILIES, score)
    assert list(scores) == list(FAMILIES.classes)
    assert scores["human"] == 1.0 - score
    assert sum(scores.values()) == pytest.approx(1.0)
    assert min(scores.values()) >= 0.0


def test_attribution() -> None:
    sure = {"human": 0.1, "suno": 0.7, "udio": 0.1, "other": 0.1}
    torn = {"human": 0.1, "suno": 0.3, "udio": 0.3, "other": 0.3}
    none = {"human": 1.0, "suno": 0.0, "udio": 0.0, "other": 0.0}
    assert aggregate.attribution_of(sure, FAMILIES, "flagged") == "suno"
    assert aggregate.attribution_of(sure, FAMILIES, "review") == "suno"
    assert aggregate.attribution_of(sure, FAMILIES, None) == "suno"
    assert aggregate.attribution_of(torn, FAMILIES, "flagged") == "unknown"
    assert aggregate.attribution_of(none, FAMILIES, "flagged") == "unknown"
    assert aggregate.attribution_of(sure, FAMILIES, "clear") is None  # no generator is named for a clear track
    assert aggregate.attribution_of({"human": 0.1, "ai": 0.9}, BINARY, "flagged") is None


@LAW
@given(
    st.lists(st.tuples(st.integers(0, 600_000), st.floats(-10, 10)), min_size=1, max_size=40, unique_by=lambda p: p[0]),
    st.floats(0.5, 10),
    st.floats(0.01, 0.99),
)
def test_flagged_ranges_cover_exactly_the_windows_over_the_threshold(
    windows: list[tuple[int, float]], window_s: float, threshold: float
) -> None:
    windows.sort()
    starts, margins = [ms / 1000 for ms, _ in windows], [m for _, m in windows]
    ranges = aggregate.flagged_ranges(starts, margins, window_s, threshold)
    limit = aggregate.margin_of(threshold)
    for start, margin in zip(starts, margins, strict=True):
        if margin >= limit:
            assert any(r["start_s"] <= start and start + window_s <= r["end_s"] + 1e-9 for r in ranges)
    for r in ranges:
        assert any(s == r["start_s"] and m >= limit for s, m in zip(starts, margins, strict=True))
    for a, b in itertools.pairwise(ranges):
        assert a["end_s"] < b["start_s"]


def test_judgement_without_thresholds_accuses_nobody() -> None:
    columns = aggregate.judgement(0.99, [0.0], [4.6], BINARY, None)
    assert columns == {"verdict": None, "p_value": None, "log10_lr": None, "flagged_s": None, "flagged_ranges": None}


def test_judgement_of_an_untrained_model_has_no_p_value() -> None:
    spec = dataclasses.replace(BINARY, untrained=True, calibration=Calibration.of([0.1, 0.2]))
    assert aggregate.judgement(0.99, [0.0], [4.6], spec, None)["p_value"] is None


def test_judgement_with_thresholds() -> None:
    spec = dataclasses.replace(BINARY, calibration=Calibration.of([0.1, 0.2, 0.9]))
    columns = aggregate.judgement(0.8, [0.0, 5.0, 20.0], [3.0, 3.0, 3.0], spec, Thresholds(0.9, 0.7))
    assert columns["verdict"] == "review"
    assert columns["p_value"] == 0.5
    assert columns["flagged_s"] == pytest.approx(3 * spec.audio.window_s)
    assert [r["start_s"] for r in columns["flagged_ranges"]] == [0.0, 5.0, 20.0]  # type: ignore[attr-defined]


def test_a_likelihood_ratio_needs_both_classes_and_a_trained_model() -> None:
    rng = np.random.default_rng(0)
    calibration = Calibration.of(rng.beta(2, 5, 200).tolist(), ai_scores=rng.beta(5, 2, 200).tolist())
    spec = dataclasses.replace(BINARY, calibration=calibration)
    ratios = [aggregate.judgement(score, [0.0], [0.0], spec, None)["log10_lr"] for score in (0.1, 0.5, 0.9)]
    assert ratios[0] < -0.5 < ratios[1] < 0.5 < ratios[2] < np.log10(201)
    for other in (
        dataclasses.replace(spec, untrained=True),
        dataclasses.replace(spec, calibration=Calibration.of(calibration.scores)),
        spec_for_windows(spec, "all"),
    ):
        assert aggregate.judgement(0.9, [0.0], [0.0], other, None)["log10_lr"] is None
    assert spec_for_windows(spec, "12") is spec
