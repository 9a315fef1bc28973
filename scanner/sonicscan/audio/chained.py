"""Reads all streams of chained Ogg files, such as recordings of web radio."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import soxr

from sonicscan.arrays import Float32
from sonicscan.audio.ffmpeg import SAMPLE_RATES, AvSource
from sonicscan.audio.ogg import BEGINS_STREAM
from sonicscan.audio.views import View, read_at
from sonicscan.errors import AudioError

_MAX_PAGES = 5_000_000
_SEARCHED = 128 << 10  # bytes at a time, for the next page behind a damaged spot


class ChainedSource:
    """A `sources.Source` of all streams, at the sample rate of the first one. It owns `file`.

    A stream that cannot be decoded is skipped.

    Raises:
        AudioError: there are no two streams one after the other, or none can be decoded.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        self._starts = _starts(file)
        if len(self._starts) < 2:
            raise AudioError("unreadable", "it holds one stream.")
        self._lost: list[int] = []  # streams that cannot be decoded, counted from 1
        self._damage: list[str] = []  # of streams that were read
        self._streams = self._decodable()
        first = next(self._streams, None)
        if first is None:
            raise AudioError("unreadable", "none of its streams can be decoded.")
        self._current = first
        self._began = self._position = 0
        self._converter: soxr.ResampleStream | None = None
        self._held: Float32 = np.empty(0, dtype=np.float32)
        self.sample_rate, self.channels, self.codec = first.sample_rate, first.channels, first.codec
        self.claimed_frames: int | None = None
        self.frames: int | None = None
        self.ended_badly = ""
        self.note = f"it holds {len(self._starts)} streams, one after the other."

    @property
    def damage(self) -> str:
        lost = [f"stream {k} of {len(self._starts)} could not be decoded" for k in self._lost]
        return "; ".join([*lost, *self._damage, *filter(None, [self._current.damage])])

    def seek(self, frame: int) -> None:
        while self._position < frame and len(self.read(min(65536, frame - self._position))):
            pass

    def read(self, frames: int) -> Float32:
        while len(self._held) < frames and self._more(frames):
            pass
        block, self._held = self._held[:frames], self._held[frames:]
        self._position += len(block)
        return block

    def _more(self, frames: int) -> bool:
        """Append a block to the buffer; False at the end of the last stream."""
        block = self._current.read(frames)
        ended = not len(block)
        if self._converter is not None:
            block = self._converter.resample_chunk(block, last=ended)
        self._held = np.concatenate([self._held, block])
        return self._next() if ended else True

    def _next(self) -> bool:
        """Go to the next stream; False if there is none."""
        self._converter = None
        following = next(self._streams, None)
        if following is None:
            return False
        self._damage += filter(None, [self._current.damage])
        self._current.close()
        self._current = following
        self._began = self._position + len(self._held)
        if following.sample_rate != self.sample_rate:
            self._converter = soxr.ResampleStream(
                following.sample_rate, self.sample_rate, 1, dtype="float32", quality="HQ"
            )
        return True

    def _decodable(self) -> Iterator[AvSource]:
        """Each stream that can be decoded, opened; the others are counted."""
        for k, (start, end) in enumerate(pairwise([*self._starts, self._file.seek(0, io.SEEK_END)]), 1):
            try:
                stream = AvSource(View(self._file, start, end=end), counted=True)
            except AudioError:
                self._lost.append(k)
                continue
            if stream.sample_rate in SAMPLE_RATES:
                yield stream
            else:
                stream.close()
                self._lost.append(k)

    def channel_peak(self, first: int, end: int) -> float:
        scale = self._current.sample_rate / self.sample_rate
        return self._current.channel_peak(round((first - self._began) * scale), round((end - self._began) * scale))

    def reaches_end(self) -> bool:
        """True, because the file claims no length for all streams together."""
        return True

    def close(self) -> None:
        self._current.close()
        self._file.close()


def _starts(file: io.RawIOBase) -> list[int]:
    """The start of each stream: a page with the begin flag that follows a page without it (RFC 3533, 4)."""
    starts = [0]
    at, inside = 0, False
    for _ in range(_MAX_PAGES):
        page = read_at(file, at, 27 + 255)
        if page[:4] != b"OggS":
            following = _next_page(file, at)
            if following is None:
                break
            at = following
            continue
        begins = bool(page[5] & BEGINS_STREAM)
        if begins and inside:
            starts.append(at)
        inside = not begins
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return starts


def _next_page(file: io.RawIOBase, at: int) -> int | None:
    """The start of the first page from `at` on; None if there is none."""
    while len(content := read_at(file, at, _SEARCHED)) >= 4:
        found = content.find(b"OggS")
        if found >= 0:
            return at + found
        at += len(content) - 3
    return None
