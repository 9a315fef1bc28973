"""Sound files that FFmpeg reads: what libsndfile does not (AAC, ALAC, WMA, Matroska ...), and Ogg, where quicker."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator
from fractions import Fraction

import av
import av.container
import av.error
import av.logging
import numpy as np
import numpy.typing as npt
import soxr
from av.audio.fifo import AudioFifo

from sonicscan.errors import AudioError

Float32 = npt.NDArray[np.float32]

SAMPLE_RATES = range(2000, 1_536_001)
_MAX_BAD_PACKETS = 200  # one after the other
_JOINED_SAMPLES = 16384
_OPUS_RATE = 48000
_JUMP_S = 2.0  # a jump costs as much as decoding less than that
_LEAD_S = 0.5  # of decoding before the first sample that counts: overlaps, MP3's bit reservoir

# Containers and elementary streams that hold sound; demuxers that open further files are left out.
CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,latm,loas,matroska,webm,"
    "mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,qcp,rm,shn,tak,truehd,tta,voc,w64,wav,wv,xwma,wsaud,aea"
)
# Raw streams whose length FFmpeg guesses from the bit rate: their packets are counted instead.
_UNSIZED_FORMATS = frozenset({"aac", "ac3", "amr", "dts", "dtshd", "eac3", "loas", "latm", "mp3", "truehd", "mpegts"})

# Zero and full scale of FFmpeg's integer sample formats.
_INTEGER_SAMPLES = {"uint8": (128.0, 128.0), "int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31), "int64": (0.0, 2.0**63)}


def _decoder(context: av.AudioCodecContext) -> av.AudioCodecContext:
    """The stream's own, but libopus for Opus, where there is one: FFmpeg's is up to -36 dB off it."""
    if context.codec.canonical_name != "opus":
        return context
    try:
        decoder = av.CodecContext.create("libopus", "r")
    except av.codec.codec.UnknownCodecError:
        return context
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.extradata = context.extradata
    decoder.options = {"request_sample_fmt": "flt"}  # its integers would clip
    return decoder


def _samples_before(frame: av.AudioFrame) -> int | None:
    """What the frame's timestamp says of its place; None where that is no whole number of samples."""
    if frame.pts is None or frame.time_base is None:
        return None
    samples = frame.pts * frame.time_base * frame.sample_rate
    return int(samples) if samples.denominator == 1 else None


