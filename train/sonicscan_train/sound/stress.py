"""Stress conditions: the same tracks after encoders, rooms, filters and noise. Each condition is applied to the decoded
sound at 44.1 kHz and written to a WAV file, which is scored as any other file. If a score changes under a condition, it
does not depend on the music alone.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from sonicscan.arrays import Float32
from sonicscan.audio.decode import read_mono
from sonicscan.errors import AudioError
from sonicscan_train.data.clips import Clip
from sonicscan_train.processes import mapped
from sonicscan_train.sound import effects
from sonicscan_train.sound.codecs import round_trip

RATE = 44100
CLEAN = "clean"
Condition = Callable[[Float32, np.random.Generator], Float32]


def _mp3(samples: Float32) -> Float32:
    return round_trip(samples, RATE, "mp3", 64)


CONDITIONS: Mapping[str, Condition] = {
    CLEAN: lambda x, rng: x,
    "mp3 64": lambda x, rng: _mp3(x),
    "mp3 128": lambda x, rng: round_trip(x, RATE, "mp3", 128),
    "aac 96": lambda x, rng: round_trip(x, RATE, "aac", 96),
    "opus 64": lambda x, rng: round_trip(x, RATE, "opus", 64),
    "vorbis 96": lambda x, rng: round_trip(x, RATE, "vorbis", 96),
    "16 kHz": lambda x, rng: effects.resampled(x, RATE, 16000),
    "low-pass 6 kHz": lambda x, rng: effects.lowpass(x, RATE, 6000.0, 48),
    "+2 semitones": lambda x, rng: effects.pitch(x, RATE, 2.0),
    "-2 semitones": lambda x, rng: effects.pitch(x, RATE, -2.0),
    "tempo 0.9": lambda x, rng: effects.tempo(x, RATE, 0.9),
    "tempo 1.1": lambda x, rng: effects.tempo(x, RATE, 1.1),
    "noise 30 dB": lambda x, rng: effects.noise(x, 30.0, rng),
    "gain -12 dB": lambda x, rng: effects.gain(x, -12.0),
    "reverb": lambda x, rng: effects.reverb(x, RATE, 0.5, 0.25, rng),
    "loud mastering": lambda x, rng: effects.mastered(x, RATE, rng),
    "one separated part": lambda x, rng: effects.separated(x, rng),
    "mp3 64, 4% faster, mp3 64": lambda x, rng: _mp3(effects.speed(_mp3(x), 1.04)),
}


def sample(clips: Sequence[Clip], n: int, seed: int = 0) -> list[Clip]:
    """At most `n` clips, half of them by people where there are enough, drawn at random."""
    rng = np.random.default_rng(seed)
    sides = [[clip for clip in clips if clip.human], [clip for clip in clips if not clip.human]]
    taken: list[Clip] = []
    for side, share in zip(sides, (n - n // 2, n // 2), strict=True):
        chosen = rng.permutation(len(side))[:share]
        taken += [side[i] for i in sorted(chosen)]
    return taken


@contextmanager
def stressed(
    clips: Sequence[Clip], condition: str, seconds: float, workers: int, skipped: Callable[[Clip, str], None]
) -> Iterator[list[Clip | None]]:
    """The clips under a condition, in temporary files; None for one that could not be made.

    Args:
        clips: what to change.
        condition: a key of `CONDITIONS`.
        seconds: how much of each, from its middle.
        workers: processes.
        skipped: called for each that could not be made, with the reason.
    """
    with tempfile.TemporaryDirectory(prefix="sonicscan-stress-") as folder:
        names = [str(Path(folder) / _name(i, clip.path)) for i, clip in enumerate(clips)]
        jobs = [(clip.path, name, condition, seconds) for clip, name in zip(clips, names, strict=True)]
        errors = list(mapped(_write, jobs, workers, chunk=4))
        made: list[Clip | None] = []
        for clip, job, error in zip(clips, jobs, errors, strict=True):
            if error:
                skipped(clip, error)
            made.append(None if error else dataclasses.replace(clip, path=job[1]))
        yield made


def _name(number: int, path: str) -> str:
    """A file name that tells which track it is, should it get no score."""
    return f"{number:06d}-{re.sub(r'[^A-Za-z0-9-]+', '_', Path(path).stem)[:60]}.wav"


def _write(job: tuple[str, str, str, float]) -> str:
    """Write one file; the reason where it cannot be, or nothing."""
    path, target, condition, seconds = job
    try:
        samples = read_mono(path.encode("utf-8", "surrogateescape"), RATE)
    except AudioError as error:
        return str(error)
    length = round(seconds * RATE)
    start = max(0, len(samples) - length) // 2
    samples = samples[start : start + length]
    if not len(samples):
        return "no sound could be decoded."
    # Seeded by the name, so that a track gets the same noise in every run.
    rng = np.random.default_rng(zlib.crc32(Path(path).name.encode("utf-8", "surrogateescape")))
    changed = CONDITIONS[condition](samples, rng)
    soundfile.write(target, np.clip(changed, -1.0, 1.0), RATE, subtype="PCM_24")
    return ""
