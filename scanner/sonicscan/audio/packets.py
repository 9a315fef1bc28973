"""The length of a track in a container that FFmpeg reads: the claimed length, and the length by its packets."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import av
import av.container
import av.error

_LEAST_S = 0.5  # of sound behind the claimed end, to matter
_BEFORE_END_S = 1.0
_OPUS_RATE = 48000
_AAC_FRAME = 1024
# Raw streams whose length FFmpeg guesses from the bit rate: their packets are counted instead.
_UNSIZED = frozenset({"aac", "ac3", "amr", "dts", "dtshd", "eac3", "loas", "latm", "mp3", "truehd", "mpegts", "mlp"})


@dataclass(frozen=True)
class Length:
    """The length of a track before it is decoded.

    Attributes:
        claimed_s: the length from the container, or from its packets if the container's is unreliable; None if unknown.
        low: there are packets behind the claimed end.
        reached: there are packets up to the claimed end.
        moved: packets were read, so that the container must be opened again.
    """

    claimed_s: float | None
    low: bool
    reached: bool
    moved: bool


def measure(container: av.container.InputContainer, stream: av.AudioStream) -> Length:
    """Compare the length that a container claims for `stream` with its packets."""
    if not _UNSIZED.isdisjoint(container.format.name.split(",")):
        return Length(_counted_s(container, stream), low=False, reached=True, moved=True)
    claimed, own = _claimed_s(container, stream)
    if claimed is None:
        return Length(None, low=False, reached=False, moved=False)
    if _table_agrees(container, stream, claimed):
        return Length(claimed, low=False, reached=False, moved=False)
    end = end_s(container, stream, claimed)
    start = _start_s(stream)
    if end is not None:
        if not own:  # the length may count from zero or from the stream's start, or belong to another stream
            if start > _LEAST_S:
                claimed = min(claimed, claimed - start, key=lambda seconds: abs(seconds - end))
            if len(container.streams) > 1 and container.format.name != "ogg":
                claimed = end
        low = end > claimed + _LEAST_S
        return Length(claimed, low, end >= claimed - max(_LEAST_S, 0.01 * claimed), moved=True)
    return Length(claimed, low=False, reached=False, moved=True)


def end_s(container: av.container.InputContainer, stream: av.AudioStream, claimed_s: float) -> float | None:
    """The end of the last packet of `stream`, in seconds from its start; None if packets have no times.

    Reads only packets from shortly before the claimed end.
    """
    start, base = _start_s(stream), stream.time_base
    if base is None:
        return None
    with contextlib.suppress(av.error.FFmpegError, OverflowError):
        container.seek(int((start + max(0.0, claimed_s - _BEFORE_END_S)) / base), stream=stream)
    end = None
    with contextlib.suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            time = packet.dts if packet.pts is None else packet.pts
            if packet.size and time is not None:
                end = max(end or 0.0, float((time + (packet.duration or 0)) * base) - start)
    return end


def _counted_s(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    seconds = 0.0
    with contextlib.suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            if packet.duration and packet.time_base:
                seconds += float(packet.duration * packet.time_base)
    return seconds or None


def _start_s(stream: av.AudioStream) -> float:
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def _claimed_s(container: av.container.InputContainer, stream: av.AudioStream) -> tuple[float | None, bool]:
    """The claimed length, and whether it is of this stream alone."""
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
        head = stream.codec_context.extradata or b""
        if container.format.name == "ogg" and head[:8] == b"OpusHead":
            seconds -= int.from_bytes(head[10:12], "little") / _OPUS_RATE  # decoded first, and dropped
        return seconds, container.format.name != "ogg"  # Ogg's may count from zero
    for name, text in stream.metadata.items():  # Matroska: "00:10:12.001000000", where the track ends
        if name.upper().startswith("DURATION") and (end := _clock_s(text)) is not None:
            own = end - _start_s(stream)
            whole = own if container.duration is None else float(container.duration / av.time_base)
            return min(own, whole), True  # other tracks may be longer, none is longer than the container
    if container.duration is not None:
        return float(container.duration / av.time_base), False
    return None, False


def _clock_s(text: str) -> float | None:
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None


def _table_agrees(container: av.container.InputContainer, stream: av.AudioStream, claimed_s: float) -> bool:
    """Whether the sample table of an MP4 holds enough AAC frames for the claimed length."""
    if not container.format.name.startswith("mov,") or stream.codec_context.name != "aac" or not stream.frames:
        return False
    counted = stream.frames * _AAC_FRAME / (stream.codec_context.sample_rate or 1)
    return min(abs(counted - claimed_s), abs(2 * counted - claimed_s)) < _LEAST_S
