"""Weighted logistic regression of one variable: the scale on which a margin is a log-likelihood ratio."""

from __future__ import annotations

import numpy as np

from sonicscan.arrays import Bool, Float64
from sonicscan.scoring.odds import sigmoid

MAX_SHIFT = 50.0  # log-odds
_GRADIENT = 1e-10  # at the minimum; the loss is of the order of 1
_MOST_STEPS = 200
_SMALLEST_STEP = 1e-12
_RIDGE = 1e-12  # added to the curvature, which is singular for equal values


def fit_line(
    values: Float64,
    truth: Bool,
    slopes: tuple[float, float],
    factors: Float64 | None = None,
    weights: Float64 | None = None,
) -> tuple[float, float]:
    """The line with the lowest cross-entropy of sigmoid(factor x (slope x value + shift)), with equal class weights.

    Because of the equal weights, factor x (slope x value + shift) is the natural logarithm of the likelihood ratio.
    The loss is convex. Newton steps are clipped to the bounds and halved until the loss falls (Bertsekas 1982,
    "Projected Newton methods for optimization problems with simple constraints").
    Sources: Brümmer and du Preez 2006, "Application-independent evaluation of speaker detection"; Morrison 2013,
    "Tutorial on logistic-regression calibration and fusion".

    Args:
        values: float64 [n].
        truth: bool [n], True for AI; both classes must occur.
        slopes: the lowest and the highest slope that is allowed.
        factors: float64 [n]; None for 1 each.
        weights: float64 [n], how much each value counts within its class; None for the same.

    Returns:
        slope and shift.
    """
    factor = np.ones(len(values)) if factors is None else factors
    weight = np.ones(len(values)) if weights is None else weights
    weight = np.where(truth, weight / (2.0 * weight[truth].sum()), weight / (2.0 * weight[~truth].sum()))
    sign = np.where(truth, 1.0, -1.0)
    scale = float(np.std(values)) or 1.0  # so that the search is as well conditioned for any unit of the values
    columns = np.stack([factor * values / scale, factor])

    def loss(line: Float64) -> float:
        return float(weight @ np.logaddexp(0.0, -sign * (line @ columns)))

    lowest, highest = np.array([slopes[0] * scale, -MAX_SHIFT]), np.array([slopes[1] * scale, MAX_SHIFT])
    line = np.clip(np.zeros(2), lowest, highest)  # where the loss is curved; far away it is nearly flat
    for _ in range(_MOST_STEPS):
        wrong = sigmoid(-sign * (line @ columns))
        gradient = columns @ (-weight * sign * wrong)
        free = ~(((line <= lowest) & (gradient > 0.0)) | ((line >= highest) & (gradient < 0.0)))
        if not free.any() or np.abs(gradient[free]).max() <= _GRADIENT:
            break
        curvature = (columns[free] * (weight * wrong * (1.0 - wrong))) @ columns[free].T
        step = np.zeros(2)
        step[free] = np.linalg.solve(curvature + _RIDGE * np.eye(int(free.sum())), gradient[free])
        now = loss(line)
        while loss(further := np.clip(line - step, lowest, highest)) > now - 1e-4 * gradient @ (line - further):
            step /= 2.0
        if np.abs(further - line).max() < _SMALLEST_STEP:  # less than rounding errors
            break
        line = further
    return float(line[0]) / scale, float(line[1])
