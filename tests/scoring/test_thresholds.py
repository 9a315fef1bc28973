"""The Neyman-Pearson threshold against an independent computation, a simulation, and its own promise."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonicscan.errors import InputError
from sonicscan.scoring.thresholds import Thresholds, certified_threshold, certified_thresholds, p_value, tracks_needed
from sonicscan.spec import MAX_STORED_SCORES, Calibration

LAW = settings(derandomize=True, deadline=None, max_examples=150)


def rank_by_hand(n: int, alpha: float) -> int | None:
    """Smallest k with P(Binomial(n, 1 - alpha) >= k) <= 0.05, in whole numbers and logarithms only."""
    tail, rank = 0.0, None
    for k in range(n, 0, -1):
        log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        tail += math.exp(log_choose + k * math.log1p(-alpha) + (n - k) * math.log(alpha))
        if tail > 0.05:
            break
        rank = k
    return rank


@LAW
@given(st.integers(1, 1500), st.floats(0.002, 0.6))
def test_rank_is_that_of_the_binomial_tail(n: int, alpha: float) -> None:
    scores = [(k + 0.5) / n for k in range(n)]
    rank = rank_by_hand(n, alpha)
    assert (rank is None) == (n < tracks_needed(alpha))
    if rank is None:
        with pytest.raises(InputError, match=f"needs {tracks_needed(alpha)} calibration tracks"):
            certified_threshold(Calibration.of(scores), alpha)
    else:
        assert certified_threshold(Calibration.of(scores), alpha) == math.nextafter(scores[rank - 1], 2.0)


def test_published_sample_sizes() -> None:
    assert tracks_needed(0.05) == 59  # Tong, Feng and Li 2018
    assert tracks_needed(0.01) == 299
    assert tracks_needed(0.001) == 2995


@pytest.mark.parametrize(("n", "alpha"), [(299, 0.01), (500, 0.02), (800, 0.05)])
def test_simulated_violations_are_at_most_one_in_twenty(n: int, alpha: float) -> None:
    """Scores uniform in 0..1, so that the true false-positive rate of a threshold t is 1 - t."""
    random = np.random.default_rng(1)
    draws = 3000
    rates = [1.0 - certified_threshold(Calibration.of(random.random(n).tolist()), alpha) for _ in range(draws)]
    broken = float(np.mean(np.array(rates) > alpha))
    assert broken <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)
    assert broken >= 0.01  # as low as certified, but no lower than it need be
    assert np.mean(rates) > 0.2 * alpha


def test_few_stored_scores_never_certify_less_than_asked() -> None:
    n = 5 * MAX_STORED_SCORES
    calibration = Calibration.of([(k + 0.5) / n for k in range(n)])
    rank = rank_by_hand(n, 0.01)
    assert rank is not None
    assert certified_threshold(calibration, 0.01) == math.nextafter((rank - 0.5) / n, 2.0)
    # The order statistic for 50% was not kept: the lowest stored one is higher, so it flags fewer.
    assert certified_threshold(calibration, 0.5) == math.nextafter(calibration.scores[0], 2.0)


def test_ties_and_perfect_scores_are_not_flagged() -> None:
    tied = Calibration.of([0.3] * 400)
    assert Thresholds(certified_threshold(tied, 0.01)).verdict(0.3) == "clear"
    perfect = Calibration.of([1.0] * 400)
    assert Thresholds(certified_threshold(perfect, 0.01)).verdict(1.0) == "clear"


@LAW
@given(st.lists(st.floats(0, 1), min_size=299, max_size=700), st.floats(0.0101, 0.5))
def test_review_begins_at_or_below_flagged(scores: list[float], max_fpr: float) -> None:
    thresholds = certified_thresholds(Calibration.of(scores), max_fpr)
    assert thresholds.review is not None
    assert thresholds.review <= thresholds.flagged
    assert thresholds.max_fpr == max_fpr
    order = ["clear", "review", "flagged"]
    verdicts = [order.index(thresholds.verdict(s)) for s in np.linspace(0, 1, 50)]
    assert verdicts == sorted(verdicts)


@pytest.mark.parametrize(("max_fpr", "review_fpr"), [(0.001, 0.01), (0.01, 0.1), (0.05, 0.1), (0.2, 0.2)])
def test_no_more_than_a_tenth_of_human_tracks_is_up_for_review(max_fpr: float, review_fpr: float) -> None:
    calibration = Calibration.of([k / 4000 for k in range(4000)])
    thresholds = certified_thresholds(calibration, max_fpr)
    assert thresholds.review == certified_threshold(calibration, review_fpr)


@LAW
@given(st.lists(st.floats(0, 1), min_size=400, max_size=600), st.lists(st.floats(0.01, 0.9), min_size=2, max_size=5))
def test_asking_for_less_error_never_lowers_the_threshold(scores: list[float], rates: list[float]) -> None:
    calibration = Calibration.of(scores)
    thresholds = [certified_threshold(calibration, alpha) for alpha in sorted(rates)]
    assert all(a >= b for a, b in pairwise(thresholds))


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_a_rate_outside_0_to_1_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        certified_threshold(Calibration.of([0.5] * 500), alpha)


def test_too_few_tracks_says_what_would_do() -> None:
    with pytest.raises(InputError, match=r"needs 299 .* has 100; ask for --max-fpr 0\.03 or more"):
        certified_threshold(Calibration.of([0.1] * 100), 0.01)
    with pytest.raises(InputError, match=r"needs 299 .* has 3; recalibrate"):
        certified_threshold(Calibration.of([0.1] * 3), 0.01)


@LAW
@given(st.integers(5, 3000))
def test_the_rate_it_proposes_can_be_certified(n: int) -> None:
    calibration = Calibration.of([0.1] * n)
    with pytest.raises(InputError) as refused:
        certified_threshold(calibration, 1e-6)
    certified_threshold(calibration, float(str(refused.value).split("--max-fpr ")[1].split()[0]))


@LAW
@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.floats(0, 1))
def test_p_value_counts_the_scores_at_least_as_high(scores: list[float], score: float) -> None:
    expected = (1 + sum(s >= score for s in scores)) / (len(scores) + 1)
    assert p_value(score, Calibration.of(scores)) == expected


def test_p_value_of_a_cut_calibration_errs_towards_innocence() -> None:
    n = 2 * MAX_STORED_SCORES
    scores = [(k + 0.5) / n for k in range(n)]
    calibration = Calibration.of(scores)
    for score in (0.6, 0.75, 0.99, 1.0):
        assert p_value(score, calibration) == (1 + sum(s >= score for s in scores)) / (n + 1)
    assert p_value(0.2, calibration) == 1.0


def test_p_values_of_humans_are_valid() -> None:
    """P(p <= a) <= a over calibration and track drawn alike."""
    random = np.random.default_rng(5)
    values = [p_value(float(random.beta(1, 9)), Calibration.of(random.beta(1, 9, 60).tolist())) for _ in range(4000)]
    for a in (0.02, 0.05, 0.1, 0.5):
        assert np.mean(np.array(values) <= a) <= a + 3 * math.sqrt(a * (1 - a) / 4000)


def test_no_calibration_no_p_value() -> None:
    assert p_value(0.99, Calibration()) is None
