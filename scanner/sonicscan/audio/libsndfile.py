"""Sound files that libsndfile reads: WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, CAF, AU, W64 and more."""

from __future__ import annotations

import io
import math
import os
import re

import numpy as np
import soundfile

from sonicscan.arrays import Float32
from sonicscan.audio.claims import STREAMED_SIZES, reaches_claim
from sonicscan.audio.downmix import Downmix, bitstream_in

_CODECS = {"MPEG_LAYER_III": "mp3", "MPEG_LAYER_II": "mp2", "MPEG_LAYER_I": "mp1", "ALAC_16": "alac", "PCM_S8": "pcm_8"}
_UNKNOWN_FRAMES = 2**62  # libsndfile's "unknown" is the largest number of 63 bits

# NumPy converts these samples to the same float32 as the libsndfile in soundfile's wheel, in a third of its time.
_INTEGERS = {"pcm_16": ("int16", 2.0**-15), "pcm_32": ("int32", 2.0**-31)}

# WAV, AIFF, AU and W64 in libsndfile's log: the size in the header, and what the file has room for.
_PROMISED = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


# In Vorbis, two kinds of seeks in libsndfile are wrong by up to a block. Less than 2 s ahead, it counts the samples
# that it decodes; on the last page, it counts from the end that the page states. There we decode instead of seeking.
_VORBIS_AHEAD_S, _VORBIS_END_S = 2.5, 5.0
_SEARCHED_FRAMES, _SEARCHED_BLOCKS = 16384, 30  # for a bitstream: behind up to ten seconds of zeros
_MPG123_PREFRAMES = 4  # frames that it decodes before the target of a seek


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that continues at the end of the last read, without a seek.

    soundfile seeks after every read of a seekable file. That resets a decoder that keeps bits from frame to frame, such
    as MP3's. At low bit rates, each read would begin with a few hundredths of a second of wrong sound.
    """

    def seekable(self) -> bool:
        return False


class SndfileSource:
    """A `sources.Source` that seeks to the sample. It owns `file` unless the constructor raises.

    Raises:
        soundfile.LibsndfileError: libsndfile does not read it.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        # A descriptor of its own, so that a refusal leaves `file` open for PyAV; the position is shared.
        opened = os.dup(file.fileno()) if isinstance(file, io.FileIO) else file
        self._sound = _ForwardFile(opened, closefd=True)
        self.file = file
        self.sample_rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        kind = "FLAC" if self._sound.format == "FLAC" else self._sound.subtype
        self.codec = _CODECS.get(kind, kind.lower())
        self.claimed_frames: int | None = _claimed_frames(self._sound)
        # A FLAC or WAV that was streamed claims nothing or the largest number there is.
        self.knows_length = 0 < self._sound.frames < _UNKNOWN_FRAMES
        self.frames = self.claimed_frames if self.knows_length else None
        self.ended_badly = ""
        self.note = self.damage = ""
        self._at_end = False
        self.position = 0
        self._seekable = soundfile.SoundFile.seekable(self._sound)
        self._settling = _mp3_settling(self.sample_rate) if self.codec == "mp3" else 0
        ahead, end = (_VORBIS_AHEAD_S, _VORBIS_END_S) if self.codec == "vorbis" else (0.0, 0.0)
        self._least_jump = round(ahead * self.sample_rate)
        self._last_jump = self._sound.frames - round(end * self.sample_rate)
        self._downmix = Downmix(self.channels)

    def seek(self, frame: int) -> None:
        start = min(frame, self._last_jump) - self._settling
        try:
            if self._seekable and start > self.position + self._least_jump:
                self.position = self._sound.seek(start)
        except soundfile.LibsndfileError as error:
            self._end(error)
        while self.position < frame and len(self.read(min(65536, frame - self.position))):
            pass

    def read(self, frames: int) -> Float32:
        if self._at_end:
            return np.empty(0, dtype=np.float32)
        block = self._integers(frames) if self.codec in _INTEGERS else self._floats(frames)
        self._downmix.position = self.position
        self.position += len(block)
        return self._downmix.mono(block)

    def _floats(self, frames: int) -> Float32:
        """Up to `frames` frames as libsndfile converts them, float32 [n, channels]."""
        block: Float32 = np.full((frames, self.channels), np.nan, dtype=np.float32)
        try:
            block = self._sound.read(out=block)
        except soundfile.LibsndfileError as error:
            # The block holds what was decoded before the damage; the rest of it is unchanged.
            self._end(error)
            written = np.flatnonzero(~np.isnan(block).all(axis=1))
            block = block[: written[-1] + 1 if len(written) else 0]
        return block

    def _integers(self, frames: int) -> Float32:
        """The same of integers; they cannot be damaged, so an error (of the disk) loses the whole block."""
        kind, scale = _INTEGERS[self.codec]
        try:
            samples = self._sound.read(frames, dtype=kind, always_2d=True)
        except soundfile.LibsndfileError as error:
            self._end(error)
            return np.empty((0, self.channels), dtype=np.float32)
        block: Float32 = np.multiply(samples, scale, dtype=np.float32)
        return block

    def bitstream(self) -> str | None:
        """The codec of a compressed bitstream in the first non-zero samples, if any; call it before any read."""
        if not self._seekable or self.channels != 2 or not self.codec.startswith(("pcm_", "flac", "alac")):
            return None
        found = None
        try:
            for _ in range(_SEARCHED_BLOCKS):
                block = self._sound.read(_SEARCHED_FRAMES, dtype="float32")
                if not len(block) or block.any():
                    found = bitstream_in(block) if len(block) else None
                    break
            self._sound.seek(0)
        except soundfile.LibsndfileError as error:
            self._end(error)
        return found

    def channel_peak(self, first: int, end: int) -> float:
        return self._downmix.peak(first, end)

    def reaches_end(self) -> bool:
        """Whether the file reaches its claimed end; call it only after the last read."""
        if self._sound.format == "OGG":
            return True  # the claim is the time of the last page
        return reaches_claim(self.file, self.codec, self.claimed_frames or 0, self.sample_rate)

    def _end(self, error: soundfile.LibsndfileError) -> None:
        self._at_end = True
        self.ended_badly = str(error.error_string or "the decoder stopped").rstrip(".").lower()

    def close_sound(self) -> None:
        """Leave the file open for another reader."""
        self._sound.close()

    def close(self) -> None:
        self._sound.close()
        self.file.close()


