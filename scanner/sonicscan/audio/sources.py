"""Opens a sound file of any format as one forward stream of mono float32 blocks.

libsndfile reads most files and seeks to the sample. FFmpeg, through PyAV, reads the other formats (AAC, ALAC, WMA,
WavPack, Matroska ...). It also reads Ogg Opus, and Ogg Vorbis from start to end. For the same samples it takes two
fifths and two thirds of libsndfile's time. The choice depends on the content, never on the name.

Both libraries get an open file, not a name. So names that are not UTF-8 work, and a sibling `._track.mp3` is not read
as a resource fork. A playlist cannot make FFmpeg open another file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from typing import Protocol

import soundfile

from sonicscan.arrays import Float32
from sonicscan.audio.chained import ChainedSource
from sonicscan.audio.claims import flac_claims_too_little, longer_data, mp3_claim
from sonicscan.audio.downmix import bitstream_error
from sonicscan.audio.ffmpeg import SAMPLE_RATES, AvSource
from sonicscan.audio.libsndfile import SndfileSource
from sonicscan.audio.mended import MENDED, MendedSource
from sonicscan.audio.ogg import BEGINS_STREAM, odd_ogg
from sonicscan.audio.views import View
from sonicscan.errors import AudioError, Status
from sonicscan.library.ranges import OpenFile

MAX_CHANNELS = 64
_NARROW_OPUS_RATE = 24000  # Hz; up to it, libsndfile decodes at less than 48 kHz
_LATE = "its first page is dated late; the sound before it is not in the file."

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
        frames: reliable length; None where the frames must be counted by decoding them.
        ended_badly: the decoder's error after some sound, in words; empty otherwise.
        note: what is unusual about the file, as a sentence; empty otherwise.
        damage: which damaged parts were skipped, in words; empty otherwise.
    """

    sample_rate: int
    channels: int
    codec: str
    claimed_frames: int | None
    frames: int | None
    note: str

    @property
    def ended_badly(self) -> str: ...

    @property
    def damage(self) -> str: ...

    def seek(self, frame: int) -> None:
        """Go forwards to `frame`; past the end, the next read is empty."""

    def read(self, frames: int) -> Float32:
        """Up to `frames` samples, float32 [n], mixed as `downmix` says; fewer only at the end."""

    def channel_peak(self, first: int, end: int) -> float:
        """Largest sample of any channel from frame `first` up to `end`, which were just read; 0 for one channel."""

    def reaches_end(self) -> bool:
        """Whether the file reaches its claimed end, so that missing sound was lost before the end.

        Call it only after the last read.
        """

    def close(self) -> None: ...


def open_source(path: bytes | OpenFile, forwards: bool = False) -> Source:
    """Open a sound file by its content.

    Args:
        path: the file's name, as bytes, or an open remote file.
        forwards: the file is read from its start, without seeks.

    Raises:
        AudioError: the file gives no sound; the status says why.
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
    """The source of libsndfile, or of FFmpeg if it is quicker or libsndfile cannot read the file or its length."""
    if oddity := odd_ogg(file):
        with contextlib.suppress(AudioError):
            return ChainedSource(file) if oddity == "chained" else _by_ffmpeg(file, counted=True, note=_LATE)
    file.seek(0)
    if _is_ogg_for_ffmpeg(file, forwards):
        with contextlib.suppress(AudioError):
            return _by_ffmpeg(file)
    mp3 = mp3_claim(file)
    known = None
    if mp3 is None or (mp3.seconds and not mp3.low):
        if flac_claims_too_little(file):
            with contextlib.suppress(AudioError):
                return _by_ffmpeg(file, counted=True)
        known = _by_libsndfile(file)
        if known is not None and known.knows_length:
            if kind := known.bitstream():
                return _decoded_bitstream(file, known, kind)
            return MendedSource(known) if known.codec in MENDED else known
        if known is not None:
            known.close_sound()
    try:
        source = _by_ffmpeg(file)
    except AudioError:
        last = _by_libsndfile(file) if known is not None else None
        if last is None:
            raise
        return last
    if mp3 is not None and mp3.seconds:
        source.claimed_frames = round(mp3.seconds * source.sample_rate)
    return source


def _by_ffmpeg(file: io.RawIOBase, counted: bool = False, note: str = "") -> AvSource:
    file.seek(0)
    return AvSource(file, counted, note)


def _by_libsndfile(file: io.RawIOBase) -> SndfileSource | None:
    """The source of libsndfile, with a header that counts all samples; None if libsndfile refuses the file."""
    patch = longer_data(file)
    file.seek(0)
    try:
        source = SndfileSource(file)
        if patch is not None:
            claimed = source.claimed_frames
            source.close_sound()
            source = SndfileSource(View(file, patch=patch, owned=True))
            source.claimed_frames = claimed
    except soundfile.LibsndfileError:
        return None
    return source


def _decoded_bitstream(file: io.RawIOBase, known: SndfileSource, kind: str) -> Source:
    """FFmpeg's source for a compressed bitstream in the samples of a WAV.

    Raises:
        AudioError: FFmpeg also reads the bitstream as samples.
    """
    known.close_sound()
    with contextlib.suppress(AudioError):
        source = _by_ffmpeg(file)
        if not source.codec.startswith(("pcm_", "flac", "alac")):
            return source
    raise bitstream_error(kind)


def open_regular(path: bytes | OpenFile) -> io.RawIOBase:
    """Open a regular file for reading; never waits for data of a FIFO or device.

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

    libsndfile reads fewer bytes of remote Opus. But it decodes Opus, always a 48 kHz stream, at the input rate that the
    header notes (RFC 7845, 5.1). It treats 0, for unknown, as 8 kHz, and so drops all sound above 4 kHz.
    """
    head = file.read(512) or b""
    file.seek(0)
    if head[:4] != b"OggS" or len(head) < 512:
        return False
    next_page = head[27 + head[26] + sum(head[27 : 27 + head[26]]) :]
    if len(next_page) < 6 or next_page[:4] != b"OggS" or next_page[5] & BEGINS_STREAM:
        return False  # several multiplexed streams: the two libraries may choose different ones
    if head[28:36] == b"OpusHead":
        noted_rate = int.from_bytes(head[40:44], "little")
        return forwards or isinstance(file, io.FileIO) or noted_rate <= _NARROW_OPUS_RATE
    return forwards and head[28:35] == b"\x01vorbis"
