"""Effects and codecs do what they say, always give the length asked for, and depend on nothing but their seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from training_sound import people_or_machine

from sonicscan.errors import AudioError
from sonicscan_train.sound import effects as fx
from sonicscan_train.sound.augment import Augmentation, augment
from sonicscan_train.sound.codecs import CODECS, Codec, round_trip
from sonicscan_train.sound.crops import read_crop

Float32 = npt.NDArray[np.float32]
RATE = 44100


def tone(hz: float, seconds: float = 2.0, rate: int = RATE) -> Float32:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def level_db(sound: Float32, low: float, high: float, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    hz = np.fft.rfftfreq(len(sound), 1 / rate)
    return 10 * float(np.log10(spectrum[(hz >= low) & (hz < high)].sum() + 1e-20))


def pitch_of(sound: Float32, rate: int = RATE) -> float:
    middle = sound[len(sound) // 4 : 3 * len(sound) // 4]
    return float(np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle))))) * rate / len(middle))


def rms(sound: Float32) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [22050, 44100])
def test_a_codec_gives_back_nearly_the_same_sound_in_place(codec: Codec, rate: int) -> None:
    sound = people_or_machine(False, 0, 2.0, rate)
    back = round_trip(sound, rate, codec, 128)
    assert back.shape == sound.shape and back.dtype == np.float32
    inner = slice(rate // 10, -rate // 10)
    error = 20 * np.log10(rms(back[inner] - sound[inner]) / rms(sound[inner]))
    assert error < -6  # out of place by a few samples, it would be over 0
    assert not np.array_equal(back, sound)


def test_fewer_bits_lose_more() -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    for codec in CODECS:
        low, high = (rms(round_trip(noise, RATE, codec, kbps) - noise) for kbps in (32, 192))
        assert low > 1.1 * high


def test_tempo_changes_speed_and_not_pitch() -> None:
    fast, slow = fx.tempo(tone(1000), RATE, 1.1), fx.tempo(tone(1000), RATE, 0.9)
    assert len(fast) == pytest.approx(2 * RATE / 1.1, rel=0.02) and len(slow) == pytest.approx(2 * RATE / 0.9, rel=0.02)
    assert pitch_of(fast) == pytest.approx(1000, abs=5) and pitch_of(slow) == pytest.approx(1000, abs=5)


def test_pitch_changes_pitch_and_not_speed() -> None:
    up = fx.pitch(tone(1000), RATE, 2.0)
    assert len(up) == 2 * RATE
    assert pitch_of(up) == pytest.approx(1000 * 2 ** (2 / 12), abs=6)


def test_lowpass_and_resampling_take_what_lies_above() -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    for changed in (fx.lowpass(noise, RATE, 5000.0, 48), fx.resampled(noise, RATE, 10000)):
        assert len(changed) == len(noise)
        assert level_db(changed, 100, 4000) == pytest.approx(level_db(noise, 100, 4000), abs=1.5)
        assert level_db(changed, 12000, 20000) < level_db(noise, 12000, 20000) - 40
    assert fx.lowpass(noise, RATE, 22000.0, 12) is noise


def test_noise_gain_and_reverb_keep_to_their_levels() -> None:
    sound = tone(440)
    rng = np.random.default_rng(0)
    assert 20 * np.log10(rms(fx.noise(sound, 30.0, rng) - sound) / rms(sound)) == pytest.approx(-30, abs=0.1)
    assert rms(fx.gain(sound, -12.0)) == pytest.approx(rms(sound) * 10 ** (-12 / 20), rel=1e-4)
    assert np.abs(fx.gain(sound, 40.0)).max() == 1.0
    click = np.zeros(RATE, dtype=np.float32)
    click[100] = 0.5
    tail = fx.reverb(click, RATE, 0.5, 0.3, rng) - 0.7 * click
    assert rms(tail[200:5000]) > 10 * rms(tail[20000:22000]) > 0


def test_eq_moves_bands_by_decibels_not_more() -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    changed = fx.random_eq(noise, RATE, 3.0, 4, np.random.default_rng(1))
    bands = [(100, 300), (300, 1000), (1000, 3000), (3000, 9000)]
    moves = [level_db(changed, *band) - level_db(noise, *band) for band in bands]
    assert 0.3 < max(map(abs, moves)) < 24


def test_the_chain_follows_from_its_seed_and_gives_the_length_asked_for() -> None:
    n = 30000
    sound = people_or_machine(True, 1, 2.0)
    every = Augmentation(tempo_p=1, pitch_p=1, eq_p=1, reverb_p=1, noise_p=1, lowpass_p=1, resample_p=1, codec_p=1)
    for plan in (Augmentation(), every):
        versions = [augment(sound, 22050, plan, n, np.random.default_rng(seed)) for seed in range(6)]
        assert all(v.shape == (n,) and v.dtype == np.float32 and np.isfinite(v).all() for v in versions)
        assert np.array_equal(versions[3], augment(sound, 22050, plan, n, np.random.default_rng(3)))
        assert len({v.tobytes() for v in versions}) >= 4
    short = augment(sound[:5000], 22050, every, n, np.random.default_rng(0))
    assert short.shape == (n,)


def test_both_classes_are_treated_with_the_same_odds() -> None:
    # What is done depends on the generator alone, never on the sound: the same draws, the same effects.
    silence, loud = np.zeros(30000, np.float32), people_or_machine(True, 1, 2.0)[:30000]
    for seed in range(5):
        ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
        augment(silence, 22050, Augmentation(), 20000, ours)
        augment(loud, 22050, Augmentation(), 20000, theirs)
        assert ours.random() == theirs.random()


@pytest.mark.parametrize("suffix", [".wav", ".ogg", ".mp3"])
def test_a_crop_is_the_stretch_asked_for(tmp_path: Path, suffix: str) -> None:
    t = np.arange(10 * RATE) / RATE
    ramp = (t / 10 * 0.5 * np.sin(2 * np.pi * 500 * t)).astype(np.float32)  # its level shows the position
    path = tmp_path / f"ramp{suffix}"
    with soundfile.SoundFile(path, "w", RATE, 2) as file:
        for start in range(0, len(ramp), RATE):
            file.write(np.stack([ramp, ramp], axis=1)[start : start + RATE])
    for at, middle in ((0.0, 1.0), (0.5, 5.0), (1.0, 9.0)):
        crop = read_crop(str(path), 22050, 2.0, at)
        assert len(crop) == pytest.approx(2 * 22050, abs=50)
        assert rms(crop) == pytest.approx(0.05 * np.sqrt(middle**2 + 1 / 3) / np.sqrt(2), rel=0.06)
    assert len(read_crop(str(path), 22050, 60.0, 0.7)) == pytest.approx(220500, abs=2500)


def test_a_file_shorter_than_it_claims_still_gives_sound(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, people_or_machine(False, 0, 10.0), 22050)
    path.write_bytes(path.read_bytes()[:100_000])
    assert len(read_crop(str(path), 22050, 2.0, 1.0)) >= 22050
    path.write_bytes(b"")
    with pytest.raises(AudioError):
        read_crop(str(path), 22050, 2.0, 1.0)
