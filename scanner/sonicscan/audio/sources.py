"""Opens a sound file, whatever it is, as one forward stream of mono float32 blocks.

libsndfile reads most files and seeks to the sample; what it cannot read (AAC, ALAC, WMA, WavPack, Matroska ...)
goes to FFmpeg through PyAV. So do Ogg Opus, and Ogg Vorbis that is read from start to end: FFmpeg takes two fifths and
two thirds of libsndfile's time for the same samples. The content decides, never the name. Both are given an open file
rather than a name: names that are not UTF-8 work, a sibling `._track.mp3` is not taken for a resource fork, and a
playlist cannot make FFmpeg open anything else.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from sonicscan.audio.ffmpeg import SAMPLE_RATES, AvSource
from sonicscan.audio.libsndfile import SndfileSource
from sonicscan.errors import AudioError, Status
from sonicscan.library.ranges import OpenFile

Float32 = npt.NDArray[np.float32]

MAX_CHANNELS = 64
_NARROW_OPUS_RATE = 24000  # Hz; up to it, libsndfile decodes at less than 48 kHz
_BEGINS_STREAM = 0x02  # flag of an Ogg page

_ERRNO_STATUS: dict[int, Status] = {
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.ENOENT: "vanished",
    errno.ENOTDIR: "vanished",
}


class Source(Protocol):
    """One open sound file.

    Attributes:
        sample_rate: Hz.
        channels: in the file; blocks are mono.
        codec: short lower-case name.
        claimed_frames: length that the file claims, in frames; None where it makes no claim.
        ended_badly: the decoder met an error after some sound, in words; empty otherwise.
    """

    sample_rate: int
    channels: int
    codec: str
    claimed_frames: int | None
    ended_badly: str

    def seek(self, frame: int) -> None:
        """Go forwards to `frame`; past the end, the next read is empty."""

    def read(self, frames: int) -> Float32:
        """Up to `frames` samples, float32 [n], mean of the channels; fewer only at the end."""

    def close(self) -> None: ...


def open_source(path: bytes | OpenFile, forwards: bool = False) -> Source:
    """Open a sound file by its content.

    Args:
        path: the file's name, as bytes, or an open remote file.
        forwards: it is read from its start on, with no seek.

    Raises:
        AudioError: with the status that says why there is no sound to be had.
    """
    file = open_regular(path)
    try:
        if not file.seek(0, os.SEEK_END):
            raise AudioError("empty", "the file has no bytes.")
        file.seek(0)
        return _checked(_opened(file, forwards))
    except BaseException:
        file.close()
        raise


def _opened(file: io.RawIOBase, forwards: bool) -> Source:
    """libsndfile's source; FFmpeg's where it is quicker, or libsndfile refuses the file or cannot tell its length."""
    if _is_ogg_for_ffmpeg(file, forwards):
        with contextlib.suppress(AudioError):
            return AvSource(file)
        file.seek(0)
    known = None
    if not _is_mp3_without_length(file):
        with contextlib.suppress(soundfile.LibsndfileError):
            known = SndfileSource(file)
        if known is not None:
            if known.knows_length:
                return known
            known.close_sound()
        file.seek(0)
    try:
        return AvSource(file)
    except AudioError:
        if known is None:
            raise
        file.seek(0)
        return SndfileSource(file)


def open_regular(path: bytes | OpenFile) -> io.RawIOBase:
    """Open a regular file for reading, never waiting for a FIFO or a device to speak.

    Raises:
        AudioError: `permission_denied`, `vanished`, `unreadable`, or `unsupported` for anything
            that is not a regular file.
    """
    if not isinstance(path, bytes):
        return path.reader()
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise AudioError("unsupported", "not a regular file.") from error
        raise from_os_error(error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise AudioError("unsupported", "not a regular file.")
    return io.FileIO(fd)


def from_os_error(error: OSError) -> AudioError:
    """The `AudioError` of an operating-system error."""
    return AudioError(_ERRNO_STATUS.get(error.errno or 0, "unreadable"), f"{error.strerror or error}.")


def _checked(source: Source) -> Source:
    if source.sample_rate not in SAMPLE_RATES:
        raise AudioError("unsupported", f"a sample rate of {source.sample_rate} Hz is out of range.")
    if not 1 <= source.channels <= MAX_CHANNELS:
        raise AudioError("unsupported", f"{source.channels} channels are out of range.")
    return source


def _is_ogg_for_ffmpeg(file: io.RawIOBase, forwards: bool) -> bool:
    """Whether this is Ogg Opus, or Ogg Vorbis to be read from start to end: FFmpeg is quicker there.

    Of remote Opus, libsndfile reads fewer bytes. But Opus is a stream of 48 kHz: its header also notes the rate of what
    was encoded, 0 for unknown (RFC 7845, 5.1), and libsndfile decodes at that rate, 0 as 8 kHz, and drops all sound
    above half of it.
    """
    head = file.read(512) or b""
    file.seek(0)
    if head[:4] != b"OggS" or len(head) < 512:
        return False
    next_page = head[27 + head[26] + sum(head[27 : 27 + head[26]]) :]
    if len(next_page) < 6 or next_page[:4] != b"OggS" or next_page[5] & _BEGINS_STREAM:
        return False  # several streams in turns: the two may choose different ones
    if head[28:36] == b"OpusHead":
        noted_rate = int.from_bytes(head[40:44], "little")
        return forwards or isinstance(file, io.FileIO) or noted_rate <= _NARROW_OPUS_RATE
    return forwards and head[28:35] == b"\x01vorbis"


def _is_mp3_without_length(file: io.RawIOBase) -> bool:
    """Whether this is an MP3 whose length libsndfile would guess (VBRI too), and stop at its guess."""
    head = file.read(10) or b""
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        a, b, c, d = head[6:10]
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
    file.seek(start)
    frame = file.read(512) or b""
    file.seek(0)
    is_mp3 = len(frame) > 4 and frame[0] == 0xFF and frame[1] & 0xE6 == 0xE2
    return is_mp3 and not any(tag in frame for tag in (b"Xing", b"Info"))