def _mp3_settling(sample_rate: int) -> int:
    """The number of samples after a seek that an MP3 decoder may get wrong, at the lowest possible bit rate.

    A layer III frame may use bits of earlier frames (up to 511 bytes, ISO/IEC 11172-3, 2.4.2.7; 255 in 13818-3). It
    also overlaps with one more frame, and the decoder returns it up to one frame late.
    """
    if sample_rate >= 32000:
        samples, borrowed, side_information, bit_rate = 1152, 511, 17, 32000
    else:
        samples, borrowed, side_information, bit_rate = 576, 255, 9, 8000
    main_data = samples / 8 * bit_rate / sample_rate - 4 - 2 - side_information  # header and checksum
    return max(0, math.ceil(borrowed / main_data) + 2 - _MPG123_PREFRAMES) * samples


def _claimed_frames(sound: soundfile.SoundFile) -> int | None:
    """libsndfile's count, or the header's if that is larger according to libsndfile's log."""
    if sound.frames >= _UNKNOWN_FRAMES:
        return None
    promised = _PROMISED.search(sound.extra_info)
    if promised:
        claimed, found = int(promised[1]), int(promised[2])
        if 0 < found < claimed and not any(claimed in sizes for sizes in STREAMED_SIZES):
            return int(sound.frames * claimed / found)
    return int(sound.frames)
