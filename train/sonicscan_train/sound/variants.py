"""Fixed variants of an excerpt, made once: mastering, speed, room, codecs, and separation for music by people.

On a few CPU cores, effects on the waveform are too slow to be drawn for every window. So each excerpt gets a few
fixed variants, and the cheap augmentation of spectrograms multiplies them. Both classes get the same kinds, with one
exception: only music by people gets the variant of a part that was separated from a mixture. The reason is that real
separated vocals and karaoke tracks by people score high.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sonicscan.arrays import Float32
from sonicscan_train.sound.codecs import Codec, round_trip
from sonicscan_train.sound.effects import mastered, room, separated, speed

Range = tuple[float, float]

_PEAK = 0.7
_RATES = (22050, 44100)
_MP3 = (40, 48, 64, 80, 96, 128)
_AAC = (40, 48, 64, 80, 96)
_OPUS = (24, 32, 48, 64, 96)
_VORBIS = (80, 96, 112, 128, 160, 192, 224)


@dataclass(frozen=True)
class Variants:
    """How many fixed variants an excerpt gets, and how often (0..1) each step is applied, in this order.

    Attributes:
        copies: variants of each excerpt, besides the unchanged sound.
        separated_p: one part of the mixture; music by people only.
        mastered_p: loud mastering.
        speed_p, speed: factor of speed, pitch included.
        room_p, room_s, room_db: length of the tail, and its level against the direct sound.
        codec_p: one encoder, or MP3 twice.
    """

    copies: int = 2
    separated_p: float = 0.05
    mastered_p: float = 0.3
    speed_p: float = 0.4
    speed: Range = (0.92, 1.09)
    room_p: float = 0.1
    room_s: Range = (0.1, 0.6)
    room_db: Range = (-20.0, -8.0)
    codec_p: float = 0.85


def vary(samples: Float32, rate: int, human: bool, plan: Variants, rng: np.random.Generator) -> Float32:
    """One random variant of an excerpt.

    Args:
        samples: mono float32 [n], full scale 1.0.
        rate: Hz.
        human: whether people made the music.
        plan: which steps, how often.
        rng: the source of all randomness.

    Returns:
        float32 [n].
    """
    if human and rng.random() < plan.separated_p:
        samples = separated(samples, rng)
    if rng.random() < plan.mastered_p:
        samples = mastered(samples, rate, rng)
    if rng.random() < plan.speed_p:
        samples = speed(samples, float(rng.uniform(*plan.speed)))
    if rng.random() < plan.room_p:
        samples = room(samples, rate, float(rng.uniform(*plan.room_s)), float(rng.uniform(*plan.room_db)), rng)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > 0:
        samples = samples * np.float32(_PEAK / peak)
    return random_codec(samples, rate, rng) if rng.random() < plan.codec_p else samples


def random_codec(samples: Float32, rate: int, rng: np.random.Generator) -> Float32:
    """A round trip through a random codec and bit rate, as in real libraries: a third is MP3, a sixth is MP3 twice."""
    kind = str(rng.choice(["mp3", "mp3", "mp3 twice", "aac", "opus", "vorbis"]))
    at = int(rng.choice(_RATES))
    if kind == "mp3 twice":
        samples = round_trip(samples, rate, "mp3", float(rng.choice(_MP3)), at)
        return round_trip(samples, rate, "mp3", float(rng.choice(_MP3)), int(rng.choice(_RATES)))
    choices: dict[str, tuple[Codec, tuple[int, ...]]] = {
        "mp3": ("mp3", _MP3),
        "aac": ("aac", _AAC),
        "opus": ("opus", _OPUS),
        "vorbis": ("vorbis", _VORBIS),
    }
    codec, rates = choices[kind]
    return round_trip(samples, rate, codec, float(rng.choice(rates)), 48000 if codec == "opus" else at)
