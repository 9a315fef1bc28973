"""Shares, intervals and false discoveries; pure functions, checked against simulations.

The true share of AI in a catalogue differs from the flagged share: some flags are false, and some AI tracks are not
flagged. Rogan and Gladen (1978, "Estimating prevalence from the results of a screening test") correct for both: share =
(flagged - FPR) / (TPR - FPR). The interval includes the uncertainty of all three rates; each is drawn from its Beta
distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sonicscan.arrays import Float64
from sonicscan.scoring.thresholds import Thresholds, caught_at, tracks_over
from sonicscan.spec import ModelSpec

_DRAWS = 40_000
_LOW, _HIGH = 0.025, 0.975
_Z = 1.959964
_ALMOST_ALL = 0.999
TOO_WIDE = 0.5  # of the possible range: a wider interval is not shown
LISTEN = "listen to a sample: sonicscan-report sample"


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ErrorRates:
    """The model's error rates at the threshold of a report.

    Attributes:
        false_flags: calibration tracks (by people) that reach the threshold.
        n_human: calibration tracks in all.
        tpr: share of known-AI tracks that reach it; None if the model does not state it.
        n_ai: known-AI tracks that `tpr` was measured on.
        effective_n_ai: number of independent tracks that would give `tpr` with the same precision.
    """

    false_flags: int
    n_human: int
    tpr: float | None
    n_ai: int
    effective_n_ai: float

    @property
    def fpr(self) -> float:
        """Expected false-positive rate.

        At a threshold that is an order statistic of the calibration scores the true rate is
        Beta(k + 1, n - k); this is its mean.
        """
        return (self.false_flags + 1) / (self.n_human + 1)


def error_rates(spec: ModelSpec, thresholds: Thresholds) -> ErrorRates | None:
    """The model's error rates at the threshold for `flagged` of all tracks; None for an uncalibrated model.

    The true-positive rate is the model's `caught` at the report's certified rate. It is left out where the user chose
    the threshold: a rate that was measured at another threshold does not apply.
    """
    n = spec.calibration.n
    if spec.untrained or not n:
        return None
    over = tracks_over(thresholds.flagged, spec.calibration)
    caught = caught_at(spec, thresholds.max_fpr)
    if caught is None:
        return ErrorRates(over, n, None, 0, 0.0)
    return ErrorRates(over, n, caught.share, caught.n, caught.independent_n)


def wilson(hits: int, n: int) -> Estimate:
    """A proportion with Wilson's 95% interval (1927); `n` is at least 1."""
    share = hits / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # The ends are exact at 0 and n hits; rounding must not move them past the share itself.
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


@dataclass(frozen=True)
class Shares:
    """Estimates about a whole catalogue from its flags.

    Attributes:
        ai_share: estimated share of AI among the assessed tracks, 0..1; None if it cannot be estimated.
        false_flags: expected number of flagged tracks that are by people; its interval includes chance. None without
            `ai_share`, or if it cannot be estimated.
        chance_flags: how many tracks would be flagged on average if every one were by a person; None if unknown.
        why_not: why there is no `ai_share`, in a sentence.
    """

    ai_share: Estimate | None
    false_flags: Estimate | None
    chance_flags: float | None
    why_not: str | None


def shares(flagged: int, assessed: int, rates: ErrorRates) -> Shares:
    """Estimated share of AI (Rogan-Gladen) and expected false flags, each with a 95% interval.

    A figure is left out unless its interval is narrower than half of the possible range.

    Args:
        flagged: tracks that the model flagged, whatever people decided about them later.
        assessed: tracks that have a score.
        rates: the model's error rates at the threshold.

    Both figures assume three things. The tracks by people resemble those of the calibration. The AI tracks resemble
    those of the measured true-positive rate. Tracks are independent, except that those of the true-positive rate count
    as `effective_n_ai`.
    """
    rng = np.random.default_rng(0)
    k, n = rates.false_flags, rates.n_human
    fpr = rng.beta(k + 1, max(n - k, 1e-9), _DRAWS)
    caught = (rates.tpr or 0.0) * rates.effective_n_ai
    tpr = rng.beta(caught + 0.5, rates.effective_n_ai - caught + 0.5, _DRAWS)
    by_chance = assessed * rates.fpr
    if rates.tpr is None:
        return Shares(None, None, by_chance, "the model does not say how much AI it catches at this threshold")
    if not assessed:
        return Shares(None, None, by_chance, "no track could be assessed")
    # If both rates are nearly equal, the divisor is near zero and the share is arbitrary.
    if float(np.quantile(tpr - fpr, _LOW)) <= 0.0:
        why = "at this threshold the model has not been shown to flag AI more often than tracks by people"
        return Shares(None, None, by_chance, why)
    seen = rng.beta(flagged + 0.5, assessed - flagged + 0.5, _DRAWS)
    share = float(_rogan_gladen(np.asarray(flagged / assessed), np.asarray(rates.fpr), np.asarray(rates.tpr)))
    drawn = _rogan_gladen(seen, fpr, tpr)
    spread = _interval(share, drawn)
    estimate = Estimate(spread.value, spread.low, max(spread.high, 1.0 / assessed))
    if float(np.quantile(drawn, _ALMOST_ALL)) <= 0.0:
        why = f"fewer tracks were flagged than would be by chance, so these differ from the calibration; {LISTEN}"
        return Shares(None, None, by_chance, why)
    if estimate.high - estimate.low >= TOO_WIDE:
        flags = "1 flag" if flagged == 1 else f"{flagged:,} flags"
        return Shares(None, None, by_chance, f"with {flags} its interval is too wide; {LISTEN}")
    expected = min((1.0 - share) * rates.fpr * assessed, float(flagged))
    false = _interval(expected, np.minimum(rng.poisson((1.0 - drawn) * fpr * assessed), flagged))
    return Shares(estimate, false if false.high - false.low < TOO_WIDE * flagged else None, by_chance, None)


