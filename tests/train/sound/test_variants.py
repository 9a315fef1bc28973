"""Fixed variants: each step does what it says, and all chance comes from the generator."""

from __future__ import annotations

import numpy as np
import pytest
from training_sound import RATE, people_or_machine

from sonicscan_train.sound import effects
from sonicscan_train.sound.variants import Variants, vary

NEVER = Variants(separated_p=0, mastered_p=0, speed_p=0, room_p=0, codec_p=0)


def test_a_variant_follows_from_its_generator() -> None:
    sound = people_or_machine(True, 1, 2.0)
    every = Variants(separated_p=1, mastered_p=1, speed_p=1, room_p=1, codec_p=1)
    for seed in range(4):
        made = [vary(sound, RATE, True, every, np.random.default_rng(seed)) for _ in range(2)]
        assert np.array_equal(made[0], made[1])
        assert made[0].shape == sound.shape and made[0].dtype == np.float32 and np.isfinite(made[0]).all()
        assert np.corrcoef(made[0], sound)[0, 1] < 0.999
    assert np.allclose(vary(sound, RATE, True, NEVER, np.random.default_rng(0)), sound * 0.7 / np.abs(sound).max())


def test_separation_is_for_music_by_people_alone() -> None:
    sound = people_or_machine(False, 2, 2.0)
    plan = Variants(separated_p=1, mastered_p=0, speed_p=0, room_p=0, codec_p=0)
    theirs, ours = (vary(sound, RATE, human, plan, np.random.default_rng(3)) for human in (False, True))
    assert np.allclose(theirs, sound * 0.7 / np.abs(sound).max()) and not np.allclose(ours, theirs, atol=1e-2)


def test_effects_of_variants_are_what_they_say() -> None:
    t = np.arange(2 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    faster = effects.speed(tone, 1.1)
    spectrum = np.abs(np.fft.rfft(faster[:RATE]))
    assert len(faster) == len(tone) and np.argmax(spectrum) == pytest.approx(1100, abs=2)
    click = np.zeros(RATE, np.float32)
    click[100] = 0.5
    tail = effects.room(click, RATE, 0.3, -10.0, np.random.default_rng(0))
    assert tail[100] == pytest.approx(0.5, abs=1e-3) and np.abs(tail[:100]).max() < 1e-6
    assert 20 * np.log10(np.linalg.norm(tail[101:]) / 0.5) == pytest.approx(-10.0, abs=1.0)
    swell = (tone * np.linspace(0.05, 1.0, len(tone))).astype(np.float32)
    crest = np.abs(swell).max() / np.sqrt(np.mean(swell**2))
    for seed in range(6):  # all three kinds of mastering
        loud = effects.mastered(swell, RATE, np.random.default_rng(seed))
        assert np.abs(loud).max() <= 1.001
        assert np.abs(loud).max() / np.sqrt(np.mean(loud**2)) < crest
