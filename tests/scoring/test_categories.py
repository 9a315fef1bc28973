"""Certificates by codec class and by kind of music: what holds for all tracks need not hold in one category."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from sonicscan.errors import ModelError
from sonicscan.scoring.thresholds import ClassThresholds, Thresholds, certified_threshold, certified_thresholds, p_value
from sonicscan.spec import Calibration, Category, ModelSpec, codec_categories, codec_class

ALPHA = 0.05
SHARES = {"mp3": 0.75, "opus": 0.25}
LEVELS = {"mp3": -4.0, "opus": -2.5}  # people's tracks in Opus score higher
SPREAD = 1.5
N = 500


def draw(rng: np.random.Generator, n: int = N) -> tuple[np.ndarray, list[str]]:
    """Scores of tracks by people, and their codecs."""
    codecs = rng.choice(list(SHARES), n, p=list(SHARES.values())).tolist()
    return expit(rng.normal([LEVELS[codec] for codec in codecs], SPREAD)), codecs


def true_rates(thresholds: dict[str, float]) -> dict[str, float]:
    """The exact false-positive rate in each class, and in all tracks together."""
    margins = {name: np.log(t / (1 - t)) for name, t in thresholds.items()}
    rates = {name: float(norm.sf(margins[name], LEVELS[name], SPREAD)) for name in SHARES}
    return rates | {"all": sum(SHARES[name] * rate for name, rate in rates.items())}


@functools.cache
def violations(kind: str, repetitions: int = 600) -> dict[str, float]:
    """How often the rate exceeds ALPHA, in each class and in all tracks, over fresh calibrations."""
    rng, count = np.random.default_rng(1), dict.fromkeys([*SHARES, "all"], 0.0)
    for _ in range(repetitions):
        scores, codecs = draw(rng)
        categories = codec_categories(scores.tolist(), codecs)
        if kind == "none":
            categories = ()
        elif kind == "material":
            categories = tuple(dataclasses.replace(category, kind="material") for category in categories)
        found = certified_thresholds(Calibration.of(scores.tolist(), categories=categories), ALPHA)
        rates = true_rates({name: found.of(name).flagged for name in SHARES})
        for name, rate in rates.items():
            count[name] += (rate > ALPHA) / repetitions
    return count


def test_a_certificate_for_all_tracks_fails_in_a_category() -> None:
    found = violations("none")
    assert found["all"] <= 0.05 + 0.018  # and two standard deviations
    assert found["opus"] > 0.99


@pytest.mark.parametrize("kind", ["codec", "material"])
def test_with_categories_the_rate_is_certified_in_each_of_them(kind: str) -> None:
    """In codec classes, which a scan determines, and in kinds of music, which it cannot determine."""
    assert max(violations(kind).values()) <= 0.05 + 0.018


def test_p_values_are_valid_in_each_class() -> None:
    """10,000 tracks by people of each class."""
    rng = np.random.default_rng(2)
    scores, codecs = draw(rng, 2000)
    calibration = Calibration.of(scores.tolist(), categories=codec_categories(scores.tolist(), codecs))
    plain = dataclasses.replace(calibration, categories=())
    for codec, level in LEVELS.items():
        fresh = expit(rng.normal(level, SPREAD, 10_000)).tolist()
        low = np.mean([(p_value(score, calibration, codec) or 0.0) <= 0.05 for score in fresh])
        assert low <= 0.05 + 0.025  # the calibration is a sample too
        assert codec == "mp3" or np.mean([(p_value(score, plain) or 0.0) <= 0.05 for score in fresh]) > 0.12


def test_no_category_lowers_a_threshold_or_a_p_value() -> None:
    rng = np.random.default_rng(3)
    scores, codecs = draw(rng, 2000)
    calibration = Calibration.of(scores.tolist(), categories=codec_categories(scores.tolist(), codecs))
    found, plain = (
        certified_thresholds(c, 0.01) for c in (calibration, dataclasses.replace(calibration, categories=()))
    )
    assert (found.flagged, found.review) == (plain.flagged, plain.review)
    assert found.of("mp3").flagged == plain.flagged < found.of("opus").flagged
    assert [own.n for own in found.of("opus").classes] == [codecs.count("opus")]
    assert found.of("aac") == found.of(None) == plain
    assert found.of("mp3").of("mp3") == found.of("mp3")
    for score in (0.1, 0.5, 0.9):
        values = [p_value(score, calibration, codec) or 0.0 for codec in (None, "aac", "mp3", "opus")]
        assert min(values) == values[0] == values[1]


def test_a_class_with_too_few_tracks_has_no_certificate_of_its_own() -> None:
    scores = np.linspace(0.01, 0.9, 500)
    codecs = ["mp3"] * 400 + ["flac"] * 60 + ["pcm_16"] * 20 + ["opus"] * 20
    categories = codec_categories(scores.tolist(), codecs)
    assert [(c.name, c.n) for c in categories] == [("mp3", 400), ("lossless", 80)]
    calibration = Calibration.of(scores.tolist(), categories=categories)
    assert [own.name for own in certified_thresholds(calibration, 0.01).classes] == ["mp3"]
    assert [own.name for own in certified_thresholds(calibration, 0.05).classes] == ["mp3", "lossless"]
    assert codec_categories([0.1] * 40, ["mp3"] * 40) == ()  # one class alone is all tracks
    few = Category.of("material", "released music", [0.95] * 29)
    assert few is not None and Category.of("material", "released music", [0.95] * 28) is None
    lifted = dataclasses.replace(calibration, categories=(few,))
    assert certified_threshold(lifted, 0.1) > 0.95 and certified_threshold(lifted, 0.05) < 0.9


def test_the_class_of_a_codec() -> None:
    assert {
        codec_class(name) for name in ("flac", "alac", "pcm_16", "pcm_s24le", "float", "wavpack", "wmalossless")
    } == {"lossless"}
    assert [codec_class(name) for name in ("mp3", "opus", "ulaw", "pcm_mulaw", "", None)] == [
        "mp3", "opus", "ulaw", "pcm_mulaw", None, None,
    ]  # fmt: skip


def test_categories_are_stored_and_those_of_a_hostile_model_are_refused() -> None:
    scores = [i / 100 for i in range(100)]
    own = codec_categories(scores, ["mp3"] * 60 + ["opus"] * 40)
    spec = ModelSpec("x", calibration=Calibration.of(scores, categories=own))
    assert ModelSpec.from_json(spec.to_json()) == spec
    raw = json.loads(spec.to_json())
    del raw["calibration"]["categories"]  # as earlier models have it
    assert ModelSpec.from_json(json.dumps(raw)).calibration == dataclasses.replace(spec.calibration, categories=())
    for name, value in (("n", 10**9), ("n", 0), ("scores", [0.5, 0.4] * 20), ("kind", "mood"), ("name", 3)):
        raw = json.loads(spec.to_json())
        raw["calibration"]["categories"][1][name] = value
        with pytest.raises(ModelError):
            ModelSpec.from_json(json.dumps(raw))
    raw["calibration"]["categories"] = json.loads(spec.to_json())["calibration"]["categories"] * 30
    with pytest.raises(ModelError, match="more than 50 categories"):
        ModelSpec.from_json(json.dumps(raw))


def test_thresholds_without_classes_are_those_of_every_codec() -> None:
    plain = Thresholds(0.9, 0.5, 0.01)
    assert plain.of("mp3") is plain
    own = ClassThresholds("mp3", 0.95, 0.6, 400)
    assert dataclasses.replace(plain, classes=(own,)).of("mp3").verdict(0.92) == "review"
