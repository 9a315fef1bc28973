"""Computes a track's score, verdict and flagged ranges from window logits; pure functions, float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sonicscan.arrays import Float64
from sonicscan.scoring.likelihood import log10_lr
from sonicscan.scoring.odds import logit, logsumexp, sigmoid, softmax
from sonicscan.scoring.thresholds import Thresholds, Verdict, p_value
from sonicscan.spec import ModelSpec

TRIM = 0.1  # share of windows dropped at each end before the mean
UNKNOWN = "unknown"


def window_margins(logits: npt.ArrayLike, temperature: float, offset: float = 0.0) -> Float64:
    """Evidence for "not by a person" in each window, in log-odds.

    Args:
        logits: [windows, classes], class 0 human.
        temperature, offset: the model's.

    Returns:
        float64 [windows]: (logsumexp of the other classes - human - offset) / temperature.
    """
    values = np.asarray(logits, dtype=np.float64)
    margins: Float64 = (logsumexp(values[:, 1:], axis=1) - values[:, 0] - offset) / temperature
    return margins


def trimmed_mean(values: npt.ArrayLike, axis: int = 0) -> Float64:
    """Mean without the lowest and the highest tenth (rounded down), along `axis`."""
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=axis)
    n = ordered.shape[axis]
    cut = int(TRIM * n)
    mean: Float64 = np.take(ordered, range(cut, n - cut), axis=axis).mean(axis=axis)
    return mean


def pooling_factor(n: float, shrink: float) -> float:
    """n / (n + shrink), the factor for the mean margin of n windows: few windows give a weaker margin.

    Assume that tracks vary around 0, and that the variance between windows is `shrink` times that between tracks. The
    product is then the posterior mean of a track's mean margin. Source: Efron and Morris 1973, "Stein's estimation rule
    and its competitors".
    """
    return n / (n + shrink)


def track_margin(margins: npt.ArrayLike, shrink: float = 0.0) -> float:
    """The track's margin, from the margins of its windows that are not silent, in any order.

    Args:
        margins: [n], n at least 1.
        shrink: the model's.

    Returns:
        the trimmed mean, times n / (n + shrink).
    """
    values = np.asarray(margins, dtype=np.float64)
    return float(trimmed_mean(values)) * pooling_factor(len(values), shrink)


def score_of(margin: float) -> float:
    """sigmoid(margin), in 0..1, float64."""
    return float(sigmoid(margin))


def margin_of(score: float) -> float:
    """The margin of a score; infinite at 0 and at 1 and over."""
    return math.inf if score >= 1.0 else float(logit(score))


def class_scores(logits: npt.ArrayLike, spec: ModelSpec, score: float) -> dict[str, float]:
    """Probability of each class: `human` is 1 - score, the rest is shared by softmax of mean logits."""
    mean = trimmed_mean(logits)[1:] / spec.temperature
    shares = softmax(mean)
    return dict(zip(spec.classes, [1.0 - score, *(float(score * s) for s in shares)], strict=True))


def attribution_of(scores: Mapping[str, float], spec: ModelSpec, verdict: Verdict | None) -> str | None:
    """The likeliest generator family; `unknown` if its share is under the model's calibrated minimum.

    None for a binary model, and for a track that is `clear`: no generator is named for it.
    """
    if not spec.multiclass or verdict == "clear":
        return None
    families = {name: scores[name] for name in spec.classes[1:]}
    total = sum(families.values())
    best = max(families, key=lambda name: families[name])
    if spec.unknown_below is not None and (not total or families[best] / total < spec.unknown_below):
        return UNKNOWN
    return best


def flagged_ranges(
    starts_s: Sequence[float],
    margins: Sequence[float],
    window_s: float,
    threshold: float,
    duration_s: float | None = None,
) -> list[dict[str, float]]:
    """Ranges of the track whose windows reach the threshold, joined where they touch.

    Args:
        starts_s: ascending window starts, seconds.
        margins: the windows' margins.
        window_s: length of a window, seconds.
        threshold: a score, 0..1.
        duration_s: length of the track; no range ends later. None if unknown.

    Returns:
        `{"start_s", "end_s"}` each, ascending, not overlapping.
    """
    limit = margin_of(threshold)
    ranges: list[dict[str, float]] = []
    for start, margin in zip(starts_s, margins, strict=True):
        if margin < limit:
            continue
        if ranges and start <= ranges[-1]["end_s"] + 1e-3:
            ranges[-1]["end_s"] = start + window_s
        else:
            ranges.append({"start_s": start, "end_s": start + window_s})
    if ranges and duration_s is not None and ranges[-1]["start_s"] < duration_s < ranges[-1]["end_s"]:
        ranges[-1]["end_s"] = duration_s
    return ranges


def judgement(
    score: float,
    starts_s: Sequence[float],
    margins: Sequence[float],
    spec: ModelSpec,
    thresholds: Thresholds | None,
    codec: str | None = None,
    duration_s: float | None = None,
) -> dict[str, object]:
    """The report columns that depend on margins, codec, length and thresholds only, by column name.

    They can be computed again for a row of an earlier scan, without its sound.
    """
    columns: dict[str, object] = {
        "verdict": None,
        "p_value": None if spec.untrained else p_value(score, spec.calibration, codec),
        "log10_lr": None if spec.untrained else log10_lr(score, spec.calibration),
        "flagged_s": None,
        "flagged_ranges": None,
    }
    if thresholds is not None:
        thresholds = thresholds.of(codec)
        ranges = flagged_ranges(starts_s, margins, spec.audio.window_s, thresholds.flagged, duration_s)
        columns["verdict"] = thresholds.verdict(score)
        columns["flagged_s"] = sum(r["end_s"] - r["start_s"] for r in ranges)
        columns["flagged_ranges"] = ranges
    return columns
