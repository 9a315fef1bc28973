"""Sound files that libsndfile reads: WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, CAF, AU, W64 and more."""

from __future__ import annotations

import io
import os
import re

import numpy as np
import numpy.typing as npt
import soundfile

Float32 = npt.NDArray[np.float32]

_CODECS = {"MPEG_LAYER_III": "mp3", "MPEG_LAYER_II": "mp2", "MPEG_LAYER_I": "mp1", "ALAC_16": "alac", "PCM_S8": "pcm_8"}
_UNKNOWN_FRAMES = 2**62  # libsndfile's "unknown" is the largest number of 63 bits

# WAV, AIFF, AU and W64 in libsndfile's log: the size in the header, and what the file has room for.
_PROMISED = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
# Sizes that programs write where they cannot go back to write the real one.
_STREAMED_SIZES = (range(2**31 - 2**16, 2**31 + 1), range(2**32 - 2**16, 2**32))


class SndfileSource:
    """A `sources.Source` that seeks to the sample. Owns `file` from then on, unless it refuses it.

    Raises:
        soundfile.LibsndfileError: libsndfile does not read it.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        # A descriptor of its own, so that a refusal leaves `file` open for PyAV; the position is shared.
        opened = os.dup(file.fileno()) if isinstance(file, io.FileIO) else file
        self._sound = soundfile.SoundFile(opened, closefd=True)
        self._file = file
        self.sample_rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        kind = "FLAC" if self._sound.format == "FLAC" else self._sound.subtype
        self.codec = _CODECS.get(kind, kind.lower())
        self.claimed_frames: int | None = _claimed_frames(self._sound)
        # A FLAC or WAV that was streamed claims nothing or the largest number there is.
        self.knows_length = 0 < self._sound.frames < _UNKNOWN_FRAMES
        self.ended_badly = ""
        self._at_end = False
        self._position = 0
        self._weights = np.full(self.channels, 1.0 / self.channels, dtype=np.float32)

    def seek(self, frame: int) -> None:
        try:
            if self._sound.seekable():
                self._position = self._sound.seek(min(frame, self._sound.frames))
        except soundfile.LibsndfileError as error:
            self._end(error)
        while self._position < frame and len(self.read(min(65536, frame - self._position))):
            pass

    def read(self, frames: int) -> Float32:
        if self._at_end:
            return np.empty(0, dtype=np.float32)
        block: Float32 = np.full((frames, self.channels), np.nan, dtype=np.float32)
        try:
            block = self._sound.read(out=block)
        except soundfile.LibsndfileError as error:
            # What it decoded before the damage is in the block; the rest is as it was.
            self._end(error)
            written = np.flatnonzero(~np.isnan(block).all(axis=1))
            block = block[: written[-1] + 1 if len(written) else 0]
        self._position += len(block)
        return block[:, 0] if self.channels == 1 else block @ self._weights

    def _end(self, error: soundfile.LibsndfileError) -> None:
        self._at_end = True
        self.ended_badly = str(error.error_string or "the decoder stopped").rstrip(".").lower()

    def close_sound(self) -> None:
        """Leave the file open for another reader."""
        self._sound.close()

    def close(self) -> None:
        self._sound.close()
        self._file.close()


def _claimed_frames(sound: soundfile.SoundFile) -> int | None:
    """libsndfile's count, or the header's where libsndfile's log says that it promised more."""
    if sound.frames >= _UNKNOWN_FRAMES:
        return None
    promised = _PROMISED.search(sound.extra_info)
    if promised:
        claimed, found = int(promised[1]), int(promised[2])
        if 0 < found < claimed and not any(claimed in sizes for sizes in _STREAMED_SIZES):
            return int(sound.frames * claimed / found)
    return int(sound.frames)
