"""Continues with FFmpeg if libsndfile stops before the end of a file.

libsndfile stops at the first invalid frame of a FLAC or MP3. The cause may be a flipped bit, some kilobytes of zeros,
or a change from stereo to mono. FFmpeg searches for the next frame.
"""

from __future__ import annotations

import numpy as np

from sonicscan.arrays import Float32
from sonicscan.audio.ffmpeg import AvSource
from sonicscan.audio.libsndfile import SndfileSource
from sonicscan.errors import AudioError

MENDED = frozenset({"flac", "mp3", "mp2", "mp1"})
_LEAST_S = 0.1  # before the end: less is rounding


class MendedSource:
    """A `sources.Source` of a FLAC or MP3. It owns `sound`."""

    def __init__(self, sound: SndfileSource) -> None:
        self._sound = sound
        self._rest: AvSource | None = None
        self._tried = False
        self._damage = ""
        self._position = 0
        self.sample_rate, self.channels, self.codec = sound.sample_rate, sound.channels, sound.codec
        self.frames, self.claimed_frames = sound.frames, sound.claimed_frames
        self.note = sound.note

    @property
    def ended_badly(self) -> str:
        return self._sound.ended_badly if self._rest is None else self._rest.ended_badly

    @property
    def damage(self) -> str:
        return self._damage

    def seek(self, frame: int) -> None:
        if self._rest is None:
            self._sound.seek(frame)
            self._position = self._sound.position
            if self._position < frame:
                self._read_on()
        if self._rest is not None:
            self._rest.seek(frame)
            self._position = max(self._position, frame)

    def read(self, frames: int) -> Float32:
        block = (self._sound if self._rest is None else self._rest).read(frames)
        self._position += len(block)
        if len(block) < frames and self._rest is None and self._read_on():
            more = self.read(frames - len(block))
            return np.concatenate([block, more])
        return block

    def _read_on(self) -> bool:
        """Open the file with FFmpeg behind the sound that libsndfile has read; False where there is no more."""
        if self._tried or self.frames is None or self._position >= self.frames - _LEAST_S * self.sample_rate:
            return False
        self._tried = True
        try:
            self._sound.file.seek(0)
            rest = AvSource(self._sound.file)
        except AudioError:
            return False
        at = self._position
        if rest.sample_rate != self.sample_rate:
            return False
        rest.seek(at)
        first = rest.read(1)
        if not len(first):
            return False
        rest.put_back(first)
        self._rest = rest
        if not rest.changes:
            self._damage = f"a damaged spot at {at / self.sample_rate:.1f} s was skipped"
        return True

    def channel_peak(self, first: int, end: int) -> float:
        highest = self._sound.channel_peak(first, end)
        return highest if self._rest is None else max(highest, self._rest.channel_peak(first, end))

    def reaches_end(self) -> bool:
        """Whether the file reaches its claimed end; call it only after the last read."""
        return self._sound.reaches_end()

    def close(self) -> None:
        if self._rest is not None:
            self._rest.close()
        self._sound.close()
