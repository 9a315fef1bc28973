"""Groups of dependent tracks: the error that e-values certify holds, and a product of p-values breaks it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chi2

from sonicscan.scoring.evalues import calibrated_e_values, certified_error, e_discoveries, group_e_value

N = 600  # calibration tracks


def album_p_values(rng: np.random.Generator, albums: int, tracks: int, alike: float, ai: float = 0.0) -> np.ndarray:
    """p-values [albums, tracks] against fresh calibrations; `alike` is the correlation within an album."""
    common = rng.normal(0, np.sqrt(alike), (albums, 1))
    scores = common + rng.normal(0, np.sqrt(1 - alike), (albums, tracks)) + ai
    calibration = np.sort(rng.normal(0, 1, (albums, N)), axis=1)
    at_least = np.array([N - np.searchsorted(c, s) for c, s in zip(calibration, scores, strict=True)])
    return (1 + at_least) / (N + 1)


def group_values(p_values: np.ndarray) -> np.ndarray:
    return calibrated_e_values(p_values).mean(axis=1)


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_the_error_of_a_group_holds_under_any_dependence(alike: float) -> None:
    """10,000 albums of 12 tracks by people."""
    e_values = group_values(album_p_values(np.random.default_rng(1), 10_000, 12, alike))
    assert e_values.mean() <= 1.03
    for error in (0.2, 0.1, 0.05):
        assert np.mean(e_values >= 1 / error) <= error


def test_a_product_of_p_values_breaks_its_rate_where_tracks_are_alike() -> None:
    """Fisher's method, which supposes independence: right at correlation 0, and wrong sixfold at 0.5."""
    rng = np.random.default_rng(2)

    def rejected(alike: float) -> float:
        statistic = -2 * np.log(album_p_values(rng, 4000, 12, alike)).sum(axis=1)
        return float(np.mean(chi2.sf(statistic, 24) <= 0.01))

    assert rejected(0.0) <= 0.02
    assert rejected(0.5) > 0.06
    assert np.mean(group_values(album_p_values(rng, 4000, 12, 0.5)) >= 100) <= 0.01


def test_an_album_of_ai_tracks_is_seen() -> None:
    e_values = group_values(album_p_values(np.random.default_rng(3), 500, 12, 0.3, ai=4.0))
    assert np.median(e_values) > 10


def test_the_false_discovery_rate_of_groups_holds() -> None:
    rng, false = np.random.default_rng(4), []
    for _ in range(200):
        people, ai = group_values(album_p_values(rng, 40, 8, 0.6)), group_values(album_p_values(rng, 40, 8, 0.6, 5.0))
        values = np.concatenate([people, ai])
        n = e_discoveries(values.tolist(), 0.2)
        found = np.argsort(-values, kind="stable")[:n]
        false.append(np.mean(found < 40) if n else 0.0)
    assert np.mean(false) <= 0.2


def test_the_calibrator_integrates_to_one_and_falls() -> None:
    total, _ = quad(lambda u: float(calibrated_e_values([np.exp(-u)])[0]) * np.exp(-u), 0, 700, limit=400)
    assert total == pytest.approx(1.0, abs=3e-3)  # what lies beyond e^-700 is 1/700
    p = np.concatenate([np.geomspace(1e-6, 0.9, 60), [0.99, 0.9989, 0.9991, 1.0]])
    assert (np.diff(calibrated_e_values(p)) <= 1e-6).all()


def test_by_hand() -> None:
    assert group_e_value([]) is None
    assert group_e_value([1.0]) == 0.5 and certified_error(0.5) == 1.0 and certified_error(20.0) == 0.05
    assert e_discoveries([100.0, 30.0, 1.0], 0.1) == 2  # 100 >= 3 / 0.1, and 2 x 30 >= 30
    assert e_discoveries([29.0, 1.0, 1.0], 0.1) == 0
