"""Excerpts of a track that a page can play, without the file beside it."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from sonicscan.audio.sources import open_source

RATE = 32000  # one that MP3 has, over twice what the default model hears
MAX_CLIP_S = 15.0


@dataclass(frozen=True)
class Clip:
    """An excerpt: where it lies in the track, in seconds, and its sound as a `data:` address (MP3)."""

    start_s: float
    end_s: float
    url: str


def clips(path: bytes, ranges: Iterable[tuple[float, float]], max_s: float) -> Iterator[Clip]:
    """Excerpts of a track, mono.

    Args:
        path: the file.
        ranges: start and end in seconds, ascending; of a longer one the first 15 s are taken.
        max_s: seconds of sound in all; further ranges are left out.

    Raises:
        AudioError: no sound could be read.
    """
    with contextlib.closing(open_source(path)) as source:
        for start, end in ranges:
            length = min(end - start, MAX_CLIP_S, max_s)
            if length < 1.0:
                continue
            max_s -= length
            source.seek(round(start * source.sample_rate))
            samples = np.nan_to_num(source.read(round(length * source.sample_rate)))
            if not len(samples):
                return
            sound = np.clip(soxr.resample(samples, source.sample_rate, RATE), -1.0, 1.0)
            file = io.BytesIO()
            soundfile.write(file, sound, RATE, format="MP3")
            url = "data:audio/mpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
            yield Clip(start, start + len(samples) / source.sample_rate, url)
