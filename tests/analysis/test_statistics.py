"""The figures of `sonicscan-report summary` against simulations whose truth is known."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from report_samples import World, catalogue_rows, row, sample_report
from scipy.special import expit

from sonicscan.analysis.catalogue import load
from sonicscan.analysis.statistics import ErrorRates, benjamini_hochberg, error_rates, shares, smallest_batch, wilson
from sonicscan.analysis.summary import StatusCount, discovered, summarise
from sonicscan.scoring.thresholds import Thresholds, certified_thresholds, p_value
from sonicscan.spec import Calibration, Caught, ModelSpec

TRACKS = 4000


@functools.cache
def simulated(share: float, runs: int = 150) -> np.ndarray:
    """Many worlds with `share` of AI; one row each: estimate, low, high, false flags, and their estimate, low, high."""
    world, rng, found = World(), np.random.default_rng(7), []
    n_ai = round(share * TRACKS)
    for _ in range(runs):
        spec = world.model(rng)
        limits = certified_thresholds(spec.calibration, world.max_fpr)
        flags = expit(world.margins(rng, TRACKS - n_ai, n_ai)) >= limits.flagged
        rates = error_rates(spec, limits)
        assert rates is not None
        result = shares(int(flags.sum()), TRACKS, rates)
        estimate, false = result.ai_share, result.false_flags
        assert estimate is not None
        truth = int(flags[: TRACKS - n_ai].sum())
        found.append((estimate.value, estimate.low, estimate.high, truth, false.value, false.low, false.high))
    return np.array(found)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
def test_the_share_of_ai_is_right_and_its_interval_holds_it(share: float) -> None:
    estimate, low, high = simulated(share)[:, :3].T
    assert abs(estimate.mean() - share) < 0.003
    assert 0.93 <= np.mean((low <= share) & (share <= high)) <= 1.0
    # An interval that is always right because it is wide says nothing.
    assert np.mean(high - low) < 0.06


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
def test_the_number_of_false_flags_is_right_and_its_interval_holds_it(share: float) -> None:
    truth, value, low, high = simulated(share)[:, 3:].T
    # Without any AI, flags in excess of the expected ones are read as a little AI: too few count as false.
    assert abs(value.mean() - truth.mean()) < (0.25 if share == 0.0 else 0.1) * truth.mean() + 1
    assert np.mean((low <= truth) & (truth <= high)) >= 0.93


def test_without_a_true_positive_rate_the_share_is_not_guessed() -> None:
    result = shares(50, 1000, ErrorRates(false_flags=9, n_human=999, tpr=None, n_ai=0))
    assert result.ai_share is None
    assert result.why_not is not None and "does not say how much AI it catches" in result.why_not
    assert result.false_flags.value == pytest.approx(10.0)
    assert result.false_flags.low < 10 < result.false_flags.high <= 50


def test_a_model_that_tells_nothing_apart_gives_no_share() -> None:
    result = shares(50, 1000, ErrorRates(false_flags=50, n_human=1000, tpr=0.01, n_ai=500))
    assert result.ai_share is None
    assert result.why_not is not None and "has not been shown to flag AI more often" in result.why_not


def test_a_model_that_hardly_tells_them_apart_gives_no_share_either() -> None:
    """0.9% of 338 caught against none of 332 flagged: a division by nearly nothing, not an estimate."""
    result = shares(1, 44, ErrorRates(0, 332, 3 / 338, 338))
    assert result.ai_share is None
    assert result.why_not is not None and "has not been shown" in result.why_not
    assert result.false_flags.value == pytest.approx(44 / 333)
    assert result.false_flags.high == 1


def test_false_flags_are_never_more_than_flags() -> None:
    result = shares(2, 10_000, ErrorRates(false_flags=100, n_human=1000, tpr=0.9, n_ai=100))
    assert result.false_flags.high <= 2
    assert result.ai_share is not None and result.ai_share.value == 0.0


def test_error_rates_come_from_the_model() -> None:
    spec = ModelSpec(
        "x",
        calibration=Calibration.of([i / 1000 for i in range(1000)]),
        caught=(Caught(0.01, 0.8, 200), Caught(0.001, 0.5, 200)),
    )
    rates = error_rates(spec, Thresholds(0.99, 0.9, 0.01))
    assert rates == ErrorRates(false_flags=10, n_human=1000, tpr=0.8, n_ai=200)
    assert rates.fpr == pytest.approx(11 / 1001)
    assert error_rates(spec, Thresholds(0.99, None, None)) == ErrorRates(10, 1000, None, 0)
    assert error_rates(spec, Thresholds(0.99, 0.9, 0.02)) == ErrorRates(10, 1000, None, 0)
    assert error_rates(ModelSpec("x"), Thresholds(0.5)) is None


def test_benjamini_hochberg_on_a_case_done_by_hand() -> None:
    # 0.05 * k / 5: 0.01, 0.02, 0.03, 0.04, 0.05; the third fails alone, the fourth passes and takes it along.
    assert benjamini_hochberg([0.2, 0.04, 0.001, 0.035, 0.02], 0.05) == 4
    assert benjamini_hochberg([0.2, 0.3], 0.05) == 0
    assert benjamini_hochberg([], 0.05) == 0


@pytest.mark.parametrize("fdr", [0.05, 0.2])
def test_the_false_discovery_rate_is_kept(fdr: float) -> None:
    world, rng = World(n_human_calibration=2000, ai=4.0), np.random.default_rng(3)
    false, caught = [], []
    for _ in range(120):
        calibration = world.model(rng).calibration
        scores = expit(world.margins(rng, 1900, 100))
        p = np.array([p_value(score, calibration) for score in scores])
        n = benjamini_hochberg(p.tolist(), fdr)
        flagged = np.argsort(-scores, kind="stable")[:n]
        false.append(np.mean(flagged < 1900) if n else 0.0)
        caught.append(np.mean(np.isin(np.arange(1900, 2000), flagged)))
    assert np.mean(false) <= fdr * 1.1
    assert np.mean(false) >= fdr * 0.5  # it uses what it is allowed
    assert np.mean(caught) > 0.5


def test_a_small_calibration_cannot_single_out_a_track() -> None:
    assert smallest_batch(assessed=1000, n_human=399, fdr=0.05) == 50
    best = [1 / 400] * 49 + [1.0] * 951
    assert benjamini_hochberg(best, 0.05) == 0
    assert benjamini_hochberg([1 / 400, *best[:-1]], 0.05) == 50


@pytest.mark.parametrize("truth", [0.01, 0.3])
def test_the_interval_of_a_share_holds_it(truth: float) -> None:
    hits = np.random.default_rng(5).binomial(200, truth, 2000)
    found = [wilson(int(n), 200) for n in hits]
    assert 0.92 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.98
    assert wilson(0, 50).low == 0.0 and wilson(50, 50).high == 1.0


def test_every_figure_of_a_summary_against_a_known_catalogue(tmp_path: Path) -> None:
    world, rng = World(), np.random.default_rng(11)
    spec = world.model(rng)
    limits = certified_thresholds(spec.calibration, 0.01)
    margins = world.margins(rng, 2900, 100)
    rows = catalogue_rows(margins, spec, limits)
    rows += [row(f"/music/H/broken/{i}.mp3", status="empty", error="the file has no bytes.") for i in range(5)]
    summary = summarise(load(sample_report(tmp_path / "r.parquet", rows, spec, limits)), fdr=0.1, depth=2)

    flags = expit(margins) >= limits.flagged
    assert (summary.tracks, summary.assessed, summary.failed) == (3005, 3000, 5)
    assert summary.verdicts["flagged"] == flags.sum()
    assert summary.verdicts["review"] == ((expit(margins) >= limits.review) & ~flags).sum()
    assert sum(summary.verdicts.values()) == 3000
    assert summary.statuses == {
        "ok": StatusCount(3000, 0, None),
        "empty": StatusCount(5, 5, "the file has no bytes."),
    }
    assert summary.hours == pytest.approx(sum(r.duration_s or 0 for r in rows) / 3600)
    assert summary.ai_share is not None and summary.ai_share.low <= 100 / 3000 <= summary.ai_share.high
    assert summary.false_flags is not None
    assert summary.false_flags.low <= flags[:2900].sum() <= summary.false_flags.high

    assert summary.discoveries is not None
    found = discovered(rows, 0.1)
    assert summary.discoveries.tracks == len(found)
    assert summary.discoveries.score == min(r.score for r in found if r.score is not None)
    of_people = {r.path for r in rows[:2900]}
    assert np.mean([r.path in of_people for r in found]) < 0.25

    assert sum(g.tracks for g in summary.folders) == sum(g.tracks for g in summary.artists) == 3005
    assert sum(g.flagged for g in summary.folders) == sum(g.flagged for g in summary.artists) == flags.sum()
    group = next(g for g in summary.folders if g.name == "C/Artist 02")
    members = [r for r in rows if r.path.startswith("/music/C/Artist 02/")]
    assert group.tracks == len(members) and group.flagged == sum(r.verdict == "flagged" for r in members)
    broken = next(g for g in summary.folders if g.name == "H/broken")
    assert (broken.tracks, broken.assessed, broken.share) == (5, 0, None)
