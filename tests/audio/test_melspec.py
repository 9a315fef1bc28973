"""The log-mel against librosa's, and what standardising does to odd windows."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from sonicscan.audio.melspec import LogMel, hz_to_mel, log_mel, mel_filterbank, mel_to_hz
from sonicscan.spec import PRESETS, AudioSpec

SPECS = pytest.mark.parametrize("spec", [*PRESETS.values(), AudioSpec(sample_rate=16000, fmax=7600.0, fmin=30.0)])


def sound(kind: str, spec: AudioSpec) -> np.ndarray:
    n, rate = spec.window_samples, spec.sample_rate
    time = np.arange(n) / rate
    random = np.random.default_rng(7)
    made = {
        "noise": 0.3 * random.standard_normal(n),
        "sweep": 0.8 * np.sin(2 * np.pi * (20 * time + 0.5 * (rate / 2 - 20) / time[-1] * time**2)),
        "silence": np.zeros(n),
        "clipped": np.clip(4 * random.standard_normal(n), -1, 1),
        "quiet": 1e-4 * random.standard_normal(n),
        "click": np.eye(1, n, n // 2)[0],
    }
    return made[kind].astype(np.float32)


def by_librosa(window: np.ndarray, spec: AudioSpec) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=window,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        pad_mode="constant",
    )
    return librosa.power_to_db(power, ref=1.0, amin=spec.db_floor, top_db=None)


@SPECS
@pytest.mark.parametrize("kind", ["noise", "sweep", "silence", "clipped", "quiet", "click"])
def test_decibels_equal_librosa(kind: str, spec: AudioSpec) -> None:
    window = sound(kind, spec)
    ours, theirs = LogMel(spec).decibels(window), by_librosa(window, spec)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape == (256, 256)
    # The range that the model receives; below it lies little but rounding.
    floor = theirs.max() - spec.top_db
    assert np.abs(np.maximum(ours, floor) - np.maximum(theirs, floor)).max() <= 1e-3


@SPECS
def test_filterbank_equals_librosa(spec: AudioSpec) -> None:
    theirs = librosa.filters.mel(
        sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin=spec.fmin, fmax=spec.fmax, dtype=np.float64
    )
    np.testing.assert_allclose(mel_filterbank(spec), theirs, rtol=1e-9, atol=1e-15)


def test_mel_scale_is_slaneys_and_has_an_inverse() -> None:
    hz = np.linspace(0, 20000, 999)
    np.testing.assert_allclose(hz_to_mel(hz), librosa.hz_to_mel(hz), rtol=1e-12)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, rtol=1e-12, atol=1e-9)


@SPECS
def test_image_is_standardised_over_the_kept_range(spec: AudioSpec) -> None:
    window = sound("sweep", spec)
    image = LogMel(spec)(window)
    assert image.dtype == np.float32
    assert abs(image.mean()) < 1e-3
    assert image.std() == pytest.approx(1.0, abs=1e-3)
    decibels = by_librosa(window, spec)
    kept = np.maximum(decibels, decibels.max() - spec.top_db)
    if spec.reference == "unit":
        kept = np.clip((kept + spec.top_db) / spec.top_db, 0, 1)
    np.testing.assert_allclose(image, (kept - kept.mean()) / kept.std(), atol=2e-3)


@SPECS
@pytest.mark.parametrize("value", [0.0, 1e-30, 1.0, 1e6])
def test_a_constant_window_gives_a_finite_image(value: float, spec: AudioSpec) -> None:
    image = LogMel(spec)(np.full(spec.window_samples, value, dtype=np.float32))
    assert np.isfinite(image).all()
    if value < 1e-20:
        assert not image.any()


def test_default_preset_does_not_hear_level_or_what_lies_above_fmax() -> None:
    spec = PRESETS["default"]
    window = sound("noise", spec)
    time = np.arange(len(window)) / spec.sample_rate
    whistle = (0.5 * np.sin(2 * np.pi * 10000 * time) * np.hanning(len(time))).astype(np.float32)
    plain = LogMel(spec)(window)
    np.testing.assert_allclose(LogMel(spec)(window * np.float32(0.125)), plain, atol=1e-3)
    assert np.abs(LogMel(spec)(window + whistle) - plain).max() < 0.05


def test_a_window_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="110160 samples"):
        LogMel(AudioSpec())(np.zeros(100, dtype=np.float32))


def test_one_instance_serves_a_spec() -> None:
    assert log_mel(AudioSpec()) is log_mel(AudioSpec())
    assert log_mel(AudioSpec()) is not log_mel(PRESETS["seed"])
