"""The contract in a model file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonicscan.errors import ModelError
from sonicscan.spec.audio import AudioSpec
from sonicscan.spec.calibration import DEFAULT_WINDOWS, UNKNOWN_WINDOWS, WINDOW_PLANS, Calibration, Caught, Material

METADATA_KEY = "sonicscan.spec"
SPEC_VERSION = 2
HUMAN = "human"
INPUT_NAME = "spectrogram"
OUTPUT_NAMES = ("logits", "class_maps")
MAP_SIZE = 8  # class_maps are MAP_SIZE x MAP_SIZE: the backbones reduce 256 by 32
MAX_CLASSES = 1000
MAX_SHRINK = 1000.0
TEMPERATURES = (1e-6, 1e6)
MAX_OFFSET = 1e6
MAX_CAUGHT = 100
MAX_DEPTH = 100  # levels of JSON


@dataclass(frozen=True)
class ModelSpec:
    """The contract of a model: everything that a scanner and a reader of its reports need.

    Attributes:
        architecture: timm name of the backbone, or the project's own.
        classes: output classes; `human` first, then `ai` or one name per generator family.
        audio: the preprocessing.
        temperature, offset: a window's margin is (raw margin - offset) / temperature. So scores are calibrated
            probabilities if people and AI are equally likely.
        shrink: c in n / (n + c), which multiplies the trimmed mean of the margins of n windows that are not silent. 0
            leaves the mean unchanged.
        calibration: scores of known tracks; empty without calibration.
        caught: share of AI that reaches the threshold of each certified rate.
        untrained: random weights: scores mean nothing and no verdict is given.
        unknown_below: share of the non-human probability below which the likeliest generator family is reported as
            `unknown` (several classes only); None if uncalibrated.
        metrics: measured quality, by name; the model card uses these figures.
        data_digest: digest of the training manifest and split.
        provenance: checkpoint digest, precision, verification results: free-form, for `inspect`.
        tool_version: the sonicscan version that wrote the file.
        license_note: terms of weights and training data, in words.
        card: address of the model card.

    Raises:
        ModelError: an impossible value; the message names its field.
    """

    architecture: str
    classes: tuple[str, ...] = (HUMAN, "ai")
    audio: AudioSpec = field(default_factory=AudioSpec)
    temperature: float = 1.0
    offset: float = 0.0
    shrink: float = 0.0
    calibration: Calibration = field(default_factory=Calibration)
    caught: tuple[Caught, ...] = ()
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
        if not TEMPERATURES[0] <= self.temperature <= TEMPERATURES[1]:
            raise ModelError(
                f"the model's temperature is {self.temperature!r:.40}; it must lie in "
                f"{TEMPERATURES[0]:g}..{TEMPERATURES[1]:g}."
            )
        if not abs(self.offset) <= MAX_OFFSET:
            raise ModelError(
                f"the model's offset is {self.offset!r:.40}; it must lie in {-MAX_OFFSET:g}..{MAX_OFFSET:g}."
            )
        if not 0.0 <= self.shrink <= MAX_SHRINK:
            raise ModelError(f"the model's shrink is {self.shrink!r:.40}; it must lie in 0..{MAX_SHRINK:g}.")
        if self.unknown_below is not None and not 0.0 <= self.unknown_below <= 1.0:
            raise ModelError(f"the model's unknown_below is {self.unknown_below!r:.40}; it must lie in 0..1.")
        if len(self.caught) > MAX_CAUGHT:
            raise ModelError(f"the model's contract has caught for {len(self.caught)} rates; {MAX_CAUGHT} are read.")

    @property
    def multiclass(self) -> bool:
        """Whether the model names generator families."""
        return len(self.classes) > 2

    def to_json(self) -> str:
        """The JSON stored under `sonicscan.spec`; `from_json` reads it back unchanged."""
        return json.dumps({"version": SPEC_VERSION, **dataclasses.asdict(self)}, sort_keys=True)

    @classmethod
    def from_metadata(cls, text: str | None, path: Path) -> ModelSpec:
        """The contract in the metadata of the model `path`.

        Raises:
            ModelError: there is no contract (`text` is None), or `from_json` refuses it; the message names the file.
        """
        if text is None:
            raise ModelError(f"{path} has no `{METADATA_KEY}` metadata; export the model with sonicscan-export.")
        try:
            return cls.from_json(text)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read the JSON of `to_json`, of this version or of version 1.

        Raises:
            ModelError: the text is not JSON or has an unknown version, or a field is missing, unknown or not valid. The
                message names the field.
        """
        import msgspec  # here, because programs that read no model need not load it

        try:
            raw = json.loads(text)
            json.dumps(raw, ensure_ascii=False).encode()  # JSON can hold halves of surrogate pairs, and no report can
        except (ValueError, RecursionError) as error:
            raise ModelError(f"the model's `{METADATA_KEY}` metadata is not JSON in UTF-8 ({error}).") from error
        if not isinstance(raw, dict):
            raise ModelError(f"the model's `{METADATA_KEY}` metadata is not a JSON object.")
        _check_depth(raw)
        version = raw.pop("version", None)
        if isinstance(version, bool) or version not in (1, SPEC_VERSION):
            raise ModelError(
                f"the model's contract has version {version!r:.40}, and this sonicscan reads the versions 1 and "
                f"{SPEC_VERSION}; export the model again, or install the sonicscan that made it."
            )
        if version == 1:
            raw = _upgraded(raw)
        _check_names("ModelSpec", raw, cls)
        _check_names("AudioSpec", raw["audio"], AudioSpec)
        if isinstance(raw.get("calibration"), dict):
            raw["calibration"].setdefault("categories", [])  # optional: most models have no categories
        _check_names("Calibration", raw["calibration"], Calibration)
        _check_names("Material", raw["calibration"]["material"] or dataclasses.asdict(Material()), Material)
        try:
            return msgspec.convert(raw, cls)
        except (msgspec.ValidationError, RecursionError) as error:
            raise ModelError(f"the model's contract is not valid: {error!s:.200}.") from error


