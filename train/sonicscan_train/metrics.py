"""Quality figures of scores: the seed's five figures, and those that a catalogue needs. Pure functions.

All functions take weights, because the bootstrap uses them: the weight of a track is how often its group was drawn with
replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from sonicscan.arrays import Bool, Float64

FPR_POINTS = (0.01, 0.05)
ECE_BINS = 10
BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Quality:
    """Figures of a binary detector; NaN where a class has no weight.

    Attributes:
        precision, recall, f1, specificity, accuracy: at score 0.5, as argmax gives them.
        auc: area under the ROC curve, ties counted half.
        tpr_at_1, tpr_at_5: highest recall on the same data with at most 1% / 5% of people's tracks flagged.
        ece: expected calibration error of the score in ten equal bins.
        cllr: cost of the scores' log-likelihood ratios in bits: 0 for perfect ones, 1 for uninformative ones.
    """

    precision: float
    recall: float
    f1: float
    specificity: float
    accuracy: float
    auc: float
    tpr_at_1: float
    tpr_at_5: float
    ece: float
    cllr: float


FIGURES = tuple(Quality.__dataclass_fields__)


def quality(truth: Bool, scores: Float64, weights: Float64 | None = None) -> Quality:
    """All figures at once.

    Args:
        truth: [n], True for AI.
        scores: [n], 0..1.
        weights: [n], at least 0; None is 1 each.
    """
    truth = np.asarray(truth, dtype=bool)
    scores = np.asarray(scores, dtype=np.float64)
    w = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    called = scores >= 0.5
    tp, fp = w[called & truth].sum(), w[called & ~truth].sum()
    fn, tn = w[~called & truth].sum(), w[~called & ~truth].sum()
    fpr, tpr, _ = roc(truth, scores, w)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Quality(
            precision=float(np.divide(tp, tp + fp)),
            recall=float(np.divide(tp, tp + fn)),
            f1=float(np.divide(2 * tp, 2 * tp + fp + fn)),
            specificity=float(np.divide(tn, tn + fp)),
            accuracy=float(np.divide(tp + tn, w.sum())),
            auc=float(np.trapezoid(tpr, fpr)),
            tpr_at_1=_tpr_at(fpr, tpr, FPR_POINTS[0]),
            tpr_at_5=_tpr_at(fpr, tpr, FPR_POINTS[1]),
            ece=expected_calibration_error(truth, scores, w),
            cllr=likelihood_ratio_cost(truth, scores, w),
        )


def roc(truth: Bool, scores: Float64, weights: Float64 | None = None) -> tuple[Float64, Float64, Float64]:
    """False- and true-positive rates for `score >= threshold`, from (0, 0) to (1, 1), and the thresholds.

    Rates are NaN where their class has no weight.
    """
    w = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    truth, scores, w = truth[order], scores[order], w[order]
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else np.empty(0, dtype=np.intp)
    with np.errstate(divide="ignore", invalid="ignore"):
        tpr = np.cumsum(w * truth)[last] / w[truth].sum()
        fpr = np.cumsum(w * ~truth)[last] / w[~truth].sum()
    return np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr]), np.concatenate([[np.inf], scores[last]])


def auc(truth: Bool, scores: Float64, weights: Float64 | None = None) -> float:
    """Area under the ROC curve; NaN where there is only one class."""
    fpr, tpr, _ = roc(np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64), weights)
    return float(np.trapezoid(tpr, fpr))


def group_weights(groups: Sequence[str]) -> Float64:
    """Weights that make every group count as much as any other: 1 / its size."""
    _, inverse, counts = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    weights: Float64 = 1.0 / counts[inverse]
    return weights


def expected_calibration_error(truth: Bool, scores: Float64, weights: Float64 | None = None) -> float:
    """Mean distance between score and share of AI, over ten equal bins of the score (Naeini et al. 2015)."""
    w = np.ones(len(scores)) if weights is None else weights
    bins = np.minimum((scores * ECE_BINS).astype(int), ECE_BINS - 1)
    gap = np.bincount(bins, w * (truth - scores), ECE_BINS)
    total = w.sum()
    return float(np.abs(gap).sum() / total) if total else float("nan")


def likelihood_ratio_cost(truth: Bool, scores: Float64, weights: Float64 | None = None) -> float:
    """Cllr of the margins of scores, both classes weighing the same; NaN where a class has no weight.

    Brümmer and du Preez 2006, "Application-independent evaluation of speaker detection".
    """
    w = np.ones(len(scores)) if weights is None else weights
    tiny = np.finfo(np.float64).tiny
    bits = -np.log2(np.maximum(np.where(truth, scores, 1.0 - scores), tiny))
    with np.errstate(divide="ignore", invalid="ignore"):
        halves = [np.divide(np.sum((w * bits)[of]), np.sum(w[of])) for of in (truth, ~truth)]
    return float(sum(halves) / 2.0)


def effective_number(hits: Bool, clusters: Sequence[str]) -> float:
    """The number of independent tracks that would give the share of `hits` with the precision of these clusters.

    The share's variance is that of a ratio of sums over clusters (Cochran 1977, "Sampling Techniques", 9A.1). Where it
    is zero, such as for a share of 0 or 1, each cluster counts once.

    Args:
        hits: [tracks], at least one.
        clusters: what each track is of, such as its generator.
    """
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    n, share = len(hits), float(np.mean(hits))
    errors = np.bincount(index, weights=hits.astype(np.float64) - share)
    number = len(errors)
    variance = number / max(1, number - 1) * float(np.sum(errors**2)) / n**2
    if number < 2 or variance <= 0.0:
        return float(number)
    return min(float(n), max(1.0, share * (1.0 - share) / variance))


def bootstrap(
    figures: Callable[[Float64], Sequence[float]], groups: Sequence[str], n: int = BOOTSTRAPS, seed: int = 0
) -> npt.NDArray[np.float64]:
    """95% intervals of figures, by drawing groups with replacement.

    Tracks of one group are similar, so drawing tracks would give intervals that are too narrow.

    Args:
        figures: the figures for given weights of the tracks.
        groups: the tracks' groups.

    Returns:
        float64 [figures, 2], low and high; NaN where half of the draws give no figure.
    """
    names, inverse = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=n)
    values = np.array([figures(counts[inverse].astype(np.float64)) for counts in drawn])
    intervals = np.full((values.shape[1], 2), np.nan)
    for i, column in enumerate(values.T):
        finite = column[np.isfinite(column)]
        if len(finite) >= n / 2:
            intervals[i] = np.quantile(finite, [0.025, 0.975])
    return intervals


def quality_with_intervals(
    truth: Bool, scores: Float64, groups: Sequence[str], n: int = BOOTSTRAPS, seed: int = 0
) -> dict[str, dict[str, float | None]]:
    """Every figure as `{"value", "low", "high"}`, with 95% bootstrap intervals over groups; None for NaN."""
    values = asdict(quality(truth, scores))
    intervals = bootstrap(lambda w: list(asdict(quality(truth, scores, w)).values()), groups, n, seed)
    return {
        name: {"value": finite(value), "low": finite(low), "high": finite(high)}
        for (name, value), (low, high) in zip(values.items(), intervals, strict=True)
    }


def finite(value: float) -> float | None:
    """`value` for JSON, which has no NaN."""
    return float(value) if np.isfinite(value) else None


def _tpr_at(fpr: Float64, tpr: Float64, limit: float) -> float:
    if np.isnan(fpr).any() or np.isnan(tpr).any():
        return float("nan")
    return float(tpr[fpr <= limit + 1e-12].max())
