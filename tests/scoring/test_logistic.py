"""Log-odds and logistic regression against scipy, which the scanner does not load."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.special

from sonicscan.arrays import Bool, Float64
from sonicscan.scoring.logistic import MAX_SHIFT, fit_line
from sonicscan.scoring.odds import logit, logsumexp, sigmoid, softmax


def test_sigmoid_and_logit_are_scipys_at_both_ends() -> None:
    margins = np.concatenate([np.linspace(-700.0, 700.0, 2801), [0.0, -1e-300, 1e-17, np.inf, -np.inf]])
    np.testing.assert_allclose(sigmoid(margins), scipy.special.expit(margins), rtol=1e-12)
    scores = np.concatenate(
        [np.linspace(0.0, 1.0, 1001), 10.0 ** -np.arange(1.0, 300.0), 1 - 10.0 ** -np.arange(1.0, 16)]
    )
    np.testing.assert_allclose(logit(scores), scipy.special.logit(scores), rtol=1e-12, atol=1e-15)
    assert float(logit(0.0)) == -np.inf and float(logit(1.0)) == np.inf


def test_sums_of_exponentials_are_scipys() -> None:
    logits = np.random.default_rng(0).normal(0.0, 300.0, (50, 7))
    np.testing.assert_allclose(logsumexp(logits, axis=1), scipy.special.logsumexp(logits, axis=1), rtol=1e-14)
    for row in logits:
        np.testing.assert_allclose(softmax(row), scipy.special.softmax(row), rtol=1e-10, atol=1e-300)


def loss_and_gradient(
    line: Float64, values: Float64, truth: Bool, factors: Float64, weights: Float64
) -> tuple[float, Float64]:
    """The cross-entropy with equal class weights, and its gradient by slope and shift."""
    share = np.where(truth, weights / weights[truth].sum(), weights / weights[~truth].sum()) / 2.0
    sign = np.where(truth, 1.0, -1.0)
    columns = np.stack([factors * values, factors])
    margins = sign * (line @ columns)
    return float(share @ np.logaddexp(0.0, -margins)), columns @ (-share * sign * scipy.special.expit(-margins))


@pytest.mark.parametrize("slopes", [(0.0, 20.0), (0.05, 1.0), (-5.0, 5.0)])
def test_no_line_has_a_lower_loss(slopes: tuple[float, float]) -> None:
    """Also for classes that no line separates, that any steep line separates, and whose values are all equal."""
    rng = np.random.default_rng(1)
    for trial in range(150):
        n = int(rng.integers(4, 1000))
        truth = rng.random(n) < rng.uniform(0.1, 0.9)
        truth[:2] = True, False
        values = rng.standard_normal(n) * 10.0 ** rng.uniform(-2, 2) + rng.choice([0.0, -1.0, 0.1, 1.0, 50.0]) * truth
        if trial % 20 == 0:
            values[:] = 3.0
        factors = rng.uniform(0.1, 1.0, n) if trial % 2 else np.ones(n)
        weights = rng.uniform(1.0, 9.0, n) if trial % 3 else np.ones(n)
        line = fit_line(values, truth, slopes, factors, weights)
        assert slopes[0] - 1e-12 <= line[0] <= slopes[1] + 1e-12 and abs(line[1]) <= MAX_SHIFT
        found = scipy.optimize.minimize(
            loss_and_gradient,
            np.clip([1.0, 0.0], *zip(slopes, (-1.0, 1.0), strict=True)),
            args=(values, truth, factors, weights),
            jac=True,
            bounds=[slopes, (-MAX_SHIFT, MAX_SHIFT)],
            method="L-BFGS-B",
            options={"ftol": 1e-14, "gtol": 1e-10},
        )
        assert loss_and_gradient(np.array(line), values, truth, factors, weights)[0] <= found.fun + 1e-10
