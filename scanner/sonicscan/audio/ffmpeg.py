"""Reads sound files with FFmpeg: formats that libsndfile lacks (AAC, ALAC, WMA, Matroska ...), and Ogg if quicker."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from fractions import Fraction

import av
import av.container
import av.error
import av.logging
import numpy as np
import soxr
from av.audio.fifo import AudioFifo

from sonicscan.arrays import Float32
from sonicscan.audio import jumps
from sonicscan.audio.containers import refuse_encrypted, why_unreadable
from sonicscan.audio.downmix import Downmix, bitstream_error, bitstream_in
from sonicscan.audio.jumps import Grid
from sonicscan.audio.packets import end_s, measure
from sonicscan.audio.views import View, behind_id3
from sonicscan.errors import AudioError

SAMPLE_RATES = range(2000, 5_644_801)  # DSD1024 is decoded to the highest of these
_MAX_BAD_PACKETS = 200  # one after the other
_JOINED_SAMPLES = 16384
_JUMP_S = 2.0  # a shorter stretch is decoded, because a jump costs as much
_MAX_CUT_FRAMES = 16  # after a jump, shorter than the others
_LEAD_S = 0.5  # of decoding before the first sample that counts: overlaps, MP3's bit reservoir

# Containers and elementary streams that hold sound; demuxers that open further files are left out.
CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,latm,loas,matroska,webm,"
    "mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,qcp,rm,shn,tak,truehd,tta,voc,w64,wav,wv,xwma,wsaud,aea"
)
# Codecs that keep each bit, so that a compressed bitstream may be hidden in their samples.
_LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "tta", "ape", "tak", "shorten")

# Zero and full scale of FFmpeg's integer sample formats.
_INTEGER_SAMPLES = {"uint8": (128.0, 128.0), "int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31), "int64": (0.0, 2.0**63)}


def _decoder(context: av.AudioCodecContext) -> av.AudioCodecContext:
    """The stream's decoder, but libopus for Opus if available: FFmpeg's own Opus decoder differs by up to -36 dB."""
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


class AvSource:
    """A `sources.Source` that seeks if timestamps are exact; otherwise it decodes and drops samples. It owns `file`.

    Raises:
        AudioError: there is no sound in it that FFmpeg can decode.
    """

    def __init__(self, file: io.RawIOBase, counted: bool = False, note: str = "") -> None:
        """Open `file`.

        Args:
            file: a seekable file.
            counted: the claimed length is known to be wrong, so the frames must be counted.
            note: what is unusual about the file, for the report row.
        """
        av.logging.set_level(None)
        self._file = file
        start = behind_id3(file)
        self._content = View(file, start) if start else file
        refuse_encrypted(self._content)
        self._open()
        self._length = length = measure(self._container, self._stream)
        if length.moved:
            self._open_again()
        self.ended_badly = ""
        self.note = note
        self.damage = ""
        self.frames: int | None = None
        self.claimed_frames: int | None = None
        self._changed = False
        self._can_jump = False
        self._grid: Grid | None = None
        self._ahead = 0
        self._converter: tuple[int, soxr.ResampleStream] | None = None
        self._started = False
        self._position = 0
        self._downmix = Downmix(max(1, self.channels))
        self._decode_from(self._from_start())
        if self._rest is None:
            because = f" ({self.ended_badly})" if self.ended_badly else ""
            raise AudioError("unreadable", f"no sound could be decoded{because}.")
        if length.claimed_s is not None and length.claimed_s > 0:
            self.claimed_frames = round(length.claimed_s * self.sample_rate)
            if not (counted or length.low):
                self.frames = self.claimed_frames

    def _open(self) -> None:
        try:
            container = av.open(
                self._content,
                mode="r",
                options={"format_whitelist": CONTAINERS, "protocol_whitelist": ""},
                metadata_errors="ignore",
            )
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            raise why_unreadable(self._content) from error
        stream = container.streams.best("audio")
        if not isinstance(stream, av.AudioStream) or getattr(stream, "codec_context", None) is None:
            unknown = any(track.type == "audio" for track in container.streams)
            container.close()
            what = "a sound format that FFmpeg does not decode" if unknown else "no audio stream"
            raise AudioError("unsupported", f"the file has {what}.")
        self._container: av.container.InputContainer = container
        self._stream = stream
        self._decoder = _decoder(stream.codec_context)
        self.codec = stream.codec_context.codec.canonical_name
        self.sample_rate = stream.codec_context.sample_rate
        self.channels = stream.codec_context.channels

    def _open_again(self) -> None:
        self._container.close()
        self._content.seek(0)
        self._open()

    def reaches_end(self) -> bool:
        """Whether there are packets up to the claimed end; call it only after the last read."""
        if self._length.moved or self._length.claimed_s is None:
            return self._length.reached
        end = end_s(self._container, self._stream, self._length.claimed_s)
        return end is not None and end >= self._length.claimed_s - max(0.5, 0.01 * self._length.claimed_s)

    def channel_peak(self, first: int, end: int) -> float:
        return self._downmix.peak(first, end)

    def _from_start(self) -> Iterator[av.AudioFrame]:
        """All frames. The first frames show how exact timestamps are, so that the end of a seek can be located."""
        container, first = self._container.format.name, list[tuple[int, float | None, int]]()
        n = 0
        for k, frame in enumerate(self._decoded()):
            if k == 1 and jumps.counts_samples(container, self.codec):
                ahead = jumps.samples_ahead(container, frame, n)
                self._can_jump, self._ahead = ahead is not None, ahead or 0
            if k < jumps.LOOKED_AT and jumps.rounds_times(container, self.codec):
                first.append((frame.samples, frame.time, frame.sample_rate))
                self._grid = jumps.grid_of(first)
                self._can_jump = self._grid is not None
            n += frame.samples
            yield frame

    def _decode_from(self, frames: Iterator[av.AudioFrame]) -> None:
        self._frames = map(self._mono, self._joined(frames))
        self._rest = next(self._frames, None)

    def _joined(self, frames: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame]:
        """Join frames into longer ones: converting each frame of FFmpeg to an array takes longer than decoding it."""
        kind, queue = None, AudioFifo()
        for frame in frames:
            frame.pts = None  # the queue would need times without gaps
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
        in_a_row = frames = bad = 0
        packets = self._container.demux(self._stream)
        while in_a_row < _MAX_BAD_PACKETS:
            try:
                for frame in self._decoder.decode(next(packets)):
                    if isinstance(frame, av.AudioFrame) and frame.samples:
                        if in_a_row and frames:  # neither before the first frame nor behind the last one
                            bad += in_a_row
                            what = f"{bad} damaged packets were" if bad > 1 else "a damaged packet was"
                            self.damage = f"{what} skipped"
                        in_a_row, frames = 0, frames + 1
                        yield frame
            except (StopIteration, av.error.EOFError):
                return
            except MemoryError:  # FFmpeg's own is one of its other errors too
                raise
            except av.error.FFmpegError:
                in_a_row += 1
                self.ended_badly = f"{in_a_row} damaged packets" if in_a_row > 1 else "a damaged packet"

    def _mono(self, frame: av.AudioFrame) -> Float32:
        samples = frame.to_ndarray()
        channels = frame.layout.nb_channels
        if not np.issubdtype(samples.dtype, np.floating):
            zero, scale = _INTEGER_SAMPLES[samples.dtype.name]
            samples = (samples.astype(np.float32) - zero) / scale
        samples = samples.reshape(-1, channels) if not frame.format.is_planar else samples.T
        block: Float32 = samples.astype(np.float32, copy=False)
        if not self._started:
            # HE-AAC headers state half the rate; the first frame has the real one.
            self.sample_rate, self.channels, self._started = frame.sample_rate, channels, True
            if self.codec.startswith(_LOSSLESS) and (kind := bitstream_in(block)):
                raise bitstream_error(kind)
        mono = self._downmix.mono(block)
        self._changed |= (channels, frame.sample_rate) != (self.channels, self.sample_rate)
        return mono if frame.sample_rate == self.sample_rate else self._at_first_rate(mono, frame.sample_rate)

    @property
    def changes(self) -> bool:
        """Whether channels or sample rate changed within the file."""
        return self._changed

    def _at_first_rate(self, mono: Float32, rate: int) -> Float32:
        """Resample sound whose rate changes within the file: chained streams, or HE-AAC with a late header."""
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
        """Seek to shortly before `frame`; restart from the beginning if the seek ends elsewhere."""
        landed = None
        try:
            time_base = self._stream.time_base or Fraction(1, self.sample_rate)
            start = 0 if self._grid is None else self._stream.start_time or 0
            target = start + int((frame / self.sample_rate - _LEAD_S) / time_base)
            self._container.seek(target, stream=self._stream)
            self._decoder.flush_buffers()
            frames = self._decoded()
            next(frames)  # what overlaps with the frame before it is missing, and some decoders cut it short
            for first in itertools.islice(frames, _MAX_CUT_FRAMES):
                if first.sample_rate == self.sample_rate:
                    landed = self._place_of(first)
                if landed is not None or self._grid is None:
                    break
        except MemoryError:
            raise
        except (StopIteration, av.error.FFmpegError):
            pass
        if landed is not None and 0 <= landed <= frame:
            self._can_jump = landed >= self._position  # otherwise jumps do not save any decoding
            self._downmix.position = landed
            self._decode_from(itertools.chain([first], frames))
            self._position = landed
        else:
            self._can_jump, self._converter = False, None
            facts = self.sample_rate, self.channels
            self._open_again()
            self.sample_rate, self.channels = facts
            self._downmix.position = 0
            self._decode_from(self._decoded())
            self._position = 0

    def _place_of(self, frame: av.AudioFrame) -> int | None:
        """The samples before `frame`, by its timestamp; None if that does not tell."""
        if self._grid is not None:
            return self._grid.place_of(frame)
        samples = jumps.samples_before(frame)
        return None if samples is None else samples - self._ahead

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

    def put_back(self, block: Float32) -> None:
        """Put `block` back, so that the next read returns it first."""
        self._rest = block if self._rest is None else np.concatenate([block, self._rest])
        self._position -= len(block)

    def close(self) -> None:
        self._container.close()
        self._file.close()
