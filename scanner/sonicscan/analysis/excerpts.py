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
    """An excerpt of a range of the track.

    Attributes:
        start_s, end_s: of the excerpt, seconds into the track.
        range_end_s: end of the range; the excerpt begins where the range begins.
        url: its sound as a `data:` address (MP3).
    """

    start_s: float
    end_s: float
    range_end_s: float
    url: str

    @property
    def name(self) -> str:
        """The range, and how much of it the excerpt has."""
        whole = f"{self.start_s:.1f} to {self.range_end_s:.1f} s"
        part = self.end_s - self.start_s
        return whole if self.range_end_s - self.end_s < 0.1 else f"{whole}: the first {part:.1f} s"


def excerpts(
    path: bytes, ranges: Iterable[tuple[float, float]], max_s: float, decoder: Decoder | None = None
) -> Iterator[Excerpt]:
    """Excerpts of a track, mono.

    Args:
        path: the file.
        ranges: start and end in seconds, ascending; longer ranges are cut to their first 15 s.
        max_s: seconds of sound in all; ranges that do not fit are left out, and those of under a second.
        decoder: what decodes; None for a process of its own.

    Raises:
        AudioError: no sound could be read.
    """
    wanted: list[tuple[float, float]] = []
    ends: list[float] = []
    for start, end in ranges:
        length = min(end - start, MAX_EXCERPT_S)
        if 1.0 <= length <= max_s:
            max_s -= length
            wanted.append((start, start + length))
            ends.append(end)
    with decoding(AudioSpec(), decoder) as own:
        for end, (start, samples) in zip(ends, own.excerpts(path, wanted), strict=False):
            file = io.BytesIO()
            soundfile.write(file, np.clip(samples, -1.0, 1.0), EXCERPT_RATE, format="MP3")
            url = "data:audio/mpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
            yield Excerpt(start, start + len(samples) / EXCERPT_RATE, end, url)
