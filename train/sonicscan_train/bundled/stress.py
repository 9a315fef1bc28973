"""What may have happened to a file before it is scanned, made as real files for the scanner to open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import scipy.signal
import soundfile
import soxr

from sonicscan.files import replacing
from sonicscan_train.bundled.codecs import Codec, encode
from sonicscan_train.bundled.corpus import Excerpt

Float32 = npt.NDArray[np.float32]

RATE = 44100  # every condition starts from the excerpt at the rate that music is published in


@dataclass(frozen=True)
class Condition:
    """Either a codec, with the suffix of its files, or a change of the samples, kept as FLAC."""

    name: str
    codec: Codec | None = None
    suffix: str = ".flac"
    change: Callable[[Float32, np.random.Generator], Float32] = lambda samples, rng: samples
    rate: int = RATE


def _low_pass(samples: Float32, rng: np.random.Generator) -> Float32:
    sections = scipy.signal.butter(10, 6000.0, fs=RATE, output="sos")
    filtered: Float32 = scipy.signal.sosfiltfilt(sections, samples).astype(np.float32)
    return filtered


def _noise(samples: Float32, rng: np.random.Generator) -> Float32:
    level = np.sqrt(np.mean(samples**2)) * 10 ** (-30 / 20)
    noisy: Float32 = (samples + level * rng.standard_normal(len(samples))).astype(np.float32)
    return noisy


def _pitch(steps: float) -> Callable[[Float32, np.random.Generator], Float32]:
    return lambda samples, rng: librosa.effects.pitch_shift(samples, sr=RATE, n_steps=steps, res_type="soxr_hq")


def _tempo(rate: float) -> Callable[[Float32, np.random.Generator], Float32]:
    return lambda samples, rng: librosa.effects.time_stretch(samples, rate=rate)


CONDITIONS = (
    Condition("none"),
    Condition("mp3 64 kbit/s", Codec("libmp3lame", "mp3", RATE, 64), ".mp3"),
    Condition("mp3 128 kbit/s", Codec("libmp3lame", "mp3", RATE, 128), ".mp3"),
    Condition("aac 96 kbit/s", Codec("aac", "mp4", RATE, 96), ".m4a"),
    Condition("opus 64 kbit/s", Codec("libopus", "ogg", 48000, 64), ".opus"),
    Condition("vorbis about 96 kbit/s", Codec("vorbis", "ogg", RATE, quality=0.15), ".ogg"),
    Condition("low-pass 6 kHz", change=_low_pass),
    Condition("resampled to 16 kHz", rate=16000),
    Condition("noise 30 dB under the signal", change=_noise),
    Condition("gain -12 dB", change=lambda samples, rng: samples * np.float32(10 ** (-12 / 20))),
    Condition("pitch +2 semitones", change=_pitch(2.0)),
    Condition("pitch -2 semitones", change=_pitch(-2.0)),
    Condition("tempo 0.9", change=_tempo(0.9)),
    Condition("tempo 1.1", change=_tempo(1.1)),
)


def write_condition(condition: Condition, corpus: Path, excerpts: list[Excerpt], out: Path, seed: int) -> list[str]:
    """Writes every excerpt under `condition` into `out`; returns the file names, in order. Existing files stay."""
    out.mkdir(parents=True, exist_ok=True)
    names = []
    for i, excerpt in enumerate(excerpts):
        path = out / f"{i:04d}{condition.suffix}"
        names.append(path.name)
        if path.exists():
            continue
        samples, rate = soundfile.read(corpus / excerpt.path, dtype="float32", always_2d=True)
        mono = soxr.resample(samples.mean(axis=1), rate, RATE).astype(np.float32)
        mono *= np.float32(0.7 / max(float(np.abs(mono).max()), 1e-6))
        changed = condition.change(mono, np.random.default_rng([seed, i]))
        if condition.rate != RATE:
            changed = soxr.resample(changed, RATE, condition.rate)
        with replacing(path, sync=False) as file:
            if condition.codec is None:
                soundfile.write(file, np.clip(changed, -1.0, 1.0), condition.rate, format="FLAC")
            else:
                file.write(encode(changed, RATE, condition.codec))
    return names