def _rogan_gladen(flagged: Float64, fpr: Float64, tpr: Float64) -> Float64:
    """True share from the flagged share, kept in 0..1."""
    return np.clip((flagged - fpr) / np.maximum(tpr - fpr, 1e-9), 0.0, 1.0)


def _interval(value: float, draws: npt.NDArray[Any]) -> Estimate:
    low, high = np.quantile(draws, [_LOW, _HIGH])
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def benjamini_hochberg(p_values: Sequence[float], fdr: float) -> int:
    """Number of the smallest p-values that are discoveries at a false-discovery rate.

    Benjamini and Hochberg (1995). It holds for these p-values although all come from the same
    calibration tracks: they are positively dependent (Bates et al. 2023, "Testing for outliers with
    conformal p-values").

    Args:
        p_values: of all assessed tracks, in any order.
        fdr: the largest accepted mean share of false discoveries, in (0, 1).
    """
    ordered = np.sort(np.asarray(p_values, dtype=np.float64))
    passing = np.flatnonzero(ordered <= fdr * np.arange(1, len(ordered) + 1) / max(1, len(ordered)))
    return int(passing[-1]) + 1 if len(passing) else 0


def smallest_batch(assessed: int, smallest_p: float, fdr: float) -> int:
    """How many tracks must share the smallest possible p-value before any can be a discovery.

    With few calibration tracks and a large catalogue, no track can stand out alone.
    """
    return max(1, math.ceil(assessed * smallest_p / fdr - 1e-9))


def prediction_powered(parts: Sequence[tuple[Float64, Float64, Float64]]) -> Estimate | None:
    """Share of AI: the mean score of all tracks, corrected by the mean error of a random sample in each stratum.

    It is valid for any scores. Sources: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic 2023, "Prediction-powered
    inference"; Angelopoulos, Duchi and Zrnic 2023, "PPI++", for the weight.

    Args:
        parts: for each stratum the scores of all tracks, the scores of the decided tracks, and their labels (1 for AI).

    Returns:
        None with fewer than two decided tracks in a stratum that has more.
    """
    if any(len(labels) < min(2, len(scores)) for scores, _, labels in parts):
        return None
    total = sum(len(scores) for scores, _, _ in parts)
    # The weight of the scores that gives the smallest variance: their regression coefficient within strata.
    spread = sum(len(s) ** 2 / len(y) * float(np.var(f)) for s, f, y in parts)
    shared = sum(len(s) ** 2 / len(y) * float(np.mean((f - f.mean()) * (y - y.mean()))) for s, f, y in parts)
    weight = min(1.0, max(0.0, shared / spread)) if spread else 0.0
    value = variance = 0.0
    for scores, predicted, labels in parts:
        errors = labels - weight * predicted
        share, n, size = len(scores) / total, len(labels), len(scores)
        value += share * (weight * float(scores.mean()) + float(errors.mean()))
        # A sample of equal labels has no variance. One more track, half of each kind, avoids that.
        mean = (labels.sum() + 0.5) / (n + 1.0)
        within = max(
            float(np.var(errors, ddof=1)) if n > 1 else 0.0, mean * (1.0 - mean) if np.ptp(labels) == 0 else 0.0
        )
        variance += share**2 * within / n * (1.0 - n / size)
    half = _Z * float(np.sqrt(variance))
    return Estimate(min(1.0, max(0.0, value)), max(0.0, value - half), min(1.0, value + half))
