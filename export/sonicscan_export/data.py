"""Real windows to convert and verify with, made by the scanner's own decoding and log-mel."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonicscan.arrays import Float32
from sonicscan.audio.images import images_of
from sonicscan.audio.melspec import log_mel
from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import AudioError, InputError
from sonicscan.spec import HUMAN, AudioSpec
from sonicscan_train.data.clips import CODEC, Clip
from sonicscan_train.data.manifest import read_manifest

VERIFYING_WINDOWS = 40  # batches of 1, 7 and 32
RANGING_WINDOWS = 64


@dataclass(frozen=True)
class WindowSet:
    """Images to run models on.

    Attributes:
        images: float32 [n, n_mels, n_frames].
        what: where they come from, in words.
        real: whether they are of real sound.
    """

    images: Float32
    what: str
    real: bool


@dataclass(frozen=True)
class CalibrationData:
    """The tracks of `--calibration-data`.

    Attributes:
        name: the manifest's file name.
        human: by people, and in the calibration part where the manifest is a split.
        other: the AI tracks that AUC is measured against; of the same part.
        ranging: tracks to find ranges of activations on: not of the calibration part where there are others.
    """

    name: str
    human: tuple[Clip, ...]
    other: tuple[Clip, ...]
    ranging: tuple[Clip, ...]


def read_calibration_data(path: Path) -> CalibrationData:
    """The tracks that a manifest names.

    Raises:
        InputError: no such manifest, no track by people, or a split without a calibration part, because scores of
            training tracks certify nothing.
    """
    clips = read_manifest(path)
    split = any(clip.part for clip in clips)
    judging = [clip for clip in clips if clip.part == "calibration"] if split else clips
    if not judging:
        raise InputError(
            f"{path} is a split without a calibration part; make it with --calibration, or give a manifest, without a "
            "split, of tracks that were not trained on."
        )
    human = tuple(clip for clip in judging if clip.label == HUMAN)
    if not human:
        raise InputError(f"{path} has no track labelled {HUMAN} to calibrate with.")
    return CalibrationData(
        name=path.name,
        human=human,
        other=tuple(clip for clip in judging if clip.label not in (HUMAN, CODEC)),
        ranging=tuple(clip for clip in clips if clip.part in ("train", "valid")) or tuple(clips),
    )


def real_windows(clips: Sequence[Clip], audio: AudioSpec, n: int, name: str) -> WindowSet:
    """`n` windows of tracks drawn at random, always the same for the same tracks; silent ones are left out.

    Raises:
        InputError: the tracks have fewer than `n` windows that can be read.
    """
    order = sorted(clips, key=lambda clip: clip.path)
    random.Random(0).shuffle(order)
    # Few tracks give several windows each; many tracks give one each, which is more varied.
    plan = WindowPlan(max(1, -(-n // len(order))))
    images: list[Float32] = []
    tracks = 0
    for clip in order:
        found = _images(clip, audio, plan)
        tracks += bool(found)
        images += found
        if len(images) >= n:
            return WindowSet(np.stack(images[:n]), f"{n} windows of {tracks} tracks of {name}", real=True)
    raise InputError(f"{name} has {len(images)} windows of readable sound; {n} are needed.")


def synthetic_windows(audio: AudioSpec, n: int) -> WindowSet:
    """`n` windows of chords over noise: enough to compare two runs of one graph, not to choose ranges by."""
    rng = np.random.default_rng(0)
    t = np.arange(audio.window_samples) / audio.sample_rate
    images = []
    for _ in range(n):
        pitches = rng.uniform(80.0, 0.4 * audio.fmax, size=6)
        chord = sum(
            np.sin(2 * np.pi * pitch * t + rng.uniform(0, 6)) * np.exp(-t * rng.uniform(0, 2)) for pitch in pitches
        )
        noise = rng.normal(size=t.shape) * 10 ** rng.uniform(-4, -1)
        images.append(log_mel(audio)((0.1 * chord + noise).astype(np.float32)))
    return WindowSet(np.stack(images), f"{n} synthetic windows", real=False)


def as_batch(images: Float32) -> Float32:
    """Images [n, n_mels, n_frames] as the model's input [n, 3, n_mels, n_frames]."""
    return np.repeat(images[:, None], 3, axis=1)


def _images(clip: Clip, audio: AudioSpec, plan: WindowPlan) -> list[Float32]:
    """The images of a track; none where it cannot be read."""
    try:
        return images_of(clip.path.encode("utf-8", "surrogateescape"), audio, plan)
    except (AudioError, OSError):
        return []
