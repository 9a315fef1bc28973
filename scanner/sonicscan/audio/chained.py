"""Reads all streams of chained Ogg files, such as recordings of web radio."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import soxr

from sonicscan.arrays import Float32
from sonicscan.audio.ffmpeg import SAMPLE_RATES, AvSource
from sonicscan.audio.views import View, read_at
from sonicscan.errors import AudioError

_BEGINS_STREAM = 0x02  # flag of a page
_MAX_PAGES = 5_000_000
_SEARCHED = 128 << 10  # for the next page behind a damaged spot


class ChainedSource:
    """A `sources.Source` of all streams, at the sample rate of the first one. It owns `file`.

    Raises:
        AudioError: the first stream cannot be decoded.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        starts = _starts(file)
        self._links = list(pairwise([*starts, None]))
        self._current = self._open(0)
        self._link = 0
        self._began = self._position = 0
        self._converter: soxr.ResampleStream | None = None
        self._held: Float32 = np.empty(0, dtype=np.float32)
        self.sample_rate, self.channels, self.codec = (
            self._current.sample_rate,
            self._current.channels,
            self._current.codec,
        )
        self.claimed_frames: int | None = None
        self.frames: int | None = None
        self.ended_badly = ""
        self.note = f"it holds {len(starts)} streams, one after the other; all of them were read."

    @property
    def damage(self) -> str:
        return self._current.damage

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
        if len(block):
            block = block if self._converter is None else self._converter.resample_chunk(block)
        elif self._link + 1 == len(self._links) or self.ended_badly:
            return False
        else:
            if self._converter is not None:
                block = self._converter.resample_chunk(block, last=True)
            self._next()
        self._held = np.concatenate([self._held, block])
        return True

    def _next(self) -> None:
        self._link += 1
        try:
            following = self._open(self._link)
        except AudioError as error:
            self.ended_badly = str(error).rstrip(".")
            return
        self._current.close()
        self._current = following
        self._began = self._position + len(self._held)
        rate = following.sample_rate
        if rate not in SAMPLE_RATES:
            self.ended_badly = f"a sample rate of {rate} Hz is out of range"
        elif rate == self.sample_rate:
            self._converter = None
        else:
            self._converter = soxr.ResampleStream(rate, self.sample_rate, 1, dtype="float32", quality="HQ")

    def _open(self, link: int) -> AvSource:
        start, end = self._links[link]
        return AvSource(View(self._file, start or 0, end=end), counted=True)

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
            found = read_at(file, at, _SEARCHED).find(b"OggS")
            if found <= 0:
                break
            at += found
            continue
        begins = bool(page[5] & _BEGINS_STREAM)
        if begins and inside:
            starts.append(at)
        inside = not begins
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return starts
