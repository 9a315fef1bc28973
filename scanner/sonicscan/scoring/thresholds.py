"""Thresholds that certify their false-positive rate, and p-values; pure functions.

The input is the scores of n tracks known to be by people. The Neyman-Pearson order statistic gives the lowest threshold
for which P(FPR > alpha) <= 0.05, for any distribution of scores. With too few tracks there is no such threshold, and
`InputError` says how many tracks are needed. Source: Tong, Feng and Li 2018, "Neyman-Pearson classification algorithms
and NP receiver operating characteristics".

A rate that is certified for all tracks together can be exceeded in one category of them. A calibration that tells
categories apart therefore certifies the rate in each category that has enough tracks. A scan determines the codec of a
track, so each codec class has a threshold of its own. It cannot determine the kind of music, so the highest threshold
of all kinds applies to every track. No category lowers a threshold: what is certified for all tracks stays certified.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from sonicscan.errors import InputError
from sonicscan.spec import Calibration, Category, Caught, ModelSpec, codec_class

Verdict = Literal["flagged", "review", "clear"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

DEFAULT_MAX_FPR = 0.01
CONFIDENCE = 0.95
CAUGHT_RATES = (0.01, 0.02, 0.05, 0.1)  # for which a model says how much AI it flags
REVIEW_FACTOR = 10.0  # `review` begins at the threshold of ten times the rate asked for
MAX_REVIEW_FPR = 0.1  # the certified share of tracks by people that get `review` or `flagged` is at most a tenth
HIGHEST_THRESHOLD = math.nextafter(1.0, math.inf)  # where a calibration track has the score 1: no score reaches it
P_VALUE_TRACKS = 299  # tracks of a category from which p-values are computed in it: those that certify 1%


@dataclass(frozen=True)
class ClassThresholds:
    """The thresholds of a codec class that certifies the rate by itself; never lower than those of all tracks.

    Attributes:
        name: the class.
        flagged, review: as in `Thresholds`.
        n: calibration tracks of the class.
    """

    name: str
    flagged: float
    review: float
    n: int


@dataclass(frozen=True)
class Thresholds:
    """Scores from which a track gets the verdict `flagged` or `review`.

    Attributes:
        flagged: score at or over which a track is `flagged`.
        review: score at or over which it is `review`; None where only one threshold was given.
        max_fpr: the certified false-positive rate of `flagged`; None where the user chose the score.
        classes: the codec classes with thresholds of their own.
    """

    flagged: float
    review: float | None = None
    max_fpr: float | None = None
    classes: tuple[ClassThresholds, ...] = ()

    def of(self, codec: str | None) -> Thresholds:
        """The thresholds of a track with this codec; `classes` holds the track's class alone, if it has its own."""
        if not self.classes:
            return self
        name = codec_class(codec)
        for found in self.classes:
            if found.name == name:
                return dataclasses.replace(self, flagged=found.flagged, review=found.review, classes=(found,))
        return dataclasses.replace(self, classes=())

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
    """The lowest score with P(FPR > alpha) <= 0.05 for `score >= threshold`, for all tracks and for each kind of music
    that has enough calibration tracks.

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
            f"ask for --max-fpr {_lowest_rate(n):.2g} or more, recalibrate the model, or set --threshold."
            if n >= tracks_needed(0.5)
            else f"a false-positive rate of {alpha:.3g} needs {needed} calibration tracks and the model has {n}; "
            "recalibrate the model, or set --threshold."
        )
    kinds = [category for category in calibration.categories if category.kind == "material" and category.n >= needed]
    return max([_order_statistic(calibration, alpha), *(_order_statistic(kind, alpha) for kind in kinds)])


def _order_statistic(tracks: Calibration | Category, alpha: float) -> float:
    """The threshold that the scores of enough tracks certify: it flags the most of them that are allowed."""
    n = tracks.n
    # Only the highest scores are stored: under them, the lowest stored one certifies even less than alpha.
    stored = len(tracks.scores)
    return math.nextafter(tracks.scores[stored - 1 - _most_flagged(n, alpha, stored - 1)], math.inf)


def _most_flagged(n: int, alpha: float, most: int) -> int:
    """The largest k up to `most` with P(at most k of n tracks lie over the quantile 1 - alpha) <= 0.05.

    A threshold that flags more of the n tracks could be below that quantile. The number of tracks over it is binomial.
    """
    k = np.arange(most, dtype=np.float64)
    log_odds = math.log(alpha) - math.log1p(-alpha)
    steps = np.log((n - k) / (k + 1.0)) + log_odds  # from each probability to the next, as a logarithm
    log_p = n * math.log1p(-alpha) + np.concatenate([[0.0], np.cumsum(steps)])
    return max(0, int(np.searchsorted(np.cumsum(np.exp(log_p)), 1.0 - CONFIDENCE, side="right")) - 1)


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

    With a `max_fpr` of 10% or more, no track gets the verdict `review`. A codec class with enough calibration tracks
    for `max_fpr` has thresholds of its own. Each certificate holds with 95% confidence by itself.

    Raises:
        InputError: too few calibration tracks for `max_fpr`.
    """
    review_fpr = min(REVIEW_FACTOR * max_fpr, max(MAX_REVIEW_FPR, max_fpr))
    flagged, review = (certified_threshold(calibration, rate) for rate in (max_fpr, review_fpr))
    classes = tuple(
        ClassThresholds(
            category.name,
            own := max(flagged, _order_statistic(category, max_fpr)),
            min(own, max(review, _order_statistic(category, review_fpr))),
            category.n,
        )
        for category in calibration.categories
        if category.kind == "codec" and category.n >= tracks_needed(max_fpr)
    )
    return Thresholds(flagged, min(flagged, review), max_fpr, classes)


