"""The contract between training and scanning, stored in every model file.

`AudioSpec` says how sound becomes the model's input; `ModelSpec` adds what the outputs mean and
how they are calibrated. Both travel as JSON: under `sonicscan.spec` in an ONNX file's metadata,
and beside every training checkpoint. The scanner takes all preprocessing from there, so a model
can only ever be run the way it was trained.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sonicscan.errors import ModelError

METADATA_KEY = "sonicscan.spec"
SPEC_VERSION = 1
HUMAN = "human"
INPUT_NAME = "spectrogram"
OUTPUT_NAMES = ("logits", "class_maps")
MAP_SIZE = 8  # class_maps are MAP_SIZE x MAP_SIZE: both backbones reduce 256 by 32
MAX_STORED_SCORES = 2000
MAX_CLASSES = 1000
_MAX_INT = 2**53  # JSON's numbers are exact up to here; larger ones may not even fit a float


def _is(value: object, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):  # which Python takes for a whole number
        return bool in types
    return isinstance(value, types) and not (isinstance(value, int) and abs(value) > _MAX_INT)


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
        reference: "max" does no more than that; "unit" then maps [-top_db, 0] dB re 1.0 to 0..1
            and clips outside it, as the published notebook does.
        db_floor: smallest power that is told from zero.
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
        for name in ("sample_rate", "n_fft", "hop_length", "n_mels", "n_frames"):
            value = getattr(self, name)
            if not _is(value, (int,)):
                raise ModelError(f"the model's AudioSpec has {name}={value!r}, which is not a whole number.")
        for name in ("fmin", "fmax", "top_db", "db_floor"):
            value = getattr(self, name)
            if not _is(value, (float, int)) or not math.isfinite(value):
                raise ModelError(f"the model's AudioSpec has {name}={value!r}, which is not a number.")
        bounds = {
            "sample_rate": (4000, 192000),
            "n_fft": (64, 65536),
            "hop_length": (16, self.n_fft),
            "n_mels": (256, 256),
            "n_frames": (256, 256),
            "fmin": (0.0, self.fmax - 1.0),
            "fmax": (100.0, self.sample_rate / 2),
            "top_db": (1.0, 200.0),
            "db_floor": (1e-30, 1e-3),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ModelError(
                    f"the model's AudioSpec has {name}={getattr(self, name)!r}; "
                    f"it must lie between {low:g} and {high:g}."
                )
        if self.reference not in ("max", "unit"):
            raise ModelError(f"the model's AudioSpec has reference={self.reference!r}; it must be max or unit.")

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
        """SHA-256 of the canonical JSON: equal exactly where preprocessing is equal."""
        return digest_of(dataclasses.asdict(self))


# `seed` reproduces the published notebook (SONICS data, undergraduate project); see docs/training.md.
PRESETS: Mapping[str, AudioSpec] = {
    "default": AudioSpec(),
    "seed": AudioSpec(hop_length=512, fmax=11025.0, reference="unit"),
}


@dataclass(frozen=True)
class Calibration:
    """Scores of tracks known to be by people, from which thresholds and p-values come.

    Attributes:
        scores: ascending, the highest `min(n, MAX_STORED_SCORES)` track scores in 0..1.
        n: how many tracks were scored in all.
        data: what the tracks were, in words.
    """

    scores: tuple[float, ...] = ()
    n: int = 0
    data: str = ""

    def __post_init__(self) -> None:
        if self.n < 0 or len(self.scores) != min(self.n, MAX_STORED_SCORES):
            raise ModelError(
                f"the model's calibration claims {self.n} tracks and holds {len(self.scores)} scores; "
                f"it must hold all of them up to {MAX_STORED_SCORES}."
            )
        if any(not 0.0 <= s <= 1.0 for s in self.scores):
            raise ModelError("the model's calibration holds scores outside 0..1.")
        if list(self.scores) != sorted(self.scores):
            raise ModelError("the model's calibration scores are not in ascending order.")

    @classmethod
    def of(cls, scores: list[float], data: str = "") -> Calibration:
        """Calibration from the scores of all known-human tracks, in any order."""
        return cls(tuple(sorted(scores)[-MAX_STORED_SCORES:]), len(scores), data)


@dataclass(frozen=True)
class ModelSpec:
    """All a scanner needs to know about a model, and all a reader should.

    Attributes:
        architecture: timm name of the backbone, or the project's own.
        classes: output classes; `human` first, then `ai` or one name per generator family.
        audio: the preprocessing.
        temperature: divides margins, so that scores are calibrated probabilities.
        calibration: scores of known-human tracks; empty where there were none.
        untrained: random weights: scores mean nothing and no verdict is given.
        unknown_below: share of the non-human probability under which the likeliest generator
            family is reported as `unknown` (several classes only); None where uncalibrated.
        metrics: measured quality, by name; what the model card's figures are made of.
        data_digest: digest of the training manifest and split.
        provenance: checkpoint digest, precision, verification results: free-form, for `inspect`.
        tool_version: the sonicscan version that wrote the file.
        license_note: terms of weights and training data, in words.
        card: where the model card is.
    """

    architecture: str
    classes: tuple[str, ...] = (HUMAN, "ai")
    audio: AudioSpec = field(default_factory=AudioSpec)
    temperature: float = 1.0
    calibration: Calibration = field(default_factory=Calibration)
    untrained: bool = False
    unknown_below: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data_digest: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    tool_version: str = ""
    license_note: str = ""
    card: str = ""

    def __post_init__(self) -> None:
        if not 2 <= len(self.classes) <= MAX_CLASSES or self.classes[0] != HUMAN:
            raise ModelError(
                f"the model's classes must be `{HUMAN}` and 1 to {MAX_CLASSES - 1} others, "
                f"not {[c[:40] for c in self.classes[:5]]}{'...' if len(self.classes) > 5 else ''}."
            )
        if len(set(self.classes)) != len(self.classes):
            raise ModelError("the model names a class twice.")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ModelError(f"the model's temperature is {self.temperature!r}; it must be positive.")
        if self.unknown_below is not None and not 0.0 <= self.unknown_below <= 1.0:
            raise ModelError(f"the model's unknown_below is {self.unknown_below!r}; it must lie in 0..1.")

    @property
    def multiclass(self) -> bool:
        """Whether the model names generator families."""
        return len(self.classes) > 2

    def to_json(self) -> str:
        """The JSON stored under `sonicscan.spec`; `from_json` reads it back unchanged."""
        return json.dumps({"version": SPEC_VERSION, **dataclasses.asdict(self)}, sort_keys=True)

    @classmethod
    def from_metadata(cls, text: str | None, path: Path) -> ModelSpec:
        """The contract in the metadata of the model `path`; None where it has none.

        Raises:
            ModelError: as `from_json`, or there is no contract; the message names the file.
        """
        if text is None:
            raise ModelError(f"{path} has no `{METADATA_KEY}` metadata; export the model with sonicscan-export.")
        try:
            return cls.from_json(text)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read the JSON of `to_json`.

        Raises:
            ModelError: not JSON, of a version this program does not know, or with a field that
                is missing, unknown or impossible; the message names it.
        """
        try:
            raw = json.loads(text)
            json.dumps(raw, ensure_ascii=False).encode()  # JSON can hold halves of surrogate pairs, and no report can
        except (ValueError, RecursionError) as error:
            raise ModelError(f"the model's `{METADATA_KEY}` metadata is not JSON in UTF-8 ({error}).") from error
        if not isinstance(raw, dict):
            raise ModelError(f"the model's `{METADATA_KEY}` metadata is not a JSON object.")
        version = raw.pop("version", None)
        if version != SPEC_VERSION:
            raise ModelError(
                f"the model's contract has version {version!r:.40}, and this sonicscan knows version "
                f"{SPEC_VERSION}; export the model again, or install the sonicscan that made it."
            )
        _check_fields("ModelSpec", raw, cls)
        _check_fields("AudioSpec", raw["audio"], AudioSpec)
        _check_fields("Calibration", raw["calibration"], Calibration)
        raw["audio"] = AudioSpec(**raw["audio"])
        raw["calibration"] = Calibration(**raw["calibration"] | {"scores": tuple(raw["calibration"]["scores"])})
        raw["classes"] = tuple(raw["classes"])
        return cls(**raw)


