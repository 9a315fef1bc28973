"""Opens a sound file, whatever it is, as one forward stream of mono float32 blocks.

libsndfile reads most files and seeks to the sample; what it cannot read (AAC, ALAC, WMA, WavPack,
Matroska ...) goes to FFmpeg through PyAV, which here only moves forwards. The content decides, never
the name. Both are given an open file rather than a name: names that are not UTF-8 work, a sibling
`._track.mp3` is not taken for a resource fork, and a playlist cannot make FFmpeg open anything else.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from typing import Protocol

import av
import av.container
import av.error
import av.logging
import numpy as np
import numpy.typing as npt
import soundfile

from sonicscan.errors import AudioError, Status

Float32 = npt.NDArray[np.float32]

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 2000, 1_536_000
MAX_CHANNELS = 64
_MAX_BAD_PACKETS = 200

# Containers and elementary streams that hold sound; demuxers that open further files are left out.
_AV_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,latm,loas,matroska,webm,"
    "mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,qcp,rm,shn,tak,truehd,tta,voc,w64,wav,wv,xwma,wsaud,aea"
)
# Raw streams whose length FFmpeg guesses from the bit rate: their packets are counted instead.
_UNSIZED_FORMATS = frozenset({"aac", "ac3", "amr", "dts", "dtshd", "eac3", "loas", "latm", "mp3", "truehd", "mpegts"})

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


def open_source(path: bytes) -> Source:
    """Open a sound file by its content.

    Raises:
        AudioError: with the status that says why there is no sound to be had.
    """
    file = open_regular(path)
    try:
        if not os.fstat(file.fileno()).st_size:
            raise AudioError("empty", "the file has no bytes.")
        if not _is_mp3_without_length(file):
            with contextlib.suppress(soundfile.LibsndfileError):
                return _checked(SndfileSource(file))
            file.seek(0)
        return _checked(AvSource(file))
    except BaseException:
        file.close()
        raise


def open_regular(path: bytes) -> io.FileIO:
    """Open a regular file for reading, never waiting for a FIFO or a device to speak.

    Raises:
        AudioError: `permission_denied`, `vanished`, `unreadable`, or `unsupported` for anything
            that is not a regular file.
    """
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
    if not MIN_SAMPLE_RATE <= source.sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError("unsupported", f"a sample rate of {source.sample_rate} Hz is out of range.")
    if not 1 <= source.channels <= MAX_CHANNELS:
        raise AudioError("unsupported", f"{source.channels} channels are out of range.")
    return source


class SndfileSource:
    """What libsndfile reads: WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, CAF, AU, W64 and more."""

    def __init__(self, file: io.FileIO) -> None:
        # A descriptor of its own, so that a refusal leaves `file` open for PyAV; the position is shared.
        self._sound = soundfile.SoundFile(os.dup(file.fileno()), closefd=True)
        self._file = file
        self.sample_rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        kind = "FLAC" if self._sound.format == "FLAC" else self._sound.subtype
        self.codec = _CODECS.get(kind, kind.lower())
        self.claimed_frames: int | None = _claimed_frames(self._sound)
        self.ended_badly = ""
        self._at_end = False
        self._weights = np.full(self.channels, 1.0 / self.channels, dtype=np.float32)

    def seek(self, frame: int) -> None:
        try:
            self._sound.seek(min(frame, self._sound.frames))
        except soundfile.LibsndfileError as error:
            self._end(error)

    def read(self, frames: int) -> Float32:
        if self._at_end:
            return np.empty(0, dtype=np.float32)
        try:
            block: Float32 = self._sound.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            self._end(error)
            return np.empty(0, dtype=np.float32)
        return block[:, 0] if self.channels == 1 else block @ self._weights

    def _end(self, error: soundfile.LibsndfileError) -> None:
        self._at_end = True
        self.ended_badly = str(error.error_string or "the decoder stopped").rstrip(".").lower()

    def close(self) -> None:
        self._sound.close()
        self._file.close()


_CODECS = {"MPEG_LAYER_III": "mp3", "MPEG_LAYER_II": "mp2", "MPEG_LAYER_I": "mp1", "ALAC_16": "alac", "PCM_S8": "pcm_8"}


def _claimed_frames(sound: soundfile.SoundFile) -> int:
    """libsndfile's count, or the WAV header's where libsndfile's log says that it promised more."""
    promised = re.search(r"^\s*data : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if promised:
        claimed, found = int(promised[1]), int(promised[2])
        if 0 < found < claimed < 0xFFFF_F000:  # a streamed WAV writes the largest number instead of a length
            return int(sound.frames * claimed / found)
    return int(sound.frames)


def _is_mp3_without_length(file: io.FileIO) -> bool:
    """Whether this is an MP3 whose length libsndfile would guess, and stop at its guess."""
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        a, b, c, d = head[6:10]
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
    file.seek(start)
    frame = file.read(512)
    file.seek(0)
    is_mp3 = len(frame) > 4 and frame[0] == 0xFF and frame[1] & 0xE6 == 0xE2
    return is_mp3 and not any(tag in frame for tag in (b"Xing", b"Info", b"VBRI"))


# Zero and full scale of FFmpeg's integer sample formats.
_INTEGER_SAMPLES = {"uint8": (128.0, 128.0), "int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31), "int64": (0.0, 2.0**63)}


class AvSource:
    """What FFmpeg reads and libsndfile does not. Moves forwards only: a seek decodes and drops."""

    def __init__(self, file: io.FileIO) -> None:
        av.logging.set_level(None)
        self._file = file
        self._open()
        unsized = not _UNSIZED_FORMATS.isdisjoint(self._container.format.name.split(","))
        self.claimed_frames: int | None = None
        packets_s = self._packets_s() if unsized else None
        self.ended_badly = ""
        self._frames = self._decode()
        self._rest = self._next_block()
        if self._rest is None:
            raise AudioError("unreadable", f"no sound could be decoded{self._because()}.")
        self._position = 0
        seconds = self._container_s() if packets_s is None else packets_s
        if seconds is not None:
            self.claimed_frames = round(seconds * self.sample_rate)

    def _open(self) -> None:
        try:
            container = av.open(
                self._file,
                mode="r",
                options={"format_whitelist": _AV_FORMATS, "protocol_whitelist": ""},
                metadata_errors="ignore",
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise AudioError("unsupported", "neither libsndfile nor FFmpeg knows a sound format in it.") from error
        stream = container.streams.best("audio")
        if not isinstance(stream, av.AudioStream):
            raise AudioError("unsupported", "the file has no audio stream.")
        self._container: av.container.InputContainer = container
        self._stream = stream
        self.codec = stream.codec_context.codec.canonical_name
        self.sample_rate = stream.codec_context.sample_rate
        self.channels = stream.codec_context.channels

    def _container_s(self) -> float | None:
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        if self._container.duration is not None:
            return float(self._container.duration / av.time_base)
        return None

    def _packets_s(self) -> float | None:
        """Length by counting packets, without decoding; the container is opened again after."""
        seconds = 0.0
        with contextlib.suppress(av.error.FFmpegError):
            for packet in self._container.demux(self._stream):
                if packet.duration and packet.time_base:
                    seconds += float(packet.duration * packet.time_base)
        self._container.close()
        self._file.seek(0)
        self._open()
        return seconds or None

    def _decode(self) -> Iterator[Float32]:
        bad = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
                for frame in packet.decode():
                    if isinstance(frame, av.AudioFrame):
                        yield self._mono(frame)
            except StopIteration:
                return
            except (av.error.EOFError, av.error.FFmpegError) as error:
                if isinstance(error, av.error.EOFError):
                    return
                bad += 1
                self.ended_badly = f"{bad} damaged packets" if bad > 1 else "a damaged packet"
                if bad >= _MAX_BAD_PACKETS:
                    return

    def _mono(self, frame: av.AudioFrame) -> Float32:
        samples = frame.to_ndarray()
        channels = frame.layout.nb_channels
        planes = samples if frame.format.is_planar else samples.reshape(-1, channels).T
        if not np.issubdtype(planes.dtype, np.floating):
            zero, scale = _INTEGER_SAMPLES[planes.dtype.name]
            planes = (planes.astype(np.float32) - zero) / scale
        # HE-AAC announces half its rate; the first frame tells the real one.
        self.sample_rate, self.channels = frame.sample_rate, channels
        mono: Float32 = planes.mean(axis=0, dtype=np.float32)
        return mono

    def _next_block(self) -> Float32 | None:
        return next(self._frames, None)

    def _because(self) -> str:
        return f" ({self.ended_badly})" if self.ended_badly else ""

    def seek(self, frame: int) -> None:
        while self._position < frame and len(self.read(min(65536, frame - self._position))):
            pass

    def read(self, frames: int) -> Float32:
        parts: list[Float32] = []
        wanted = frames
        while wanted and self._rest is not None:
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            parts.append(part)
            wanted -= len(part)
            if not len(self._rest):
                self._rest = self._next_block()
        self._position += frames - wanted
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def close(self) -> None:
        self._container.close()
        self._file.close()
