"""Effects on sound, one function each: processing that recordings undergo before they reach a catalogue. Filters, pitch
and tempo come from audiomentations. It is called with one value instead of a range, because its own random generator is
global. Every function takes mono float32 [n], full scale 1.0, and returns float32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import scipy.signal
import soxr

from sonicscan.arrays import Float32
from sonicscan_train.sound.codecs import fitted


def tempo(samples: Float32, rate: int, factor: float) -> Float32:
    """`samples` at `factor` times the speed, pitch unchanged; float32 [about n / factor]."""
    from audiomentations import TimeStretch

    stretch = TimeStretch(min_rate=factor, max_rate=factor, leave_length_unchanged=False, p=1.0)
    return _float32(stretch(_contiguous(samples), rate))


def pitch(samples: Float32, rate: int, semitones: float) -> Float32:
    """`samples` shifted by `semitones`, speed unchanged."""
    from audiomentations import PitchShift

    shift = PitchShift(min_semitones=semitones, max_semitones=semitones, p=1.0)
    return fitted(_float32(shift(_contiguous(samples), rate)), len(samples))


def random_eq(samples: Float32, rate: int, deviation_db: float, bands: int, rng: np.random.Generator) -> Float32:
    """Peaking filters at log-uniform frequencies with normally distributed gains."""
    from audiomentations import PeakingFilter

    for _ in range(bands):
        hz = float(np.exp(rng.uniform(np.log(60.0), np.log(0.4 * rate))))
        db = float(np.clip(rng.normal(0.0, deviation_db), -12.0, 12.0))
        q = rng.uniform(0.5, 2.0)
        peak = PeakingFilter(
            min_center_freq=hz, max_center_freq=hz, min_gain_db=db, max_gain_db=db, min_q=q, max_q=q, p=1.0
        )
        samples = _float32(peak(samples, rate))
    return samples


def reverb(samples: Float32, rate: int, seconds: float, mix: float, rng: np.random.Generator) -> Float32:
    """Reverberation: convolution with white noise that decays by 60 dB in `seconds`.

    `mix` is the share of the reverberated sound, which has the level of `samples`.
    """
    t = np.arange(round(seconds * rate)) / rate
    room = rng.standard_normal(len(t)) * 10.0 ** (-3.0 * t / seconds)
    wet = scipy.signal.fftconvolve(samples, room)[: len(samples)]
    scale = _rms(samples) / max(_rms(wet), 1e-12)
    return _float32((1.0 - mix) * samples + mix * scale * wet)


def noise(samples: Float32, db: float, rng: np.random.Generator) -> Float32:
    """Noise `db` under the RMS, from white to brown: its power falls with a random power of frequency, 0 to 2."""
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    frequency = np.maximum(np.arange(len(spectrum)), 1.0)
    coloured = np.fft.irfft(spectrum * frequency ** (-rng.uniform(0.0, 2.0) / 2), len(samples))
    scale = _rms(samples) * 10.0 ** (-db / 20) / max(_rms(coloured), 1e-12)
    return _float32(samples + scale * coloured)


def lowpass(samples: Float32, rate: int, hz: float, db_per_octave: int) -> Float32:
    """A low-pass filter; without effect if `hz` is near or over half of the rate."""
    if hz >= 0.49 * rate:
        return samples
    from audiomentations import LowPassFilter

    low = LowPassFilter(
        min_cutoff_freq=hz, max_cutoff_freq=hz, min_rolloff=db_per_octave, max_rolloff=db_per_octave, p=1.0
    )
    return _float32(low(samples, rate))


def resampled(samples: Float32, rate: int, through: int) -> Float32:
    """Resampled to the rate `through` and back."""
    return fitted(_float32(soxr.resample(soxr.resample(samples, rate, through), through, rate)), len(samples))


def gain(samples: Float32, db: float) -> Float32:
    """Another level, clipped at full scale."""
    return _float32(np.clip(samples * 10.0 ** (db / 20), -1.0, 1.0))


def speed(samples: Float32, factor: float) -> Float32:
    """`samples` played `factor` times as fast, so the pitch changes too; repeated or cut to the same length."""
    return _float32(np.resize(soxr.resample(samples, 1000.0 * factor, 1000.0), len(samples)))


def room(samples: Float32, rate: int, seconds: float, db: float, rng: np.random.Generator) -> Float32:
    """A short room: a tail of white noise that decays exponentially over `seconds`, `db` against the direct sound."""
    length = int(rate * seconds)
    tail = rng.standard_normal(length) * np.exp(-6.0 * np.arange(length) / length)
    tail *= 10 ** (db / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return _float32(scipy.signal.fftconvolve(samples, tail)[: len(samples)])


def mastered(samples: Float32, rate: int, rng: np.random.Generator) -> Float32:
    """Loud mastering, at random: a soft clipper, a limiter that looks ahead, or a compressor."""
    samples = samples / max(float(np.abs(samples).max(initial=0.0)), 1e-6)
    kind = rng.integers(3)
    driven = samples * 10 ** (rng.uniform(3, 12) / 20)
    if kind == 0:
        return _float32(np.tanh(driven))
    if kind == 1:
        n = int(rate * rng.uniform(0.002, 0.02))
        peak = scipy.ndimage.maximum_filter1d(np.abs(driven), 2 * n + 1)
        return _float32(np.clip(driven * scipy.ndimage.uniform_filter1d(1.0 / np.maximum(peak, 1.0), n), -1.0, 1.0))
    n = int(rate * rng.uniform(0.01, 0.1))
    level = 10 * np.log10(scipy.ndimage.uniform_filter1d(samples.astype(np.float64) ** 2, n) + 1e-9)
    over = np.maximum(level - (np.percentile(level, 90) - rng.uniform(6, 18)), 0)
    return _float32(samples * 10 ** (-over * (1 - 1 / rng.uniform(2, 6)) / 20))


def separated(samples: Float32, rng: np.random.Generator) -> Float32:
    """One part of the music, as source separation leaves it: a soft mask on the mixture, whose phase stays.

    The mask keeps what sustains or what is struck: median filters along time and along frequency (Fitzgerald,
    "Harmonic/percussive separation using median filtering", 2010).
    """
    n = int(rng.choice([1024, 2048, 4096]))
    _, _, spectrum = scipy.signal.stft(samples, nperseg=n, noverlap=n - n // 4)
    level = np.abs(spectrum)
    width = int(rng.choice([17, 31]))
    power = float(rng.uniform(1.0, 2.5))
    steady = scipy.ndimage.median_filter(level, (1, width)) ** power
    struck = scipy.ndimage.median_filter(level, (width, 1)) ** power
    share = steady / np.maximum(steady + struck, 1e-12)
    mask = share if rng.random() < 0.6 else 1.0 - share
    mask = scipy.ndimage.gaussian_filter(mask, float(rng.uniform(0.0, 1.5)))
    mask = np.maximum(mask, 10 ** (-rng.uniform(20, 60) / 20))
    _, kept = scipy.signal.istft(spectrum * mask, nperseg=n, noverlap=n - n // 4)
    return fitted(_float32(kept), len(samples))


def _rms(samples: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _float32(samples: npt.NDArray[np.floating]) -> Float32:
    return np.asarray(samples, dtype=np.float32)


def _contiguous(samples: Float32) -> Float32:
    return np.ascontiguousarray(samples, dtype=np.float32)
