"""Measures properties of a file that are independent of the music: shortcuts that a detector could learn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sonicscan.audio.decode import read_mono, read_windows
from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import AudioError
from sonicscan.spec import AudioSpec
from sonicscan_train.processes import mapped

MEASURED_S = 30.0  # of each track, from its start: enough for level, silence and identity
_SILENT = 10.0 ** (-60.0 / 20)


@dataclass(frozen=True, slots=True)
class Features:
    """What was measured of one file; the fields of `NUMERIC` and `CATEGORICAL` are audited one by one.

    Attributes:
        bandwidth_hz: highest frequency within 75 dB of the strongest, as the scanner measures it.
        rms_db, peak_db: level re full scale, of the mono mix.
        leading_silence_s: until the first sample over -60 dB re full scale.
        dc: mean of the samples, without its sign, in dB re full scale.
        audio_hash: of the decoded sound between its first and its last sample that is not zero; empty for silence.
    """

    bandwidth_hz: float
    sample_rate: float
    channels: float
    codec: str
    rms_db: float
    peak_db: float
    duration_s: float
    leading_silence_s: float
    dc: float
    audio_hash: str


NUMERIC = (
    "bandwidth_hz",
    "sample_rate",
    "channels",
    "rms_db",
    "peak_db",
    "duration_s",
    "leading_silence_s",
    "dc",
)
CATEGORICAL = ("codec",)


def measure(path: str) -> Features:
    """Measure one file.

    Raises:
        AudioError: no sound could be read.
    """
    name = path.encode("utf-8", "surrogateescape")
    windows = read_windows(name, AudioSpec(), WindowPlan(4))
    while True:
        try:
            next(windows)
        except StopIteration as end:
            facts = end.value
            break
    samples = read_mono(name, facts.sample_rate, max_s=MEASURED_S)
    if not len(samples):
        raise AudioError("unreadable", "no sound could be decoded.")
    loud = np.flatnonzero(np.abs(samples) > _SILENT)
    heard = np.flatnonzero(samples)
    # 16 bits: a float WAV and the FLAC made of it are the same sound.
    pcm = np.round(samples[heard[0] : heard[-1] + 1] * 32767).astype("<i2") if len(heard) else np.empty(0, "<i2")
    return Features(
        bandwidth_hz=facts.bandwidth_hz or 0.0,
        sample_rate=float(facts.sample_rate),
        channels=float(facts.channels),
        codec=facts.codec,
        rms_db=_db(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))),
        peak_db=_db(float(np.abs(samples).max())),
        duration_s=facts.duration_s,
        leading_silence_s=float(loud[0] if len(loud) else len(samples)) / facts.sample_rate,
        dc=_db(abs(float(samples.mean(dtype=np.float64)))),
        audio_hash=hashlib.sha256(pcm.tobytes()).hexdigest() if len(pcm) else "",
    )


def _db(amplitude: float) -> float:
    return 20.0 * float(np.log10(max(amplitude, 1e-6)))


def measure_all(
    paths: Sequence[str], workers: int, done: Callable[[], None] = lambda: None
) -> Iterator[Features | str]:
    """`measure` of many files in their order, in `workers` processes; an unreadable file gives a sentence."""
    for result in mapped(_measured, paths, workers):
        yield result
        done()


def _measured(path: str) -> Features | str:
    try:
        return measure(path)
    except AudioError as error:
        return str(error)
