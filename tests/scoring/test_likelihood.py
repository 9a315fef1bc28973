"""Likelihood ratios against known distributions and against the Netherlands Forensic Institute's `lir`."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.special
from lir.algorithms.bayeserror import elub
from lir.algorithms.logistic_regression import LogitCalibrator
from lir.data.models import LLRData
from lir.metrics import cllr

from sonicscan.scoring.likelihood import (
    MIN_TRACKS,
    LikelihoodScale,
    empirical_bounds,
    likelihood_scale,
    log10_lr,
    posterior,
    verbal,
)
from sonicscan.spec import Calibration

Float64 = npt.NDArray[np.float64]
SEPARATION = 2.5  # of two normal distributions of deviation 1: log LR = SEPARATION x value


def draw(n: int, n_ai: int, seed: int, slope: float = 1.0, shift: float = 0.0) -> tuple[Float64, Float64]:
    """Margins of tracks by people and of AI whose true log-likelihood ratio is slope x margin + shift."""
    rng = np.random.default_rng(seed)
    values = rng.normal(-SEPARATION / 2, 1.0, n), rng.normal(SEPARATION / 2, 1.0, n_ai)
    human, ai = ((SEPARATION * v - shift) / slope for v in values)
    return human, ai


def calibration_of(human: Float64, ai: Float64) -> Calibration:
    return Calibration.of(scipy.special.expit(human).tolist(), ai_scores=scipy.special.expit(ai).tolist())


def scale_of(human: Float64, ai: Float64) -> LikelihoodScale:
    scale = likelihood_scale(calibration_of(human, ai))
    assert scale is not None
    return scale


def log10_lrs(scale: LikelihoodScale, margins: Float64) -> Float64:
    return np.array([scale.log10_lr(float(s)) for s in scipy.special.expit(margins)])


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.5, 1.5), (2.0, -3.0)])
def test_ratios_are_those_of_the_distributions_they_come_from(slope: float, shift: float) -> None:
    scale = scale_of(*draw(1500, 1200, 1, slope, shift))
    assert scale.slope == pytest.approx(slope, rel=0.1) and scale.shift == pytest.approx(shift, abs=0.3)
    for true in (-1.0, 0.0, 1.0):
        margin = (true * math.log(10) - shift) / slope
        assert scale.log10_lr(float(scipy.special.expit(margin))) == pytest.approx(true, abs=0.15)


def test_ratios_of_fresh_tracks_cost_what_the_true_ratios_cost() -> None:
    """Cllr, by `lir`: 0 for perfect ratios, 1 for uninformative ratios."""
    scale = scale_of(*draw(600, 400, 2))
    human, ai = draw(5000, 5000, 3)
    margins, labels = np.concatenate([human, ai]), np.repeat([0, 1], 5000)
    ours = cllr(LLRData(features=log10_lrs(scale, margins), labels=labels))
    true = cllr(LLRData(features=margins / math.log(10), labels=labels))
    assert 0.3 < true < 0.5 and ours == pytest.approx(true, abs=0.01)


def test_a_ratio_holds_for_as_many_tracks_as_it_says() -> None:
    """Among fresh tracks of one ratio, AI is as many times as frequent as the ratio: the meaning of the word."""
    scale = scale_of(*draw(1500, 1500, 4))
    human, ai = (log10_lrs(scale, m) for m in draw(40_000, 40_000, 5))
    for low, high in ((-1.0, -0.5), (-0.2, 0.2), (0.5, 1.0), (1.0, 1.5)):
        counts = [np.sum((low <= v) & (v < high)) for v in (human, ai)]
        assert np.log10(counts[1] / counts[0]) == pytest.approx((low + high) / 2, abs=0.2)


def test_line_and_bounds_are_those_of_lir() -> None:
    for seed, n, n_ai in ((6, 400, 150), (7, 1999, 60), (8, 60, 900)):
        human, ai = draw(n, n_ai, seed)
        scale = scale_of(human, ai)
        margins, labels = np.concatenate([human, ai]), np.repeat([0, 1], [n, n_ai])
        theirs = LogitCalibrator(C=1e9).fit(margins.reshape(-1, 1), labels)._logit
        assert scale.slope == pytest.approx(float(theirs.coef_[0, 0]), rel=1e-3)
        assert scale.shift == pytest.approx(float(theirs.intercept_[0]), abs=1e-3)
        plain = (scale.slope * margins + scale.shift) / math.log(10)
        low, high = elub(plain.copy(), labels)
        assert (scale.low, scale.high) == pytest.approx((low, high), abs=0.0101)


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_no_ratio_goes_beyond_the_number_of_tracks(n: int) -> None:
    """Classes that never overlap: the tracks alone would support any ratio."""
    rng = np.random.default_rng(9)
    scale = scale_of(rng.normal(-20, 1, n), rng.normal(20, 1, 3 * n))
    assert 0.5 * n < 10**scale.high <= (n + 1) * 1.05
    assert 10**-scale.low <= (3 * n + 1) * 1.05
    assert scale.log10_lr(1.0) == scale.high and scale.log10_lr(0.0) == scale.low
    assert scale.low < scale.log10_lr(0.5) < scale.high


def test_a_line_that_overstates_is_bounded() -> None:
    """1% of people's tracks score as high as AI: the true ratio never exceeds 100, whatever the regression gives."""
    rng = np.random.default_rng(10)
    over = []
    for _ in range(40):
        human = np.where(rng.random(1000) < 0.01, rng.normal(6, 1, 1000), rng.normal(-3, 1.5, 1000))
        over.append(scale_of(human, rng.normal(6, 1, 300)).log10_lr(1.0))
    assert np.mean(np.array(over) > 2.3) <= 0.1 and np.median(over) <= 2.05


