"""Facts about a decoded track: found and claimed length, bandwidth, clipping."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sonicscan.arrays import Float32
from sonicscan.audio.sources import Source
from sonicscan.audio.windows import MIN_TRACK_S
from sonicscan.errors import AudioError, Status
from sonicscan.spec import AudioSpec

_FULL_SCALE = 32766.5 / 32768
_LOUDEST = 1e6  # float files may go over full scale; beyond this, their log-mel would be infinite
_CLIPPED_SHARE = 1e-3
_BANDWIDTH_FFT = 4096
_BANDWIDTH_DB = -75.0
_BANDWIDTH_EVERY = 50_000  # frames: a second or so


@dataclass(frozen=True)
class AudioFacts:
    """Facts about a track, from decoding it.

    Attributes:
        status: `ok`, `too_short` or `truncated`.
        error: the reason if the status is not `ok`. With `ok`: what was skipped, or what is unusual; else None.
        duration_s: length that was found. It is the claimed length if the file was not read to its end, or if damage
            before that end removed sound.
        bandwidth_hz: the highest frequency within 75 dB of the strongest, measured on the blocks
            that were read; None where they were silent.
        warnings: of `band_limited`, `short`, `clipped`, `duration_mismatch`, `damaged`.
        whole_windows: how many windows the track has one after the other, at least 1.
        loudness_db: root mean square of the blocks that were read, mixed to mono, in dB re full scale; None where they
            were silent.
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
    loudness_db: float | None = None


@dataclass(frozen=True)
class Found:
    """What reading has found: the frames, at the file's own rate, and what was skipped because it is damaged."""

    frames: int
    damage: str = ""


@dataclass
class Meter:
    """Counts and measures the native mono blocks that pass, and makes their samples finite."""

    frames: int = 0
    clipped: int = 0
    energy: float = 0.0
    power: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BANDWIDTH_FFT // 2 + 1))
    sample_rate: int = 0
    _measured: int = -_BANDWIDTH_EVERY

    def __call__(self, block: Float32, sample_rate: int) -> Float32:
        if not len(block):
            return block
        self.frames += len(block)
        self.sample_rate = sample_rate
        peak = max(float(block.max()), -float(block.min()))
        if not peak < _FULL_SCALE:
            self.clipped += int(np.count_nonzero(~(np.abs(block) < _FULL_SCALE)))  # NaN is not less than anything
        if not peak <= _LOUDEST:
            block = np.clip(np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0), -_LOUDEST, _LOUDEST)
        self.energy += float(np.dot(block, block))
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

    @property
    def loudness_db(self) -> float | None:
        return 10.0 * math.log10(self.energy / self.frames) if self.energy > 0.0 else None


_BANDWIDTH_WINDOW = np.blackman(_BANDWIDTH_FFT).astype(np.float32)


def resampled_frames(frames: int, source: Source, spec: AudioSpec) -> int:
    return round(frames * spec.sample_rate / source.sample_rate)


def is_too_short(frames: int, source: Source, spec: AudioSpec) -> bool:
    """Whether `frames` of a file, at its own rate, are too little sound to be scored."""
    return resampled_frames(frames, source, spec) < MIN_TRACK_S * spec.sample_rate


def facts_of(source: Source, spec: AudioSpec, meter: Meter, found: Found) -> AudioFacts:
    """Compare the claimed length with the found one, and describe anything unusual."""
    rate, claimed = source.sample_rate, source.claimed_frames
    missing = 0.0 if claimed is None else (claimed - found.frames) / rate
    lost = missing > max(0.5, 0.01 * found.frames / rate)
    # If the file reaches its claimed end, missing sound was skipped; otherwise it is not in the file.
    skipped = lost and found.frames > 0 and source.reaches_end()
    frames = claimed if skipped and claimed is not None else found.frames
    duration = frames / rate
    little = is_too_short(found.frames, source, spec)
    if skipped and little:
        raise AudioError(
            "unreadable",
            f"only {found.frames / rate:.2f} s of its {duration:.1f} s of sound could be decoded; the file is damaged.",
        )
    status: Status = "ok"
    notes = [source.note] if source.note else []
    warnings: list[str] = []
    bandwidth = meter.bandwidth_hz
    if bandwidth is not None and bandwidth < 0.9 * min(spec.fmax, spec.sample_rate / 2):
        warnings.append("band_limited")
    if duration < spec.window_s:
        warnings.append("short")
    if meter.frames and meter.clipped > _CLIPPED_SHARE * meter.frames:
        warnings.append("clipped")
    if abs(missing) > 0.5 and not lost:
        warnings.append("duration_mismatch")
    if lost and not skipped:
        status = "truncated"
        notes.append(f"it claims {duration + missing:.1f} s and holds {duration:.1f} s.")
    elif found.damage or source.damage or skipped:
        warnings.append("damaged")
        amount = f"; {missing:.2f} s of sound are missing" if missing > 0.01 else ""
        notes.append(f"{found.damage or source.damage or 'damaged spots were skipped'}{amount}.")
    if little:
        if source.ended_badly and not found.frames:
            raise AudioError("unreadable", f"no sound could be decoded ({source.ended_badly}).")
        status = "too_short"
        notes = [f"{duration:.2f} s of sound; at least {MIN_TRACK_S:g} s are needed."]
    return AudioFacts(
        status=status,
        error=" ".join(notes) or None,
        duration_s=duration,
        sample_rate=source.sample_rate,
        channels=source.channels,
        codec=source.codec,
        bandwidth_hz=bandwidth,
        loudness_db=meter.loudness_db,
        warnings=tuple(warnings),
        whole_windows=max(1, resampled_frames(frames, source, spec) // spec.window_samples),
    )
