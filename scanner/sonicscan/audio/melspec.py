"""The only log-mel spectrogram of the project: training imports it, so that it equals the scanner's.

It equals librosa's `melspectrogram` + `power_to_db` within 1e-3 dB, in a fraction of the time (measured by
`benchmarks/melspec.py`):

- Frames are a strided view of the padded window.
- The FFT is numpy's real FFT in float64; float32 errs by 0.002 dB, 80 dB below a pure tone.
- A few frames are transformed at a time, so that all data stay in the processor's cache.
- The filterbank is 99% zeros. It is cut into bands: a few neighbouring filters and the bins that they cover.

The mel scale is Slaney's (Auditory Toolbox, 1998), librosa's default.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sonicscan.arrays import Float32
from sonicscan.spec import AudioSpec

# Slaney: linear to 1 kHz with 15 mels, then 27 log-spaced steps to each factor of 6.4.
_HZ_PER_MEL = 200.0 / 3
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0

_FRAMES_AT_ONCE = 32  # half a megabyte of samples: fits the cache, and costs no fresh pages
_BAND = 8  # filters: products so small that BLAS starts no threads for them


def hz_to_mel(hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Slaney mel of a frequency in Hz."""
    hz = np.asarray(hz, dtype=np.float64)
    return np.where(
        hz < _LOG_START_HZ,
        hz / _HZ_PER_MEL,
        _LOG_START_MEL + np.log(np.maximum(hz, _LOG_START_HZ) / _LOG_START_HZ) / _LOG_STEP,
    )


def mel_to_hz(mel: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Frequency in Hz of a Slaney mel."""
    mel = np.asarray(mel, dtype=np.float64)
    return np.where(
        mel < _LOG_START_MEL,
        mel * _HZ_PER_MEL,
        _LOG_START_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _LOG_START_MEL) - _LOG_START_MEL)),
    )


def mel_edges_hz(spec: AudioSpec) -> npt.NDArray[np.float64]:
    """The `n_mels + 2` corner frequencies of the triangular filters, in Hz.

    Row m of the image rises from edge m, peaks at edge m+1 and ends at edge m+2.
    """
    return mel_to_hz(np.linspace(hz_to_mel(spec.fmin), hz_to_mel(spec.fmax), spec.n_mels + 2))


def mel_filterbank(spec: AudioSpec) -> npt.NDArray[np.float64]:
    """Triangular filters of unit area, shape [n_mels, n_fft // 2 + 1]."""
    bins_hz = np.fft.rfftfreq(spec.n_fft, 1.0 / spec.sample_rate)
    edges = mel_edges_hz(spec)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins_hz - low) / (centre - low)
    falling = (high - bins_hz) / (high - centre)
    return np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (high - low))


class LogMel:
    """Turns windows of samples into standardised log-mel images.

    Args:
        spec: the preprocessing; one instance serves any number of windows.
    """

    def __init__(self, spec: AudioSpec) -> None:
        self.spec = spec
        self._hann: npt.NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.n_fft) / spec.n_fft)
        filters = mel_filterbank(spec).astype(np.float32)
        self._bins = int(np.flatnonzero(filters.any(axis=0))[-1]) + 1  # the rest lies above fmax
        self._bands: list[tuple[slice, slice, Float32]] = []  # rows of the image, bins of the spectrum, weights
        for first in range(0, spec.n_mels, _BAND):
            rows = slice(first, first + _BAND)
            used = np.flatnonzero(filters[rows].any(axis=0))
            bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0)
            self._bands.append((rows, bins, np.ascontiguousarray(filters[rows, bins])))

    def power(self, window: Float32) -> Float32:
        """Mel power of one window.

        Args:
            window: float32 [window_samples], full scale 1.0.

        Returns:
            float32 [n_mels, n_frames].
        """
        spec = self.spec
        if window.shape != (spec.window_samples,):
            raise ValueError(f"a window has {spec.window_samples} samples, not shape {window.shape}")
        padded = np.zeros(spec.window_samples + spec.n_fft)
        padded[spec.n_fft // 2 : -(spec.n_fft // 2)] = window
        frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]
        windowed = np.empty((_FRAMES_AT_ONCE, spec.n_fft))
        spectrum = np.empty((_FRAMES_AT_ONCE, spec.n_fft // 2 + 1), dtype=np.complex128)
        power = np.empty((spec.n_frames, self._bins), dtype=np.float32)
        for first in range(0, spec.n_frames, _FRAMES_AT_ONCE):
            some = slice(first, first + _FRAMES_AT_ONCE)
            np.multiply(frames[some], self._hann, out=windowed)
            np.fft.rfft(windowed, axis=1, out=spectrum)
            parts = spectrum.view(np.float64)[:, : 2 * self._bins].astype(np.float32)
            np.square(parts, out=parts)
            np.add(parts[:, ::2], parts[:, 1::2], out=power[some])
        mel = np.empty((spec.n_mels, spec.n_frames), dtype=np.float32)
        for rows, bins, weights in self._bands:
            np.matmul(weights, power[:, bins].T, out=mel[rows])
        return mel

    def decibels(self, window: Float32) -> Float32:
        """Mel power in dB re 1.0, before clipping and standardising; float32 [n_mels, n_frames]."""
        decibels = self.power(window)
        np.maximum(decibels, np.float32(self.spec.db_floor), out=decibels)
        np.log10(decibels, out=decibels)
        decibels *= np.float32(10.0)
        return decibels

    def __call__(self, window: Float32) -> Float32:
        """The model's input for one window, before it is repeated over three channels.

        Args:
            window: float32 [window_samples], full scale 1.0.

        Returns:
            float32 [n_mels, n_frames], mean 0 and standard deviation 1 (all zeros where the
            window is constant, as in digital silence).
        """
        image = self.decibels(window)
        top_db = np.float32(self.spec.top_db)
        np.maximum(image, image.max() - top_db, out=image)
        if self.spec.reference == "unit":
            image = np.clip((image + top_db) / top_db, 0.0, 1.0)
        image -= image.mean(dtype=np.float64).astype(np.float32)
        deviation = np.float32(np.sqrt(np.mean(np.square(image), dtype=np.float64)))
        return image / deviation if deviation > 1e-6 else np.zeros_like(image)


@lru_cache(maxsize=8)
def log_mel(spec: AudioSpec) -> LogMel:
    """The `LogMel` of `spec`, built once: its filterbank is the costly part."""
    return LogMel(spec)
