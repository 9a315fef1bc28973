"""Thresholds that certify their false-positive rate, and p-values; pure functions.

The input is the scores of n tracks known to be by people. The Neyman-Pearson order statistic gives the lowest threshold
for which P(FPR > alpha) <= 0.05, for any distribution of scores. With too few tracks there is no such threshold, and
`InputError` says how many tracks are needed. Source: Tong, Feng and Li 2018, "Neyman-Pearson classification algorithms
and NP receiver operating characteristics".
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import scipy.special

from sonicscan.errors import InputError
from sonicscan.spec import Calibration, Caught, ModelSpec

Verdict = Literal["flagged", "review", "clear"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

DEFAULT_MAX_FPR = 0.01
CONFIDENCE = 0.95
CAUGHT_RATES = (0.01, 0.02, 0.05, 0.1)  # for which a model says how much AI it flags
REVIEW_FACTOR = 10.0  # `review` begins at the threshold of ten times the rate asked for
MAX_REVIEW_FPR = 0.1  # the certified share of tracks by people that get `review` or `flagged` is at most a tenth


@dataclass(frozen=True)
class Thresholds:
    """Scores from which a track gets the verdict `flagged` or `review`.

    Attributes:
        flagged: score at or over which a track is `flagged`.
        review: score at or over which it is `review`; None where only one threshold was given.
        max_fpr: the certified false-positive rate of `flagged`; None where the user chose the score.
    """

    flagged: float
    review: float | None = None
    max_fpr: float | None = None

    def verdict(self, score: float) -> Verdict:
        """The verdict of a score."""
        if score >= self.flagged:
            return "flagged"
        if self.review is not None and score >= self.review:
            return "review"
        return "clear"


def tracks_needed(alpha: float) -> int:
    """The smallest number of known-human tracks that certifies a false-positive rate of `alpha` (1%: 299)."""
    return math.ceil(math.log(1.0 - CONFIDENCE) / math.log1p(-alpha))


def certified_threshold(calibration: Calibration, alpha: float) -> float:
    """The lowest score with P(FPR > alpha) <= 0.05 for `score >= threshold`.

    Args:
        calibration: scores of tracks known to be by people, drawn as the scanned ones are.
        alpha: false-positive rate, in (0, 1).

    Raises:
        InputError: too few tracks for that rate; the message says how many are needed.
    """
    if not 0.0 < alpha < 1.0:
        raise InputError(f"a false-positive rate lies between 0 and 1, not {alpha:g}.")
    n = calibration.n
    needed = tracks_needed(alpha)
    if n < needed:
        raise InputError(
            f"a false-positive rate of {alpha:.3g} needs {needed} calibration tracks and the model has {n}; "
            f"ask for --max-fpr {_lowest_rate(n):.2g} or more, recalibrate the model, or set --threshold yourself."
            if n >= tracks_needed(0.5)
            else f"a false-positive rate of {alpha:.3g} needs {needed} calibration tracks and the model has {n}; "
            "recalibrate the model, or set --threshold yourself."
        )
    ranks = np.arange(1, n + 1)
    # P(FPR > alpha) when flagging what exceeds the k-th smallest score: at least k of n fall under the quantile.
    violation = scipy.special.betainc(ranks, n - ranks + 1, 1.0 - alpha)
    rank = int(ranks[violation <= 1.0 - CONFIDENCE][0])
    # Only the highest scores are stored: under them, the lowest stored one certifies even less than alpha.
    index = max(0, rank - 1 - (n - len(calibration.scores)))
    return math.nextafter(calibration.scores[index], math.inf)


@dataclass(frozen=True)
class CertifiedRate:
    """A false-positive rate and the threshold that certifies it.

    Attributes:
        max_fpr: P(share of people's tracks that are flagged > max_fpr) <= 5%.
        threshold: score; None with too few calibration tracks.
        tracks_needed: calibration tracks that the rate needs.
        caught: share of the calibration's AI tracks that reach the threshold; None without a threshold or AI tracks.
    """

    max_fpr: float
    threshold: float | None
    tracks_needed: int
    caught: float | None


def certified_rates(calibration: Calibration, rates: Sequence[float]) -> list[CertifiedRate]:
    """What a calibration certifies at each of some false-positive rates."""
    found = []
    for rate in rates:
        needed = tracks_needed(rate)
        threshold = certified_threshold(calibration, rate) if calibration.n >= needed else None
        stored, caught = calibration.ai_scores, None
        if threshold is not None and stored:
            caught = (len(stored) - bisect_left(stored, threshold)) / len(stored)
        found.append(CertifiedRate(rate, threshold, needed, caught))
    return found


def _lowest_rate(n: int) -> float:
    """The smallest rate that `n` tracks certify, rounded up to two digits."""
    rate: float = -math.expm1(math.log(1.0 - CONFIDENCE) / n)
    step = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return math.ceil(rate / step) * step


def certified_thresholds(calibration: Calibration, max_fpr: float) -> Thresholds:
    """Thresholds for `flagged` at `max_fpr` and for `review` at ten times that rate, but at most at 10%.

    With a `max_fpr` of 10% or more, no track gets the verdict `review`.

    Raises:
        InputError: too few calibration tracks for `max_fpr`.
    """
    review_fpr = min(REVIEW_FACTOR * max_fpr, max(MAX_REVIEW_FPR, max_fpr))
    flagged = certified_threshold(calibration, max_fpr)
    return Thresholds(flagged, min(flagged, certified_threshold(calibration, review_fpr)), max_fpr)


def caught_at_rates(calibration: Calibration) -> tuple[Caught, ...]:
    """The shares of the calibration's AI tracks that the thresholds of the usual rates flag; empty without AI
    tracks."""
    rates = certified_rates(calibration, CAUGHT_RATES)
    return tuple(Caught(rate.max_fpr, rate.caught, calibration.n_ai) for rate in rates if rate.caught is not None)


def caught_at(spec: ModelSpec, max_fpr: float | None) -> tuple[float | None, int]:
    """The share of AI that the model flags at a certified rate, and on how many tracks; None and 0 if unknown."""
    for entry in spec.caught if max_fpr is not None else ():
        if math.isclose(entry.max_fpr, max_fpr or 0.0, rel_tol=1e-6):
            return entry.share, entry.n
    return None, 0


def why_not_certified(calibration: Calibration, thresholds: Thresholds, windows: str) -> str | None:
    """Why the false-positive rate of a scan is not certified, in a sentence (in lower case); None where it is.

    Args:
        calibration: the model's.
        thresholds: what the scan's verdicts come from.
        windows: the scan's window plan, as `WindowPlan` prints it.
    """
    if thresholds.max_fpr is None:
        return "the threshold was set by hand, and its false-positive rate is not certified."
    if windows != calibration.windows:
        return (
            f"the model was calibrated with --windows {calibration.windows}: with --windows {windows} its "
            "false-positive rate is not certified; recalibrate it on a scan with these windows."
        )
    return None


def p_value(score: float, calibration: Calibration) -> float | None:
    """(1 + calibration tracks that score at least this high) / (n + 1); None without calibration.

    Valid whatever the score distribution: for a track by a person, drawn as the calibration tracks
    were, P(p <= a) <= a.
    """
    if not calibration.n:
        return None
    stored = calibration.scores
    rank = bisect_left(stored, score)
    at_least = len(stored) - rank if rank or len(stored) == calibration.n else calibration.n
    return (1 + at_least) / (calibration.n + 1)