def _check_depth(raw: object) -> None:
    """Refuse values that are nested so deeply that copies of them exhaust the stack."""
    level = [raw]
    for _ in range(MAX_DEPTH):
        level = [
            value
            for inside in level
            if isinstance(inside, dict | list)
            for value in (inside.values() if isinstance(inside, dict) else inside)
        ]
    if level:
        raise ModelError(f"the model's `{METADATA_KEY}` metadata is nested more than {MAX_DEPTH} levels deep.")


def _check_names(where: str, raw: object, cls: type) -> None:
    """Refuse an object with fields that `cls` does not have, or without one that it has."""
    if not isinstance(raw, dict):
        raise ModelError(f"the model's contract has {where}={raw!r:.60}, which is not an object.")
    names = {f.name for f in dataclasses.fields(cls)}
    for name in raw.keys() ^ names:
        raise ModelError(f"the model's {where} {'lacks' if name in names else 'has an unknown field'} {name!r:.60}.")


# What version 2 added, by place, with the values that version 1 implies.
_ADDED: Mapping[str, Any] = {"offset": 0.0, "shrink": 0.0}
_ADDED_TO_CALIBRATION: Mapping[str, Any] = {"lower": [], "ai_scores": [], "n_ai": 0, "material": None}


def _upgraded(raw: dict[str, Any]) -> dict[str, Any]:
    """Convert version 1 to version 2; refuses fields that version 1 does not have.

    In version 1 a recalibration stored its window plan in `provenance`, and `metrics` held the shares of `caught`.
    """
    provenance, calibration, metrics = (raw.get(name) for name in ("provenance", "calibration", "metrics"))
    for name in raw.keys() & (_ADDED.keys() | {"caught"}):
        raise ModelError(f"the model's ModelSpec has an unknown field {name!r}.")
    added = dict(_ADDED) | {"caught": _caught(metrics if isinstance(metrics, dict) else {})}
    if isinstance(calibration, dict):
        for name in calibration.keys() & (_ADDED_TO_CALIBRATION.keys() | {"windows"}):
            raise ModelError(f"the model's Calibration has an unknown field {name!r}.")
        recalibrated = provenance.get("recalibrated") if isinstance(provenance, dict) else None
        windows = recalibrated.get("windows", DEFAULT_WINDOWS) if isinstance(recalibrated, dict) else DEFAULT_WINDOWS
        plan = str(windows) if WINDOW_PLANS.fullmatch(str(windows)) else UNKNOWN_WINDOWS
        added["calibration"] = {**calibration, **_ADDED_TO_CALIBRATION, "windows": plan}
    return raw | added


def _caught(metrics: Mapping[str, Any]) -> list[dict[str, float]]:
    """The entries of version 1's `metrics["tpr_at_fpr"][rate] = {"tpr": share, "n_ai": tracks}` that make sense."""
    table = metrics.get("tpr_at_fpr")
    found: list[dict[str, float]] = []
    for key, entry in table.items() if isinstance(table, dict) else ():
        try:
            caught = Caught(float(key), float(entry["tpr"]), int(entry["n_ai"]))
        except (KeyError, TypeError, ValueError, OverflowError, ModelError):
            continue
        found.append(dataclasses.asdict(caught))
    return found[:MAX_CAUGHT]
