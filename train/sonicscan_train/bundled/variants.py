"""Other versions of the training excerpts' sound, made once: codec round trips, speeds, own decoders.

Whatever needs the waveform is too slow to draw anew for every window on two cores, so each excerpt gets a
few fixed versions and the cheap augmentation on spectrograms multiplies them. Both classes get the same kinds.

`griffin_lim` makes paired data: music by people whose phase was thrown away and estimated again from a mel
spectrogram, as a generator's simplest vocoder does. It trains as AI, one more generator
beside the real ones, with the same musical content as its human partner.
"""

from __future__ import annotations

import functools
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import soxr

from sonicscan.files import replacing
from sonicscan.spec import AudioSpec
from sonicscan_train.bundled.codecs import random_codec, round_trip
from sonicscan_train.bundled.corpus import Int16, to_int16, to_length

Float32 = npt.NDArray[np.float32]

SPEEDS = (0.88, 1.14)


def change_speed(samples: Float32, factor: float) -> Float32:
    """Plays `factor` times as fast, pitch and all, repeated or cut to the same length."""
    return to_length(soxr.resample(samples, 1000.0 * factor, 1000.0).astype(np.float32), len(samples))


def add_room(samples: Float32, rate: int, rng: np.random.Generator) -> Float32:
    """A short synthetic room: an exponentially decaying noise tail under the direct sound."""
    length = int(rate * rng.uniform(0.1, 0.6))
    tail = rng.standard_normal(length) * np.exp(-6.0 * np.arange(length) / length)
    tail *= 10 ** (rng.uniform(-20, -8) / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    wet = np.fft.irfft(np.fft.rfft(samples, len(samples) + length) * np.fft.rfft(tail, len(samples) + length))
    return wet[: len(samples)].astype(np.float32)


def vary(samples: Float32, rate: int, rng: np.random.Generator) -> Float32:
    """One random version: perhaps a speed change, perhaps a room, then nearly always a codec."""
    if rng.random() < 0.5:
        samples = change_speed(samples, float(rng.uniform(*SPEEDS)))
    if rng.random() < 0.2:
        samples = add_room(samples, rate, rng)
    if rng.random() < 0.85:
        samples = round_trip(samples, rate, random_codec(rng))
    return samples


def griffin_lim(samples: Float32, rate: int, rng: np.random.Generator) -> Float32:
    """`samples` through a mel spectrogram and back, phase estimated by the fast Griffin-Lim algorithm.

    Perraudin, Balazs, Søndergaard, "A fast Griffin-Lim algorithm", 2013. The mel inversion is the filterbank's
    transpose, normalised: smoother than least squares, and many times cheaper.
    """
    n_fft = int(rng.choice([1024, 2048]))
    hop = n_fft // 4
    n_mels = int(rng.choice([96, 128, 192]))
    power = np.abs(librosa.stft(samples, n_fft=n_fft, hop_length=hop)) ** 2
    filters = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmax=min(8000.0, rate / 2), norm=None)
    share = filters / np.maximum(filters.sum(axis=1, keepdims=True), 1e-9)
    cover = np.maximum(filters.sum(axis=0), 1e-3)
    smooth = (filters.T @ (share @ power)) / cover[:, None]
    iterations = int(rng.integers(4, 25))
    back = librosa.griffinlim(
        np.sqrt(smooth),
        n_iter=iterations,
        hop_length=hop,
        n_fft=n_fft,
        length=len(samples),
        random_state=int(rng.integers(2**31)),
    )
    return np.asarray(back, dtype=np.float32)


def make_version(kind: str, seed: int, spec: AudioSpec, row: int, copy: int, sound: Int16) -> Int16:
    """One version of one excerpt, with a generator of its own: the order of work does not matter."""
    make = {"vary": vary, "griffin_lim": griffin_lim}[kind]
    rng = np.random.default_rng([seed, len(kind), row, copy])
    samples = sound.astype(np.float32) / 32768.0
    return to_int16(to_length(make(samples, spec.sample_rate, rng), len(sound)))


def cache_variants(
    audio: Int16, rows: list[int], kind: str, copies: int, seed: int, out: Path, spec: AudioSpec
) -> Int16:
    """int16 [copies * len(rows), samples] of `kind` ("vary" or "griffin_lim"), copy after copy of all rows.

    Made by one process a core on the first call, and memory-mapped after it.
    """
    path = out / f"{kind}.npy"
    if not path.exists():
        wanted = [(row, copy) for copy in range(copies) for row in rows]
        made = np.zeros((len(wanted), audio.shape[1]), np.int16)
        with ProcessPoolExecutor() as pool:
            work = functools.partial(make_version, kind, seed, spec)
            sounds = (np.array(audio[row]) for row, _ in wanted)
            for i, version in enumerate(pool.map(work, *zip(*wanted, strict=True), sounds, chunksize=8)):
                made[i] = version
        with replacing(path) as file:
            np.save(file, made)
    cached: Int16 = np.load(path, mmap_mode="r")
    return cached