class AvSource:
    """A `sources.Source` that jumps where timestamps count samples, else decodes and drops. Owns `file` from then on.

    Raises:
        AudioError: there is no sound in it that FFmpeg can decode.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        av.logging.set_level(None)
        self._file = file
        self._open()
        unsized = not _UNSIZED_FORMATS.isdisjoint(self._container.format.name.split(","))
        self.claimed_frames: int | None = None
        packets_s = self._packets_s() if unsized else None
        self.ended_badly = ""
        self._bad_packets = 0
        self._can_jump = False
        self._converter: tuple[int, soxr.ResampleStream] | None = None
        self._started = False
        self._decode_from(self._from_start())
        if self._rest is None:
            because = f" ({self.ended_badly})" if self.ended_badly else ""
            raise AudioError("unreadable", f"no sound could be decoded{because}.")
        self._position = 0
        seconds = self._container_s() if packets_s is None else packets_s
        if seconds is not None and seconds > 0:
            self.claimed_frames = round(seconds * self.sample_rate)

    def _open(self) -> None:
        try:
            container = av.open(
                self._file,
                mode="r",
                options={"format_whitelist": CONTAINERS, "protocol_whitelist": ""},
                metadata_errors="ignore",
            )
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            raise AudioError("unsupported", "neither libsndfile nor FFmpeg knows a sound format in it.") from error
        stream = container.streams.best("audio")
        if not isinstance(stream, av.AudioStream):
            raise AudioError("unsupported", "the file has no audio stream.")
        self._container: av.container.InputContainer = container
        self._stream = stream
        self._decoder = _decoder(stream.codec_context)
        self.codec = stream.codec_context.codec.canonical_name
        self.sample_rate = stream.codec_context.sample_rate
        self.channels = stream.codec_context.channels

    def _open_again(self) -> None:
        self._container.close()
        self._file.seek(0)
        self._open()

    def _container_s(self) -> float | None:
        if self._stream.duration is not None and self._stream.time_base is not None:
            seconds = float(self._stream.duration * self._stream.time_base)
            head = self._stream.codec_context.extradata or b""
            if self._container.format.name == "ogg" and head[:8] == b"OpusHead":
                seconds -= int.from_bytes(head[10:12], "little") / _OPUS_RATE  # decoded first, and dropped
            return seconds
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
        self._open_again()
        return seconds or None

    def _from_start(self) -> Iterator[av.AudioFrame]:
        """All frames. The second shows whether timestamps count samples, so that a jump can tell where it ends."""
        container = self._container.format.name
        exact = container.startswith("mov,") or (container == "ogg" and self.codec == "opus")
        n = 0
        for k, frame in enumerate(self._decoded()):
            if k == 1:
                self._can_jump = exact and _samples_before(frame) == n
            n += frame.samples
            yield frame

    def _decode_from(self, frames: Iterator[av.AudioFrame]) -> None:
        self._frames = map(self._mono, self._joined(frames))
        self._rest = next(self._frames, None)

    def _joined(self, frames: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame]:
        """Longer frames: turning each of FFmpeg's own into an array takes longer than decoding it."""
        kind, queue = None, AudioFifo()
        for frame in frames:
            frame.pts = None  # the queue would insist on times without gaps
            this = (frame.format.name, frame.layout.nb_channels, frame.sample_rate)
            if queue.samples >= _JOINED_SAMPLES or this != kind:
                if (joined := queue.read()) is not None:
                    yield joined
                if this != kind:
                    kind, queue = this, AudioFifo()
            queue.write(frame)
        if (joined := queue.read()) is not None:
            yield joined

    def _decoded(self) -> Iterator[av.AudioFrame]:
        in_a_row = 0
        packets = self._container.demux(self._stream)
        while in_a_row < _MAX_BAD_PACKETS:
            try:
                for frame in self._decoder.decode(next(packets)):
                    if isinstance(frame, av.AudioFrame) and frame.samples:
                        yield frame
                        in_a_row = 0
            except (StopIteration, av.error.EOFError):
                return
            except MemoryError:  # FFmpeg's own is one of its other errors too
                raise
            except av.error.FFmpegError:
                self._bad_packets, in_a_row = self._bad_packets + 1, in_a_row + 1
                bad = self._bad_packets
                self.ended_badly = f"{bad} damaged packets" if bad > 1 else "a damaged packet"

    def _mono(self, frame: av.AudioFrame) -> Float32:
        samples = frame.to_ndarray()
        channels = frame.layout.nb_channels
        if not np.issubdtype(samples.dtype, np.floating):
            zero, scale = _INTEGER_SAMPLES[samples.dtype.name]
            samples = (samples.astype(np.float32) - zero) / scale
        if not frame.format.is_planar:
            samples = samples.reshape(-1, channels).T
        mono: Float32 = np.full(channels, 1 / channels, np.float32) @ samples.astype(np.float32, copy=False)
        if not self._started:
            # HE-AAC announces half its rate; the first frame tells the real one.
            self.sample_rate, self.channels, self._started = frame.sample_rate, channels, True
        return mono if frame.sample_rate == self.sample_rate else self._at_first_rate(mono, frame.sample_rate)

    def _at_first_rate(self, mono: Float32, rate: int) -> Float32:
        """Sound whose rate changes on the way: chained streams, HE-AAC that says so late."""
        if rate not in SAMPLE_RATES:
            raise AudioError("unsupported", f"a sample rate of {rate} Hz is out of range.")
        if self._converter is None or self._converter[0] != rate:
            self._converter = rate, soxr.ResampleStream(rate, self.sample_rate, 1, dtype="float32", quality="HQ")
        converted: Float32 = self._converter[1].resample_chunk(mono)
        return converted

    def seek(self, frame: int) -> None:
        if self._can_jump and frame - self._position > _JUMP_S * self.sample_rate:
            self._jump(frame)
        while self._position < frame and len(self.read(min(65536, frame - self._position))):
            pass

    def _jump(self, frame: int) -> None:
        """Go on shortly before `frame`, or from the start where the container leads elsewhere."""
        landed = None
        try:
            time_base = self._stream.time_base or Fraction(1, self.sample_rate)
            self._container.seek(int((frame / self.sample_rate - _LEAD_S) / time_base), stream=self._stream)
            self._decoder.flush_buffers()
            frames = self._decoded()
            next(frames)  # what overlaps with the frame before it is missing, and some decoders cut it short
            first = next(frames)
            landed = _samples_before(first) if first.sample_rate == self.sample_rate else None
        except MemoryError:
            raise
        except (StopIteration, av.error.FFmpegError):
            pass
        if landed is not None and 0 <= landed <= frame:
            self._can_jump = landed >= self._position  # no use otherwise
            self._decode_from(itertools.chain([first], frames))
            self._position = landed
        else:
            self._can_jump, self._converter = False, None
            facts = self.sample_rate, self.channels
            self._open_again()
            self.sample_rate, self.channels = facts
            self._decode_from(self._decoded())
            self._position = 0

    def read(self, frames: int) -> Float32:
        parts: list[Float32] = []
        wanted = frames
        while wanted and self._rest is not None:
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            parts.append(part)
            wanted -= len(part)
            if not len(self._rest):
                self._rest = next(self._frames, None)
        self._position += frames - wanted
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def close(self) -> None:
        self._container.close()
        self._file.close()