def digest_of(value: object) -> str:
    """SHA-256, in hex, of `value` as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# What JSON gives for each annotation that the contract's dataclasses use.
_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "tuple[str, ...]": (list,),
    "tuple[float, ...]": (list,),
    "Mapping[str, Any]": (dict,),
    "AudioSpec": (dict,),
    "Calibration": (dict,),
    "Literal['max', 'unit']": (str,),
}
_ITEM_TYPES: Mapping[str, tuple[type, ...]] = {"tuple[str, ...]": (str,), "tuple[float, ...]": (float, int)}


def _check_fields(where: str, raw: Mapping[str, Any], cls: type) -> None:
    """Refuse fields that `cls` does not have, has and `raw` lacks, or that are of another type."""
    fields = {f.name: str(f.type).replace('"', "'") for f in dataclasses.fields(cls)}
    for name in raw.keys() ^ fields.keys():
        raise ModelError(f"the model's {where} {'lacks' if name in fields else 'has an unknown field'} {name!r:.60}.")
    for name, annotation in fields.items():
        value = raw[name]
        items = _ITEM_TYPES.get(annotation)
        if not _is(value, _JSON_TYPES[annotation]) or (items and not all(_is(item, items) for item in value)):
            raise ModelError(f"the model's {where} has {name}={value!r:.60}, which is not of type {annotation}.")
