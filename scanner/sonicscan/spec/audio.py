"""How sound becomes the model's input."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sonicscan.errors import ModelError

_HIGHEST_RATE = 192000


@dataclass(frozen=True)
class AudioSpec:
    """How sound becomes one log-mel image. The defaults are the `default` preset.

    Attributes:
        sample_rate: Hz, after downmix to mono and resampling.
        n_fft: FFT length in samples; Hann window of the same length, centred, zero-padded.
        hop_length: samples between frames.
        n_mels: rows of the image; Slaney mel scale, area-normalised.
        n_frames: columns of the image.
        fmin, fmax: edges of the mel filterbank in Hz.
        top_db: range kept, in dB below the window's own maximum.
        reference: "max" leaves the dB values unchanged. "unit" maps [-top_db, 0] dB re 1.0 to 0..1 and clips values
            outside, as the published notebook does.
        db_floor: smallest power that is distinguished from zero.

    Raises:
        ModelError: a value outside its range.
    """

    sample_rate: int = 22050
    n_fft: int = 2048
    hop_length: int = 432
    n_mels: int = 256
    n_frames: int = 256
    fmin: float = 0.0
    fmax: float = 8000.0
    top_db: float = 80.0
    reference: Literal["max", "unit"] = "max"
    db_floor: float = 1e-10

    def __post_init__(self) -> None:
        half_rate = min(self.sample_rate, _HIGHEST_RATE) / 2  # a rate that is far too high may not fit a float
        bounds = {
            "sample_rate": (4000, _HIGHEST_RATE),
            "n_fft": (64, 65536),
            "hop_length": (16, self.n_fft),
            "n_mels": (256, 256),
            "n_frames": (256, 256),
            "fmax": (100.0, half_rate),
            "fmin": (0.0, self.fmax - 1.0),
            "top_db": (1.0, 200.0),
            "db_floor": (1e-30, 1e-3),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:  # NaN is in no range
                raise ModelError(f"the model's AudioSpec has {name}={value!r:.40}; it must be {low:g} to {high:g}.")
        if self.reference not in ("max", "unit"):
            raise ModelError(f"the model's AudioSpec has reference={self.reference!r:.40}; it must be max or unit.")

    @property
    def window_samples(self) -> int:
        """Samples in one window: a centred STFT of them has exactly `n_frames` frames."""
        return self.hop_length * (self.n_frames - 1)

    @property
    def window_s(self) -> float:
        """Seconds in one window."""
        return self.window_samples / self.sample_rate

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON; two digests are equal exactly if the preprocessing is equal."""
        return digest_of(dataclasses.asdict(self))


# `seed` reproduces the published notebook (SONICS data, undergraduate project); see docs/training.md.
PRESETS: Mapping[str, AudioSpec] = {
    "default": AudioSpec(),
    "seed": AudioSpec(hop_length=512, fmax=11025.0, reference="unit"),
}


def digest_of(value: object) -> str:
    """SHA-256, in hex, of `value` as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