def test_a_model_that_tells_nothing_apart_says_nothing() -> None:
    rng = np.random.default_rng(11)
    scale = scale_of(rng.normal(0, 2, 500), rng.normal(0, 2, 500))
    assert np.abs(log10_lrs(scale, np.linspace(-8, 8, 9))).max() < math.log10(2)


def test_of_many_tracks_the_lower_scores_count_as_the_tracks_that_they_stand_for() -> None:
    human, ai = draw(12_000, 5000, 12)
    scale = scale_of(human, ai)
    assert scale.n_human == 12_000
    assert (scale.slope, scale.shift) == pytest.approx((1.0, 0.0), abs=0.05)


def test_too_few_tracks_or_half_of_the_scores_give_no_ratio() -> None:
    human, ai = draw(MIN_TRACKS, MIN_TRACKS, 13)
    assert likelihood_scale(calibration_of(human, ai)) is not None
    assert likelihood_scale(calibration_of(human[1:], ai)) is None
    assert log10_lr(0.9, calibration_of(human, ai[1:])) is None
    cut = Calibration(tuple([0.5] * 2000), 3000, ai_scores=tuple(sorted(scipy.special.expit(ai))), n_ai=len(ai))
    assert likelihood_scale(cut) is None


def test_bounds_by_hand() -> None:
    """Nine tracks of each class, separated by LR 1000: nine tracks support a ratio of about nine."""
    lrs, truth = np.repeat([-3.0, 3.0], 9), np.repeat([False, True], 9)
    low, high = empirical_bounds(lrs, truth, np.ones(18))
    # At the limit t: missed 1/10 + t x false 1/10 <= 1, so t <= 9.
    assert (low, high) == pytest.approx((-math.log10(9), math.log10(9)), abs=0.011)


def test_words_of_the_scale_and_a_posterior_by_hand() -> None:
    assert [verbal(v).split(" support")[0] for v in (0.4, 1.5, 2.0, 3.5, 5.0, 7.0)] == [
        "weak", "moderate", "moderately strong", "strong", "very strong", "extremely strong",
    ]  # fmt: skip
    assert verbal(0.2) == verbal(-0.3) == "the score supports neither proposition over the other"
    assert "made by a person" in verbal(-1.2) and "generated by AI" in verbal(1.2)
    assert posterior(1.0, 0.01) == pytest.approx(0.01 * 10 / (0.01 * 10 + 0.99))
