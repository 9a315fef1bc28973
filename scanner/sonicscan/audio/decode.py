"""From a file to the windows the model wants: one open, one forward pass, bounded blocks.

    Source ─blocks─▶ mono ─soxr─▶ sample rate of the model ─cut─▶ windows

Windows far apart are reached by seeking; windows close together are cut from one stretch. Each
stretch starts a little early, so that the resampler's filter has settled. A file is read twice where it
makes no claim about its length, or ends before the length it claims: the second time, the windows are
laid over what there really is.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import soxr

from sonicscan.audio.sources import Source, open_source
from sonicscan.audio.windows import MIN_TRACK_S, WindowPlan
from sonicscan.errors import AudioError, Status
from sonicscan.library.ranges import OpenFile
from sonicscan.spec import AudioSpec

Float32 = npt.NDArray[np.float32]

BLOCK_FRAMES = 65536
_LEAD_S = 0.05  # read before a stretch and dropped: soxr's filters are shorter
_DELAY_S = 0.06  # the resampler holds back about this much at most
_JOIN_S = 1.0  # windows closer than this are cut from one stretch
_HELD_WINDOWS = 32  # of more, none is held back: a long file's would not fit into memory
_FULL_SCALE = 32766.5 / 32768
_LOUDEST = 1e6  # float files may go over full scale; beyond this, their log-mel would be infinite
_CLIPPED_SHARE = 1e-3
_BANDWIDTH_FFT = 4096
_BANDWIDTH_DB = -75.0
_BANDWIDTH_EVERY = 50_000  # frames: a second or so


@dataclass(frozen=True)
class Window:
    """`samples` float32 [window_samples] from `start_s` seconds into the track."""

    start_s: float
    samples: Float32


@dataclass(frozen=True)
class AudioFacts:
    """What decoding found out about a track.

    Attributes:
        status: `ok`, `too_short` or `truncated`.
        error: a sentence where the status is not `ok`.
        duration_s: length that was found; the claimed one where the file was not read to its end.
        bandwidth_hz: the highest frequency within 75 dB of the strongest, measured on the blocks
            that were read; None where they were silent.
        warnings: of `band_limited`, `short`, `clipped`, `duration_mismatch`.
        whole_windows: how many windows the track has one after the other, at least 1.
    """

    status: Status
    error: str | None
    duration_s: float
    sample_rate: int
    channels: int
    codec: str
    bandwidth_hz: float | None
    warnings: tuple[str, ...]
    whole_windows: int


def read_windows(path: bytes | OpenFile, spec: AudioSpec, plan: WindowPlan) -> Generator[Window, None, AudioFacts]:
    """Decode a track into windows.

    Args:
        path: the file's name, as bytes, or an open remote file.
        spec: sample rate and window length.
        plan: which windows.

    Yields:
        windows by ascending start; none for a track under one second.

    Returns:
        the track's facts (as the generator's return value).

    Raises:
        AudioError: no sound could be read.
    """
    meter = _Meter()
    with contextlib.closing(open_source(path, forwards=plan.reads_all)) as source:
        claimed = source.claimed_frames
        if plan.reads_all:
            found = yield from _all_windows(source, spec, meter)
        else:
            found = yield from _planned_windows(path, source, spec, plan, meter)
        return _facts(source, spec, meter, claimed, found)


def read_mono(path: bytes, sample_rate: int, max_s: float | None = None) -> Float32:
    """The whole track as float32 [n], mono at `sample_rate`; at most `max_s` seconds of it.

    Raises:
        AudioError: no sound could be read.
    """
    with contextlib.closing(open_source(path, forwards=True)) as source:
        limit = None if max_s is None else round(max_s * sample_rate)
        parts: list[Float32] = []
        n = 0
        for block in _resampled(source, sample_rate, _Meter()):
            parts.append(block)
            n += len(block)
            if limit is not None and n >= limit:
                break
    return np.concatenate(parts)[:limit] if parts else np.empty(0, dtype=np.float32)


def _all_windows(source: Source, spec: AudioSpec, meter: _Meter) -> Generator[Window, None, int]:
    """Consecutive windows to the end, whatever the length; returns the frames found."""
    length = spec.window_samples
    held: Float32 = np.empty(0, dtype=np.float32)
    start = 0
    for block in _resampled(source, spec.sample_rate, meter):
        held = np.concatenate([held, block])
        while len(held) >= length:
            yield Window(start / spec.sample_rate, held[:length])
            held = held[length:]
            start += length
    if not start and len(held) >= MIN_TRACK_S * spec.sample_rate:
        yield Window(0.0, np.resize(held, length))
    return meter.frames


def _planned_windows(
    path: bytes | OpenFile, source: Source, spec: AudioSpec, plan: WindowPlan, meter: _Meter
) -> Generator[Window, None, int]:
    """Windows here and there in the track; returns the frames found, or claimed where nothing speaks against it."""
    claimed = source.claimed_frames
    if claimed is not None and plan.at_most <= _HELD_WINDOWS:
        # None is given out before the last is there: the file may end before the length it claims.
        windows = list(_at(source, spec, plan, claimed, meter))
        if None not in windows:
            yield from (window for window in windows if window is not None)
            return claimed
    found = _count_frames(path)
    with contextlib.closing(open_source(path)) as again:
        yield from (window for window in _at(again, spec, plan, found, meter) if window is not None)
    return found


def _at(source: Source, spec: AudioSpec, plan: WindowPlan, frames: int, meter: _Meter) -> Iterator[Window | None]:
    """Windows over a track of `frames` frames; None, and no more, where it ends before one of them."""
    rate, length = spec.sample_rate, spec.window_samples
    total = _resampled_frames(frames, source, spec)
    if total < MIN_TRACK_S * rate:
        if len(source.read(frames)) < frames:
            yield None
        return
    wanted = min(length, total)
    # Where samples of both rates fall together: from there, resampling gives what it gives from the start.
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
            yield Window(start / rate, np.resize(samples, length))


def _filled(held: Float32, blocks: Iterator[Float32], n: int) -> Float32:
    """`held` and what follows it, n samples or more; fewer only at the end."""
    parts, have = [held], len(held)
    while have < n and (block := next(blocks, None)) is not None:
        parts.append(block)
        have += len(block)
    return np.concatenate(parts)


def _resampled_frames(frames: int, source: Source, spec: AudioSpec) -> int:
    return round(frames * spec.sample_rate / source.sample_rate)


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
    """A block size that ends where `frames` end, so that hardly more than they is decoded."""
    return -(-frames // -(-frames // BLOCK_FRAMES))


def _resampled(source: Source, rate: int, meter: _Meter, block_frames: int = BLOCK_FRAMES) -> Iterator[Float32]:
    """Mono blocks at `rate`, from where the source stands to its end."""
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


def _count_frames(path: bytes | OpenFile) -> int:
    """Frames that can really be decoded, by decoding them all."""
    with contextlib.closing(open_source(path)) as source:
        n = 0
        while block := len(source.read(BLOCK_FRAMES)):
            n += block
        return n


@dataclass
class _Meter:
    """Counts and measures the native mono blocks that pass, and makes their samples finite."""

    frames: int = 0
    clipped: int = 0
    power: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BANDWIDTH_FFT // 2 + 1))
    sample_rate: int = 0
    _measured: int = -_BANDWIDTH_EVERY

    def __call__(self, block: Float32, sample_rate: int) -> Float32:
        if not len(block):
            return block
        self.frames += len(block)
        self.sample_rate = sample_rate
        peak = max(float(block.max()), -float(block.min()))
        if not peak <= _LOUDEST:
            block = np.clip(np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0), -_LOUDEST, _LOUDEST)
            self.clipped += len(block)
        elif peak >= _FULL_SCALE:
            self.clipped += int(np.count_nonzero(np.abs(block) >= _FULL_SCALE))
        if len(block) >= _BANDWIDTH_FFT and self.frames > self._measured + _BANDWIDTH_EVERY:
            self._measured = self.frames
            middle = (len(block) - _BANDWIDTH_FFT) // 2
            frame = block[middle : middle + _BANDWIDTH_FFT] * _BANDWIDTH_WINDOW
            np.maximum(self.power, np.abs(np.fft.rfft(frame)) ** 2, out=self.power)
        return block

    @property
    def bandwidth_hz(self) -> float | None:
        if not self.power.max() > 1e-12:
            return None
        heard = np.flatnonzero(self.power >= self.power.max() * 10 ** (_BANDWIDTH_DB / 10))
        return float(heard[-1] * self.sample_rate / _BANDWIDTH_FFT)


_BANDWIDTH_WINDOW = np.blackman(_BANDWIDTH_FFT).astype(np.float32)


def _facts(source: Source, spec: AudioSpec, meter: _Meter, claimed: int | None, found: int) -> AudioFacts:
    """Compare what was claimed with what was found, and name what a reader should know."""
    duration = found / source.sample_rate
    status: Status = "ok"
    error: str | None = None
    warnings: list[str] = []
    bandwidth = meter.bandwidth_hz
    if bandwidth is not None and bandwidth < 0.9 * min(spec.fmax, spec.sample_rate / 2):
        warnings.append("band_limited")
    if duration < spec.window_s:
        warnings.append("short")
    if meter.frames and meter.clipped > _CLIPPED_SHARE * meter.frames:
        warnings.append("clipped")
    if claimed is not None:
        missing = (claimed - found) / source.sample_rate
        if missing > max(0.5, 0.01 * duration):
            status = "truncated"
            error = f"it claims {claimed / source.sample_rate:.1f} s and holds {duration:.1f} s."
        elif abs(missing) > 0.5:
            warnings.append("duration_mismatch")
    if duration < MIN_TRACK_S:
        if source.ended_badly and not found:
            raise AudioError("unreadable", f"no sound could be decoded ({source.ended_badly}).")
        status = "too_short"
        error = f"{duration:.2f} s of sound; at least {MIN_TRACK_S:g} s are needed."
    return AudioFacts(
        status=status,
        error=error,
        duration_s=duration,
        sample_rate=source.sample_rate,
        channels=source.channels,
        codec=source.codec,
        bandwidth_hz=bandwidth,
        warnings=tuple(warnings),
        whole_windows=max(1, _resampled_frames(found, source, spec) // spec.window_samples),
    )
