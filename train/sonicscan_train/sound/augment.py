"""Random processing that recordings undergo before they reach a catalogue, the same for both classes.

A detector learns any difference between its classes. If one class is band-limited, louder or encoded as MP3, the
detector learns that, and later flags old recordings by people. So every effect is applied to both classes with the same
probability, before the log-mel spectrogram. Then the effect carries no information about the class. All choices come
from one `numpy.random.Generator`: the same seed gives the same sound.

The effects themselves are in `effects`, the codecs in `codecs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sonicscan.arrays import Float32
from sonicscan_train.sound.codecs import CODECS, round_trip
from sonicscan_train.sound.effects import gain, lowpass, noise, pitch, random_eq, resampled, reverb, tempo

Range = tuple[float, float]


@dataclass(frozen=True)
class Augmentation:
    """How often (0..1) and how strongly each effect is applied, in the order in which they are.

    Attributes:
        tempo_p, tempo: factor of speed, at the same pitch.
        pitch_p, pitch_semitones: shift, at the same speed.
        eq_p, eq_db, eq_bands: standard deviation of the gain of peaking filters at random frequencies.
        reverb_p, reverb_s, reverb_mix: decay time to -60 dB, and share of the reverberation.
        noise_p, noise_db: level of coloured noise under the crop's own RMS.
        lowpass_p, lowpass_hz: cut-off, 12 to 48 dB an octave.
        resample_p, resample_hz: down to this rate and back.
        codec_p, codec_kbps: MP3, AAC, Opus or Vorbis, mono bit rate.
        gain_p, gain_db: level; what exceeds full scale then is clipped, as a converter does.
    """

    tempo_p: float = 0.15
    tempo: Range = (0.9, 1.1)
    pitch_p: float = 0.15
    pitch_semitones: Range = (-2.0, 2.0)
    eq_p: float = 0.5
    eq_db: float = 3.0
    eq_bands: int = 4
    reverb_p: float = 0.15
    reverb_s: Range = (0.1, 0.8)
    reverb_mix: Range = (0.05, 0.4)
    noise_p: float = 0.4
    noise_db: Range = (25.0, 70.0)
    lowpass_p: float = 0.35
    lowpass_hz: Range = (5000.0, 10000.0)
    resample_p: float = 0.25
    resample_hz: Range = (11025.0, 20000.0)
    codec_p: float = 0.5
    codec_kbps: Range = (24.0, 160.0)
    gain_p: float = 0.5
    gain_db: Range = (-18.0, 3.0)

    @property
    def longest(self) -> float:
        """How much more sound than it returns the chain may need: the fastest tempo."""
        return max(1.0, self.tempo[1]) if self.tempo_p else 1.0


def augment(samples: Float32, rate: int, plan: Augmentation, n: int, rng: np.random.Generator) -> Float32:
    """One random version of a crop.

    Args:
        samples: mono float32, full scale 1.0, preferably `plan.longest * n` long.
        rate: Hz.
        plan: which effects, how often, how strongly.
        n: samples wanted.
        rng: the source of all randomness.

    Returns:
        float32 [n].
    """

    def hit(probability: float) -> bool:
        return bool(rng.random() < probability)

    if hit(plan.tempo_p):
        samples = tempo(samples, rate, rng.uniform(*plan.tempo))
    samples = np.resize(samples, n)
    if hit(plan.pitch_p):
        samples = pitch(samples, rate, rng.uniform(*plan.pitch_semitones))
    if hit(plan.eq_p):
        samples = random_eq(samples, rate, plan.eq_db, plan.eq_bands, rng)
    if hit(plan.reverb_p):
        samples = reverb(samples, rate, rng.uniform(*plan.reverb_s), rng.uniform(*plan.reverb_mix), rng)
    if hit(plan.noise_p):
        samples = noise(samples, rng.uniform(*plan.noise_db), rng)
    if hit(plan.lowpass_p):
        samples = lowpass(samples, rate, rng.uniform(*plan.lowpass_hz), 12 * int(rng.integers(1, 5)))
    if hit(plan.resample_p):
        samples = resampled(samples, rate, round(rng.uniform(*plan.resample_hz)))
    if hit(plan.codec_p):
        codec = CODECS[rng.integers(len(CODECS))]
        # Log-uniform, since low bit rates matter most.
        kbps = float(np.exp(rng.uniform(*np.log(plan.codec_kbps))))
        samples = round_trip(samples, rate, codec, kbps)
    if hit(plan.gain_p):
        samples = gain(samples, rng.uniform(*plan.gain_db))
    return samples
