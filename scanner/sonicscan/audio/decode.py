"""Decodes a file into the model's windows: one open, one forward pass, bounded blocks.

    Source ─blocks─▶ mono ─soxr─▶ sample rate of the model ─cut─▶ windows

Windows far apart are reached by seeking; windows close together are cut from one stretch. Each stretch starts a little
early, so that the start-up of the resampler's filter can be dropped. A file is read twice if it claims no length, or
ends before the claimed length. The second time, the windows are spread over the real length.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from sonicscan.arrays import Float32
from sonicscan.audio.facts import AudioFacts, Found, Meter, facts_of, is_too_short, resampled_frames
from sonicscan.audio.sources import Source, open_source
from sonicscan.audio.windows import WindowPlan
from sonicscan.library.ranges import OpenFile
from sonicscan.spec import AudioSpec

BLOCK_FRAMES = 65536
_LEAD_S = 0.05  # read before a stretch and dropped: soxr's filters are shorter
_DELAY_S = 0.06  # the resampler holds back about this much at most
_JOIN_S = 1.0  # windows closer than this are cut from one stretch
SILENT_PEAK = 1e-3  # -60 dBFS
_HELD_WINDOWS = 32  # a plan of more windows is not buffered: the windows of a long file would not fit into memory


@dataclass(frozen=True)
class Window:
    """A window: start in the track, mono samples float32 [window_samples], whether all channels are silent."""

    start_s: float
    samples: Float32
    silent: bool


def read_windows(path: bytes | OpenFile, spec: AudioSpec, plan: WindowPlan) -> Generator[Window, None, AudioFacts]:
    """Decode a track into windows.

    Args:
        path: the file's name, as bytes, or an open remote file.
        spec: sample rate and window length.
        plan: which windows.

    Yields:
        windows by ascending start; no windows for a track under one second.

    Returns:
        the track's facts (as the generator's return value).

    Raises:
        AudioError: no sound could be read.
    """
    meter = Meter()
    with contextlib.closing(open_source(path, forwards=plan.reads_all)) as source:
        if plan.reads_all:
            found = yield from _all_windows(source, spec, meter)
        else:
            found = yield from _planned_windows(path, source, spec, plan, meter)
        return facts_of(source, spec, meter, found)


def read_mono(path: bytes, sample_rate: int, max_s: float | None = None) -> Float32:
    """The whole track as float32 [n], mono at `sample_rate`; at most `max_s` seconds of it.

    Raises:
        AudioError: no sound could be read.
    """
    with contextlib.closing(open_source(path, forwards=True)) as source:
        limit = None if max_s is None else round(max_s * sample_rate)
        parts: list[Float32] = []
        n = 0
        for block in _resampled(source, sample_rate, Meter(), BLOCK_FRAMES):
            parts.append(block)
            n += len(block)
            if limit is not None and n >= limit:
                break
    return np.concatenate(parts)[:limit] if parts else np.empty(0, dtype=np.float32)


def _all_windows(source: Source, spec: AudioSpec, meter: Meter) -> Generator[Window, None, Found]:
    """Consecutive windows to the end, whatever the length; returns the frames found."""
    length = spec.window_samples
    held: Float32 = np.empty(0, dtype=np.float32)
    start = 0
    for block in _resampled(source, spec.sample_rate, meter, BLOCK_FRAMES):
        held = np.concatenate([held, block])
        while len(held) >= length:
            yield _window(source, spec, start, held[:length])
            held = held[length:]
            start += length
    if not start and len(held) and not is_too_short(meter.frames, source, spec):
        yield _window(source, spec, 0, np.resize(held, length))
    return Found(meter.frames, source.damage)


def _planned_windows(
    path: bytes | OpenFile, source: Source, spec: AudioSpec, plan: WindowPlan, meter: Meter
) -> Generator[Window, None, Found]:
    """Windows spread over the track; returns the frames found, or those claimed if not contradicted."""
    frames = source.frames
    if frames is not None and plan.at_most <= _HELD_WINDOWS:
        # Windows are yielded only after the last one is read: the file may end before the claimed length.
        windows = list(_at(source, spec, plan, frames, meter))
        if None not in windows:
            yield from (window for window in windows if window is not None)
            return Found(frames, source.damage)
    found = _count_frames(path)
    with contextlib.closing(open_source(path)) as again:
        yield from (window for window in _at(again, spec, plan, found.frames, meter) if window is not None)
    return found


def _at(source: Source, spec: AudioSpec, plan: WindowPlan, frames: int, meter: Meter) -> Iterator[Window | None]:
    """Windows over a track of `frames` frames; yields None and stops if the track ends before one of them."""
    rate, length = spec.sample_rate, spec.window_samples
    total = resampled_frames(frames, source, spec)
    if is_too_short(frames, source, spec):
        if len(source.read(frames)) < frames:
            yield None
        return
    wanted = min(length, total)
    # Samples of both rates coincide here, so resampling gives the same values as from the start of the track.
    step = rate // math.gcd(rate, source.sample_rate)
    for starts in _stretches(plan.starts(total, length), length + round(_JOIN_S * rate)):
        first = max(0, starts[0] - round(_LEAD_S * rate)) // step * step
        source.seek(first * source.sample_rate // rate)
        needed = (starts[-1] + wanted - first) / rate + _DELAY_S
        blocks = _resampled(source, rate, meter, _even_blocks(round(needed * source.sample_rate)))
        held: Float32 = np.empty(0, dtype=np.float32)
        for start in starts:
            held = _filled(held, blocks, start - first + wanted)[start - first :]
            first = start
            # Resampling rounds lengths, and some codecs claim a few frames of padding.
            if len(held) < wanted - 0.1 * rate:
                yield None
                return
            samples = np.pad(held[:wanted], (0, max(0, wanted - len(held))))
            yield _window(source, spec, start, np.resize(samples, length))


def _window(source: Source, spec: AudioSpec, start: int, samples: Float32) -> Window:
    """The window that begins at sample `start`, at the model's rate; silent if all its channels are silent."""
    silent = bool(np.abs(samples).max() < SILENT_PEAK)
    if silent and source.channels > 1:
        first, end = (at * source.sample_rate // spec.sample_rate for at in (start, start + len(samples)))
        silent = source.channel_peak(first, end) < SILENT_PEAK
    return Window(start / spec.sample_rate, samples, silent)


def _filled(held: Float32, blocks: Iterator[Float32], n: int) -> Float32:
    """`held` plus the samples that follow, at least n in total; fewer only at the end."""
    parts, have = [held], len(held)
    while have < n and (block := next(blocks, None)) is not None:
        parts.append(block)
        have += len(block)
    return np.concatenate(parts)


def _stretches(starts: list[int], reach: int) -> list[list[int]]:
    """Group starts that lie less than `reach` apart."""
    groups: list[list[int]] = []
    for start in starts:
        if groups and start - groups[-1][-1] < reach:
            groups[-1].append(start)
        else:
            groups.append([start])
    return groups


def _even_blocks(frames: int) -> int:
    """A block size that divides `frames` almost evenly, so that little more than `frames` is decoded."""
    return -(-frames // -(-frames // BLOCK_FRAMES))


def _resampled(source: Source, rate: int, meter: Meter, block_frames: int) -> Iterator[Float32]:
    """Mono blocks at `rate`, from the current position of the source to its end."""
    resample: Callable[[Float32, bool], Float32]
    if source.sample_rate == rate:
        resample = _unchanged
    else:
        resample = soxr.ResampleStream(source.sample_rate, rate, 1, dtype="float32", quality="HQ").resample_chunk
    while True:
        block = meter(source.read(block_frames), source.sample_rate)
        if not len(block):
            break
        yield resample(block, False)
    yield resample(np.empty(0, dtype=np.float32), True)


def _unchanged(block: Float32, last: bool) -> Float32:
    return block


def _count_frames(path: bytes | OpenFile) -> Found:
    """Count the frames that can be decoded, by decoding all of them."""
    with contextlib.closing(open_source(path)) as source:
        n = 0
        while block := len(source.read(BLOCK_FRAMES)):
            n += block
        return Found(n, source.damage)
