"""Figures against scikit-learn, by hand, and the intervals' promise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lir.data.models import LLRData
from lir.metrics import cllr
from scipy.special import expit
from sklearn import metrics as reference

from sonicscan_train.metrics import (
    FIGURES,
    auc,
    bootstrap,
    effective_number,
    expected_calibration_error,
    group_weights,
    quality,
    quality_with_intervals,
)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 60), st.booleans())
def test_figures_are_scikit_learns(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % 2).astype(bool)
    scores = rng.random(n)
    if ties:
        scores = np.round(scores * 4) / 4
    weights = rng.integers(1, 4, n).astype(float)
    found = quality(truth, scores, weights)
    called = scores >= 0.5
    extra = {"sample_weight": weights, "zero_division": np.nan}
    expected = {
        "precision": reference.precision_score(truth, called, **extra),
        "recall": reference.recall_score(truth, called, **extra),
        "f1": reference.f1_score(truth, called, **extra),
        "specificity": reference.recall_score(~truth, ~called, **extra),
        "accuracy": reference.accuracy_score(truth, called, sample_weight=weights),
        "auc": reference.roc_auc_score(truth, scores, sample_weight=weights),
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, nan_ok=True), name
    fpr, tpr, _ = reference.roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)
    assert found.tpr_at_5 == pytest.approx(tpr[fpr <= 0.05 + 1e-12].max())


def test_weights_are_repetitions() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random(40) < 0.5, rng.random(40)
    counts = rng.integers(0, 4, 40)
    weighted = quality(truth, scores, counts.astype(float))
    repeated = quality(np.repeat(truth, counts), np.repeat(scores, counts))
    assert dataclasses.astuple(weighted) == pytest.approx(dataclasses.astuple(repeated))


def test_one_class_alone_has_no_auc() -> None:
    found = quality(np.ones(5, bool), np.linspace(0, 1, 5))
    assert np.isnan([found.auc, found.specificity, found.tpr_at_1]).all() and found.recall == 0.6


def test_calibration_error_by_hand() -> None:
    truth = np.array([True, False, True, True])
    scores = np.array([0.95, 0.95, 0.15, 0.15])
    # Two bins of two: half of the first is AI (0.95 said), all of the second (0.15 said).
    assert expected_calibration_error(truth, scores) == pytest.approx((0.45 + 0.85) / 2)


def test_the_cost_of_likelihood_ratios_is_that_of_lir() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(500) < 0.3
    margins = rng.normal(np.where(truth, 2.0, -1.0), 2.0)
    theirs = cllr(LLRData(features=margins / np.log(10), labels=truth.astype(int)))
    assert quality(truth, expit(margins)).cllr == pytest.approx(theirs)
    assert quality(truth, np.full(500, 0.5)).cllr == pytest.approx(1.0)  # ratios of 1 carry no information
    assert np.isfinite(quality(truth, (~truth).astype(float)).cllr)


def test_every_group_weighs_the_same() -> None:
    weights = group_weights(["a", "a", "b", "c", "a"])
    assert weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1, 1 / 3])


def test_intervals_over_groups_are_wider_than_over_tracks_that_are_alike() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(30) % 2 == 0, 10)
    scores = np.clip(np.repeat(rng.normal(0.5 + 0.15 * (np.arange(30) % 2 == 0), 0.2), 10), 0, 1)
    groups = [f"g{i}" for i in range(30) for _ in range(10)]
    alone = [str(i) for i in range(300)]

    def width(names: list[str]) -> float:
        (low, high), *_ = bootstrap(lambda w: [auc(truth, scores, w)], names, 300)
        assert low < auc(truth, scores) < high
        return float(high - low)

    assert width(groups) > 2 * width(alone)


def test_the_effective_number_tells_how_exact_a_share_of_clusters_is() -> None:
    rng = np.random.default_rng(4)
    independent = rng.random(500) < 0.3
    assert effective_number(independent, [str(k) for k in range(500)]) == pytest.approx(500, rel=0.02)
    assert effective_number(np.repeat(independent, 4), np.repeat(np.arange(500), 4).tolist()) == pytest.approx(
        500, rel=0.02
    )
    assert effective_number(np.ones(12, bool), list("aaabbbcccddd")) == 4  # nothing varies: each cluster counts once
    assert effective_number(np.array([True, False]), ["a", "a"]) == 1
    # 40 generators of 25 tracks, caught with a chance of their own: the number gives the share's own variance.
    shares, numbers = [], []
    for _ in range(2000):
        caught = rng.random((40, 25)) < rng.beta(0.6, 1.4, (40, 1))
        shares.append(caught.mean())
        numbers.append(effective_number(caught.ravel(), np.repeat(np.arange(40), 25).tolist()))
    assert np.var(shares) == pytest.approx(0.3 * 0.7 / np.mean(numbers), rel=0.1)


def test_the_bootstrap_covers_the_truth() -> None:
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = rng.random(150) < 0.5
        scores = rng.normal(truth * 1.0, 1.0)
        ((low, high),) = bootstrap(lambda w, t=truth, s=scores: [auc(t, s, w)], [str(i) for i in range(150)], 200)
        inside += low <= 0.7602 <= high  # Phi(1 / sqrt(2)), the AUC of two normals one deviation apart
    assert inside >= 50


def test_figures_with_intervals_are_json_values() -> None:
    rng = np.random.default_rng(0)
    table = quality_with_intervals(rng.random(30) < 0.5, rng.random(30), [str(i) for i in range(30)], 50)
    assert tuple(table) == FIGURES
    for row in table.values():
        assert row["low"] <= row["value"] <= row["high"]
    assert all(v is None or np.isfinite(v) for row in table.values() for v in row.values())
