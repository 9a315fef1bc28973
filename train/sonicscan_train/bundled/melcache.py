"""Log-mel of whole excerpts, stored once; windows cut from it equal the scanner's own to within rounding.

`LogMel` pads a window with zeros before its transform, so a window's first and last three frames differ from
those of the sound around it. `window_decibels` therefore takes the inner frames from the cache and computes
the outer six from the samples: 40 times less work than all 256, and no approximation. (Left out, those frames would
be the one thing that every scan shows and training never did.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal
import scipy.sparse

from sonicscan.audio.melspec import mel_filterbank
from sonicscan.files import replacing
from sonicscan.spec import AudioSpec
from sonicscan_train.bundled.corpus import Int16

Float32 = npt.NDArray[np.float32]

STEP_DB = 0.005  # int16 then spans -164 to 164 dB, far more than float32 mel power ever does here
EDGE_FRAMES = 3  # n_fft / 2 = 1024 samples of padding reach into frames 0, 1 and 2 at a hop of 432


class MelFrames:
    """Frames of samples to mel decibels, for any number of frames at once."""

    def __init__(self, spec: AudioSpec) -> None:
        self.spec = spec
        self._hann: Float32 = scipy.signal.get_window("hann", spec.n_fft, fftbins=True).astype(np.float32)
        self._filters = scipy.sparse.csr_matrix(mel_filterbank(spec).astype(np.float32))

    def __call__(self, frames: Float32) -> Float32:
        """float32 [n, n_fft] to decibels, float32 [n_mels, n]."""
        spectrum = scipy.fft.rfft(frames * self._hann, axis=1)
        power = self._filters @ (spectrum.real**2 + spectrum.imag**2).T
        decibels: Float32 = (10.0 * np.log10(np.maximum(power, self.spec.db_floor))).astype(np.float32)
        return decibels


def to_float(samples: Int16) -> Float32:
    """int16 to float32, full scale 1.0."""
    return samples.astype(np.float32) / np.float32(32768.0)


def excerpt_frames(samples: int, spec: AudioSpec) -> int:
    """Frames of a centred transform of `samples`."""
    return 1 + samples // spec.hop_length


def start_frames(samples: int, spec: AudioSpec) -> int:
    """How many starts a window has, in steps of one hop."""
    return 1 + (samples - spec.window_samples) // spec.hop_length


def cache_decibels(audio: Int16, rows: list[int], path: Path, spec: AudioSpec) -> Int16:
    """Decibels of `audio[rows]` in units of `STEP_DB`: int16 [rows, n_mels, frames], made on the first call."""
    if not path.exists():
        mel = MelFrames(spec)
        stored = np.zeros((len(rows), spec.n_mels, excerpt_frames(audio.shape[1], spec)), np.int16)
        for i, row in enumerate(rows):
            padded = np.pad(to_float(audio[row]), spec.n_fft // 2)
            frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]
            stored[i] = np.round(mel(frames) / STEP_DB)
        with replacing(path) as file:
            np.save(file, stored)
    cached: Int16 = np.load(path, mmap_mode="r")
    return cached


def window_decibels(decibels: Int16, samples: Int16, starts: npt.NDArray[np.int64], mel: MelFrames) -> Float32:
    """Windows of several excerpts.

    Args:
        decibels: the excerpts' cached frames, [n, n_mels, frames].
        samples: the excerpts' samples, [n, samples].
        starts: the windows' first frames, [n].
        mel: of the same AudioSpec as the cache.

    Returns:
        float32 [n, n_mels, n_frames], as `LogMel.decibels` gives for each window.
    """
    spec = mel.spec
    half = spec.n_fft // 2
    at = [*range(EDGE_FRAMES), *range(spec.n_frames - EDGE_FRAMES, spec.n_frames)]
    frames = np.zeros((len(starts) * len(at), spec.n_fft), np.float32)
    images = np.empty((len(starts), spec.n_mels, spec.n_frames), np.float32)
    for i, start in enumerate(starts):
        first = int(start) * spec.hop_length
        window = np.pad(to_float(samples[i, first : first + spec.window_samples]), half)
        for j, frame in enumerate(at):
            frames[i * len(at) + j] = window[frame * spec.hop_length :][: spec.n_fft]
        images[i] = decibels[i, :, start : start + spec.n_frames]
    images *= np.float32(STEP_DB)
    edges = mel(frames).reshape(spec.n_mels, len(starts), len(at))
    images[:, :, at] = edges.transpose(1, 0, 2)
    return images