def caught_at_rates(calibration: Calibration, measured: Sequence[Caught] = ()) -> tuple[Caught, ...]:
    """The shares of the calibration's AI tracks that the thresholds of the usual rates flag; empty without AI tracks.

    The thresholds are those of all tracks. Codec classes with higher ones of their own flag less.

    Args:
        calibration: scores of known tracks.
        measured: what was measured on these AI tracks, or on more of their generators, at other thresholds. The tracks
            of one generator are as alike at the new thresholds, so its effective numbers of tracks are kept.
    """
    effective = {entry.max_fpr: entry.effective_n for entry in measured if entry.effective_n is not None}
    fewest = min(effective.values(), default=math.inf)
    found = []
    for rate in certified_rates(calibration, CAUGHT_RATES):
        if rate.caught is not None:
            n = min(effective.get(rate.max_fpr, fewest), calibration.n_ai)
            found.append(Caught(rate.max_fpr, rate.caught, calibration.n_ai, n if effective else None))
    return tuple(found)


def caught_at(spec: ModelSpec, max_fpr: float | None) -> Caught | None:
    """How much AI the model flags at a certified rate; None if unknown."""
    for entry in spec.caught if max_fpr is not None else ():
        if math.isclose(entry.max_fpr, max_fpr or 0.0, rel_tol=1e-6):
            return entry
    return None


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


def p_value(score: float, calibration: Calibration, codec: str | None = None) -> float | None:
    """(1 + calibration tracks that score at least this high) / (n + 1); None without calibration.

    Valid whatever the score distribution: for a track by a person, drawn as the calibration tracks
    were, P(p <= a) <= a. The same holds in the track's codec class and in each kind of music that has
    `P_VALUE_TRACKS` calibration tracks: the largest of these values counts.

    Args:
        score: of the track.
        calibration: the model's.
        codec: of the track; None if unknown.
    """
    if not calibration.n:
        return None
    name = codec_class(codec)
    tracks: list[Calibration | Category] = [calibration]
    tracks += [
        category
        for category in calibration.categories
        if category.n >= P_VALUE_TRACKS and (category.kind == "material" or category.name == name)
    ]
    return max((1 + tracks_over(score, some)) / (some.n + 1) for some in tracks)


def smallest_p_value(calibration: Calibration) -> float | None:
    """The smallest value that `p_value` gives to a track of any codec; None without calibration."""
    if not calibration.n:
        return None
    kinds = [some.n for some in calibration.categories if some.kind == "material" and some.n >= P_VALUE_TRACKS]
    return 1 / (min([calibration.n, *kinds]) + 1)


def tracks_over(score: float, tracks: Calibration | Category) -> int:
    """How many tracks by people score at least this high; all of them under the lowest stored score."""
    stored = tracks.scores
    rank = bisect_left(stored, score)
    return len(stored) - rank if rank or len(stored) == tracks.n else tracks.n
