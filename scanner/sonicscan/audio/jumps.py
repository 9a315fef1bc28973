"""Finds the position after a seek in a container, from timestamps that count samples or identify frames."""

from __future__ import annotations

from dataclasses import dataclass

import av

# Codecs with frames of constant length. Vorbis frames vary.
_EVEN = frozenset({"opus", "aac", "flac", "alac", "mp3", "mp2", "ac3", "eac3", "wmav1", "wmav2", "dts"})
_RAW_AAC = frozenset({"aac", "loas"})  # not AC-3: its decoder adds noise that differs after a jump
_MOST_AHEAD = 960  # samples: a frame of Opus
_TOLERANCE_S = 1.1e-3  # two times that are rounded to a millisecond
LOOKED_AT = 4  # frames from the start that show how exact timestamps are


def counts_samples(container: str, codec: str) -> bool:
    """Whether a container's timestamps may count samples (MP4, Opus in Ogg, and AAC in ADTS or LOAS).

    ADTS and LOAS hold no timestamps. FFmpeg counts their frames, in a unit that divides every sample rate of AAC.
    """
    return container.startswith("mov,") or container in _RAW_AAC or (container == "ogg" and codec == "opus")


def rounds_times(container: str, codec: str) -> bool:
    """Whether timestamps are rounded, to a millisecond, but tell frames of one length apart (Matroska, ASF)."""
    return container in ("matroska,webm", "asf") and codec in _EVEN


def samples_before(frame: av.AudioFrame) -> int | None:
    """The frame's position in samples by its timestamp; None if that is not a whole number."""
    if frame.pts is None or frame.time_base is None:
        return None
    samples = frame.pts * frame.time_base * frame.sample_rate
    return int(samples) if samples.denominator == 1 else None


def samples_ahead(container: str, frame: av.AudioFrame, before: int) -> int | None:
    """How far the timestamp of `frame`, behind `before` samples, is ahead of them; None if jumps cannot use it.

    A copy of Opus from WebM into Ogg is a few samples ahead or behind from start to end, since WebM rounds times.
    """
    samples = samples_before(frame)
    if samples is None or abs(samples - before) > (_MOST_AHEAD if container == "ogg" else 0):
        return None
    return samples - before


@dataclass(frozen=True)
class Grid:
    """Frames of `size` samples, the second of which begins at `second_s` by its timestamp, behind `first` samples."""

    size: int
    first: int
    second_s: float
    rate: int

    def place_of(self, frame: av.AudioFrame) -> int | None:
        """Samples before `frame`, by its timestamp; None where the frame is not on the grid."""
        if frame.time is None or frame.samples != self.size or frame.sample_rate != self.rate:
            return None
        steps = round((frame.time - self.second_s) * self.rate / self.size)
        if abs(frame.time - self.second_s - steps * self.size / self.rate) > _TOLERANCE_S:
            return None
        return self.first + steps * self.size


def grid_of(frames: list[tuple[int, float | None, int]]) -> Grid | None:
    """The grid of the first frames of a track, each (samples, time in seconds, sample rate); None for none."""
    if len(frames) < LOOKED_AT or frames[1][1] is None:
        return None
    size, second_s, rate = frames[1]
    grid = Grid(size, frames[0][0], second_s or 0.0, rate)
    for k, (samples, time, its_rate) in enumerate(frames[1:]):
        if samples != size or its_rate != rate or time is None:
            return None
        if abs(time - grid.second_s - k * size / rate) > _TOLERANCE_S:
            return None
    return grid
