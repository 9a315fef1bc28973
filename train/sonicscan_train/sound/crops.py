"""Reads random crops from files: one seek and a few seconds of decoding, without a cache. Training uses other seconds
of each track in each epoch. Decoding whole tracks, or storing them decoded, would take a hundred times the work or the
disk space.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np
import soxr

from sonicscan.arrays import Float32
from sonicscan.audio.decode import BLOCK_FRAMES, read_mono
from sonicscan.audio.sources import Source, open_source
from sonicscan.errors import AudioError


def read_crop(path: str, rate: int, seconds: float, at: float) -> Float32:
    """A stretch of a track as float32 mono at `rate`.

    Args:
        path: the audio file.
        rate: Hz wanted.
        seconds: how much; a shorter track is given whole.
        at: where, 0..1 of all places where the stretch fits.

    Returns:
        float32 [about seconds * rate, or less], never empty, always finite.

    Raises:
        AudioError: no sound could be read.
    """
    name = path.encode("utf-8", "surrogateescape")
    with contextlib.closing(open_source(name)) as source:
        wanted = math.ceil(seconds * source.sample_rate)
        claimed = source.claimed_frames
        if claimed is not None:
            source.seek(int(at * max(0, claimed - wanted)))
            native = _take(source, wanted)
            # A file that is shorter than it claims: its beginning is there.
            if len(native) >= min(wanted, claimed) // 2 > 0:
                crop = native if source.sample_rate == rate else soxr.resample(native, source.sample_rate, rate)
                return np.nan_to_num(crop.astype(np.float32, copy=False), posinf=1.0, neginf=-1.0)
    samples = read_mono(name, rate)
    if not len(samples):
        raise AudioError("unreadable", f"{path}: no sound could be decoded.")
    length = math.ceil(seconds * rate)
    start = int(at * max(0, len(samples) - length))
    return samples[start : start + length]


def _take(source: Source, frames: int) -> Float32:
    parts: list[Float32] = []
    missing = frames
    while missing > 0:
        block = source.read(min(missing, BLOCK_FRAMES))
        if not len(block):
            break
        parts.append(block)
        missing -= len(block)
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
