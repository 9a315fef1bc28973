"""Excerpts of a track that are embedded in a page and played there."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

from sonicscan.engine.decoder import Decoder, decoding
from sonicscan.engine.wire import EXCERPT_RATE
from sonicscan.spec import AudioSpec

MAX_EXCERPT_S = 15.0


@dataclass(frozen=True)
class Excerpt:
    """An excerpt: its start and end in the track, in seconds, and its sound as a `data:` address (MP3)."""

    start_s: float
    end_s: float
    url: str


def excerpts(
    path: bytes, ranges: Iterable[tuple[float, float]], max_s: float, decoder: Decoder | None = None
) -> Iterator[Excerpt]:
    """Excerpts of a track, mono.

    Args:
        path: the file.
        ranges: start and end in seconds, ascending; longer ranges are cut to their first 15 s.
        max_s: seconds of sound in all; further ranges are left out.
        decoder: what decodes; None for a process of its own.

    Raises:
        AudioError: no sound could be read.
    """
    wanted: list[tuple[float, float]] = []
    for start, end in ranges:
        length = min(end - start, MAX_EXCERPT_S, max_s)
        if length >= 1.0:
            max_s -= length
            wanted.append((start, start + length))
    with decoding(AudioSpec(), decoder) as own:
        for start, samples in own.excerpts(path, wanted):
            file = io.BytesIO()
            soundfile.write(file, np.clip(samples, -1.0, 1.0), EXCERPT_RATE, format="MP3")
            url = "data:audio/mpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
            yield Excerpt(start, start + len(samples) / EXCERPT_RATE, url)
