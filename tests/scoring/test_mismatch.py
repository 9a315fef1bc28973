"""The mismatch alarm: false alarms at most at its rate, and how often it detects a library that is shifted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from sonicscan.scoring.mismatch import ALARM_RATE, Library, compare
from sonicscan.spec import Calibration, Material

CODECS = ["mp3", "aac", "flac", "vorbis"]


def tracks(rng: np.random.Generator, n: int, shift: float = 0.0, ai: float = 0.0) -> np.ndarray:
    """Margins of tracks by people around -2, moved by `shift`, with a share of AI around 3."""
    margins = rng.normal(-2.0 + shift, 1.5, n)
    return np.where(rng.random(n) < ai, rng.normal(3.0, 1.5, n), margins)


def calibration(rng: np.random.Generator, n: int = 600) -> Calibration:
    material = Material.of(
        rng.choice(CODECS, n, p=[0.6, 0.2, 0.15, 0.05]).tolist(),
        rng.choice([44100, 48000], n, p=[0.9, 0.1]).tolist(),
        rng.normal(15_000, 2000, n).tolist(),
    )
    return Calibration.of(expit(tracks(rng, n)).tolist(), material=material)


def library(rng: np.random.Generator, n: int = 800, shift: float = 0.0, ai: float = 0.0, **changes: object) -> Library:
    return Library(
        **{
            "codecs": rng.choice(CODECS, n, p=[0.6, 0.2, 0.15, 0.05]).tolist(),
            "sample_rates": rng.choice([44100, 48000], n, p=[0.9, 0.1]).tolist(),
            "bandwidth_hz": rng.normal(15_000, 2000, n),
            "scores": expit(tracks(rng, n, shift, ai)),
            **changes,
        }
    )  # type: ignore[arg-type]


def alarms(seed: int, repetitions: int, n: int = 800, **changes: float) -> dict[str, float]:
    """How often each comparison raises an alarm, and `any` of them."""
    rng = np.random.default_rng(seed)
    count: dict[str, float] = dict.fromkeys(("codec", "sample rate", "bandwidth", "lower scores", "any"), 0.0)
    for _ in range(repetitions):
        found = [c.what for c in compare(calibration(rng), library(rng, n, **changes)) if c.differs]
        for what in (*found, *(["any"] if found else [])):
            count[what] += 1 / repetitions
    return count


@pytest.mark.parametrize(("n", "ai"), [(60, 0.0), (800, 0.0), (800, 0.1), (800, 0.5)])
def test_a_library_like_the_calibration_raises_no_more_false_alarms_than_stated(n: int, ai: float) -> None:
    """However much AI is in it, up to half."""
    assert alarms(1, 600, n, ai=ai)["any"] <= ALARM_RATE + 0.008  # and two standard deviations


def test_without_the_smallest_distance_each_test_keeps_its_own_level() -> None:
    rng = np.random.default_rng(2)
    found = [[c.p_value for c in compare(calibration(rng), library(rng))] for _ in range(600)]
    assert len(found[0]) == 4
    for p_values in np.array(found).T:
        assert np.mean(p_values <= 0.05) <= 0.05 + 0.018


@pytest.mark.parametrize(("shift", "power"), [(0.7, 0.5), (1.0, 0.9), (-1.0, 0.9)])
def test_a_library_whose_human_tracks_score_otherwise_is_seen(shift: float, power: float) -> None:
    assert alarms(3, 200, 3000, shift=shift, ai=0.05)["lower scores"] >= power


def test_each_difference_of_material_is_seen_and_named() -> None:
    rng = np.random.default_rng(4)
    known, n = calibration(rng), 400
    for what, changes, words in (
        ("codec", {"codecs": ["opus"] * n}, "0% of the calibration's tracks and 100% of these are opus"),
        ("sample rate", {"sample_rates": [22050] * n}, "100% of these are 22050 Hz"),
        ("bandwidth", {"bandwidth_hz": rng.normal(11_000, 1000, n)}, "kHz in the calibration and 11.1 kHz here"),
    ):
        (found,) = [c for c in compare(known, library(rng, n, **changes)) if c.differs]  # type: ignore[arg-type]
        assert found.what == what and words in found.sentence


def test_what_is_not_known_is_not_compared() -> None:
    rng = np.random.default_rng(5)
    assert compare(Calibration(), library(rng)) == ()
    assert compare(calibration(rng), library(rng, 10)) == ()
    without = Calibration.of(expit(tracks(rng, 600)).tolist())
    assert [c.what for c in compare(without, library(rng))] == ["lower scores"]
    unknown = library(rng, 100, codecs=[None] * 100, bandwidth_hz=np.full(100, np.nan))
    assert {c.what for c in compare(calibration(rng), unknown)} == {"sample rate", "lower scores"}


@pytest.mark.parametrize("m", [30, 40, 100])
def test_a_rare_codec_in_a_small_library_raises_no_false_alarm(m: int) -> None:
    """3% of the calibration and of the library are MP3: an alarm in at most 0.3% of 2,000 libraries."""
    rng = np.random.default_rng(5)
    alarms = 0
    for known, found in zip(rng.binomial(1515, 0.03, 2000), rng.binomial(m, 0.03, 2000), strict=True):
        codecs = ["mp3"] * int(found) + ["vorbis"] * (m - int(found))
        material = Material(codecs={"vorbis": 1515 - int(known), "mp3": int(known)})
        calibration = Calibration.of([0.1] * 1515, material=material)
        library = Library(codecs, [None] * m, np.full(m, np.nan), np.full(m, 0.1))
        alarms += any(comparison.differs for comparison in compare(calibration, library))
    assert alarms <= 0.003 * 2000
