"""Weighted logistic regression of one variable: the scale on which a margin is a log-likelihood ratio."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.special

from sonicscan.arrays import Bool, Float64

MAX_SHIFT = 50.0  # log-odds


def fit_line(
    values: Float64,
    truth: Bool,
    slopes: tuple[float, float],
    factors: Float64 | None = None,
    weights: Float64 | None = None,
) -> tuple[float, float]:
    """The line with the lowest cross-entropy of sigmoid(factor x (slope x value + shift)), with equal class weights.

    Because of the equal weights, factor x (slope x value + shift) is the natural logarithm of the likelihood ratio.
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

    def loss(line: Float64) -> tuple[float, Float64]:
        margins = sign * (line @ columns)
        return float(weight @ np.logaddexp(0.0, -margins)), columns @ (-weight * sign * scipy.special.expit(-margins))

    low, high = slopes
    bounds = [(low * scale, high * scale), (-MAX_SHIFT, MAX_SHIFT)]
    start = np.array([min(max(1.0, low), high) * scale, 0.0])
    found = scipy.optimize.minimize(
        loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9}
    )
    return float(found.x[0]) / scale, float(found.x[1])
