"""A cache of decoded excerpts and their log-mel frames, so that epochs need no decoding and few transforms.

A cache folder holds, for the first seconds of each clip:

    cache.json            what it was made of
    audio.npy, mel.npy    the unchanged sound
    audio-KEY.npy ...     fixed variants of it; the key names how they were made
    cache.lock            locked while a run adds to the folder

`audio` is int16 [clips, samples]; `mel` is int16 [clips, n_mels, frames], decibels in steps of `STEP_DB`. A window
that starts on a frame shares its inner frames with the excerpt's transform. Its outer three frames on each side do not,
because the scanner pads the window with zeros there. So `window_decibels` takes the inner frames from
the cache and computes the outer six: a fortieth of the work of all 256, and no approximation.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal
import scipy.sparse
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from sonicscan.arrays import Float32
from sonicscan.audio.decode import read_mono
from sonicscan.audio.melspec import mel_filterbank
from sonicscan.errors import AudioError, InputError
from sonicscan.files import lock, open_to_append, replacing, write_whole
from sonicscan.spec import AudioSpec, digest_of
from sonicscan_train.data.clips import Clip
from sonicscan_train.folders import make_folder
from sonicscan_train.processes import mapped

Int16 = npt.NDArray[np.int16]
Vary = Callable[[Float32, bool, np.random.Generator], Float32]
_Job = tuple[object, ...]

STEP_DB = 0.005  # int16 then spans -164 to 164 dB, far more than float32 mel power ever does here
_HALF_SCALE = 16000.0  # resampling overshoot then never clips; loudness carries no label


@dataclass(frozen=True)
class Version:
    """The excerpts in one version: row i of both arrays is clip i."""

    audio: Int16
    mel: Int16


class MelFrames:
    """Frames of samples to mel decibels, for any number of frames at once."""

    def __init__(self, spec: AudioSpec) -> None:
        self.spec = spec
        # Centred frames reach into the padding of a window for half a transform at each end.
        self.edge = -(-spec.n_fft // 2 // spec.hop_length)
        self._hann: Float32 = scipy.signal.get_window("hann", spec.n_fft, fftbins=True).astype(np.float32)
        self._filters = scipy.sparse.csr_matrix(mel_filterbank(spec).astype(np.float32))

    def __call__(self, frames: Float32) -> Float32:
        """float32 [n, n_fft] to decibels, float32 [n_mels, n]."""
        spectrum = scipy.fft.rfft(frames * self._hann, axis=1)
        power = self._filters @ (spectrum.real**2 + spectrum.imag**2).T
        decibels: Float32 = (10.0 * np.log10(np.maximum(power, self.spec.db_floor))).astype(np.float32)
        return decibels

    def of_excerpt(self, samples: Int16) -> Int16:
        """All frames of an excerpt, int16 [n_mels, frames], in steps of `STEP_DB`."""
        padded = np.pad(to_float(samples), self.spec.n_fft // 2)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.spec.n_fft)[:: self.spec.hop_length]
        return np.round(self(frames) / STEP_DB).astype(np.int16)


class SoundCache:
    """The cache of some clips in a folder; made on first use, memory-mapped afterwards.

    Args:
        folder: made where it is missing.
        clips: readable clips, in the order of the rows.
        spec: the preprocessing.
        seconds: how much of each clip, from its start; at least one window.

    Raises:
        InputError: the folder holds a cache of other clips, or `seconds` is shorter than a window.
    """

    def __init__(self, folder: Path, clips: Sequence[Clip], spec: AudioSpec, seconds: float) -> None:
        if seconds < spec.window_s:
            raise InputError(
                f"a cache of {seconds:g} s holds no window of {spec.window_s:.3g} s; keep more of each clip."
            )
        self._folder, self._clips, self._spec = folder, clips, spec
        self._samples = int(seconds * spec.sample_rate)
        make_folder(folder)
        made_of = {"clips": digest_of([clip.path for clip in clips]), "audio": spec.digest, "samples": self._samples}
        note = folder / "cache.json"
        if not note.exists():
            write_whole(note, json.dumps(made_of))
        elif _json_in(note) != made_of:
            raise InputError(f"{folder} is a cache of other clips or of another AudioSpec; give another --cache.")

    def clean(self, workers: int, done: Callable[[], None] = lambda: None) -> Version:
        """The unchanged sound.

        Raises:
            InputError: a clip cannot be read.
        """
        jobs = [(clip.path, self._spec, self._samples) for clip in self._clips]
        return self._version("", _decode, jobs, workers, done)

    def variant(
        self, key: str, vary: Vary, seed: Sequence[int], workers: int, done: Callable[[], None] = lambda: None
    ) -> Version:
        """A fixed variant of every excerpt.

        Args:
            key: names the variant in the folder; another way of making it needs another key.
            vary: takes samples float32 [n], whether people made them, and a generator; returns samples of the same
                length. It must be picklable if `workers` is over 1.
            seed: with the row, the seed of the generator.
            workers: processes.
            done: called after each excerpt.
        """
        self.clean(workers, done)
        audio = self._folder / "audio.npy"
        jobs = [(audio, i, vary, clip.human, [*seed, i], self._spec) for i, clip in enumerate(self._clips)]
        return self._version(f"-{key}", _varied, jobs, workers, done)

    def _version(
        self, suffix: str, make: Callable[..., tuple[Int16, Int16]], jobs: Sequence[_Job], workers: int,
        done: Callable[[], None],
    ) -> Version:  # fmt: skip
        paths = [self._folder / f"{name}{suffix}.npy" for name in ("audio", "mel")]
        if not all(path.exists() for path in paths):
            # Runs that share the folder wait for the first one to fill it.
            with open_to_append(self._folder / "cache.lock") as only:
                lock(only.fileno(), wait=True)
                if not all(path.exists() for path in paths):
                    self._fill(paths, make, jobs, workers, done)
        try:
            return Version(*(np.load(path, mmap_mode="r") for path in paths))
        except (OSError, ValueError, EOFError) as error:
            why = f"the cache {self._folder} is damaged ({error}); delete it, or give another --cache."
            raise InputError(why) from error

    def _fill(
        self, paths: Sequence[Path], make: Callable[..., tuple[Int16, Int16]], jobs: Sequence[_Job], workers: int,
        done: Callable[[], None],
    ) -> None:  # fmt: skip
        frames = 1 + self._samples // self._spec.hop_length
        n = len(self._clips)
        shapes = [(n, self._samples), (n, self._spec.n_mels, frames)]
        with replacing(paths[0]) as first, replacing(paths[1]) as second:
            try:
                audio, mel = (_array_in(file, shape) for file, shape in zip((first, second), shapes, strict=True))
            except OSError as error:
                size = sum(2 * math.prod(shape) for shape in shapes)
                raise InputError(
                    f"the cache {self._folder} cannot be written: {error.strerror or error}. Each version of these "
                    f"excerpts takes {size / 1e9:.2g} GB; give another --cache."
                ) from error
            for i, (samples, decibels) in enumerate(mapped(make, jobs, workers)):
                audio[i], mel[i] = samples, decibels
                done()
            audio.flush()
            mel.flush()


def _array_in(file: IO[bytes], shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.int16]]:
    """An array of zeros in an empty file, as `np.load` reads it; what is written to it is in the file.

    Its space on the disk is taken at once. A disk that is full later would end the process with a bus error.

    Raises:
        OSError: there is no such space.
    """
    write_array_header_1_0(file, {"descr": dtype_to_descr(np.dtype(np.int16)), "fortran_order": False, "shape": shape})
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, file.tell() + 2 * math.prod(shape))
    return np.memmap(file, np.int16, "r+", file.tell(), shape)


def _json_in(path: Path) -> object:
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); delete the cache, or give another --cache.") from error
    return found


def to_float(samples: Int16) -> Float32:
    """int16 to float32, full scale 1.0."""
    return samples.astype(np.float32) / np.float32(32768.0)


def to_int16(samples: Float32) -> Int16:
    """float32 to int16 at half of full scale."""
    peak = float(np.abs(samples).max(initial=0.0))
    return np.round(samples * (_HALF_SCALE / peak if peak > 0 else 0.0)).astype(np.int16)


def start_frames(samples: int, spec: AudioSpec) -> int:
    """How many starts a window has in an excerpt, in steps of one hop."""
    return 1 + (samples - spec.window_samples) // spec.hop_length


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
    at = [*range(mel.edge), *range(spec.n_frames - mel.edge, spec.n_frames)]
    frames = np.zeros((len(starts) * len(at), spec.n_fft), np.float32)
    images = np.empty((len(starts), spec.n_mels, spec.n_frames), np.float32)
    for i, start in enumerate(starts):
        first = int(start) * spec.hop_length
        window = np.pad(to_float(samples[i, first : first + spec.window_samples]), spec.n_fft // 2)
        for j, frame in enumerate(at):
            frames[i * len(at) + j] = window[frame * spec.hop_length :][: spec.n_fft]
        images[i] = decibels[i, :, start : start + spec.n_frames]
    images *= np.float32(STEP_DB)
    edges = mel(frames).reshape(spec.n_mels, len(starts), len(at))
    images[:, :, at] = edges.transpose(1, 0, 2)
    return images


def _decode(job: tuple[str, AudioSpec, int]) -> tuple[Int16, Int16]:
    path, spec, length = job
    try:
        samples = read_mono(path.encode("utf-8", "surrogateescape"), spec.sample_rate, max_s=length / spec.sample_rate)
    except AudioError as error:
        raise InputError(f"{path} cannot be cached: {error}") from error
    # Repeated from the start, as the scanner does with a short track: silence would be a shortcut.
    audio = to_int16(np.resize(samples, length)) if len(samples) else np.zeros(length, np.int16)
    return audio, MelFrames(spec).of_excerpt(audio)


def _varied(job: tuple[Path, int, Vary, bool, list[int], AudioSpec]) -> tuple[Int16, Int16]:
    path, row, vary, human, seed, spec = job
    samples = to_float(np.load(path, mmap_mode="r")[row])
    audio = to_int16(np.resize(vary(samples, human, np.random.default_rng(seed)), len(samples)))
    return audio, MelFrames(spec).of_excerpt(audio)
