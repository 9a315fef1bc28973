"""The members of a cross-fitted model: their arithmetic and scales, and the folder that the export reads them from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sonicscan.errors import InputError
from sonicscan.files import write_whole
from sonicscan.spec import ModelSpec
from sonicscan_train.data.manifest import read_table, write_table
from sonicscan_train.judge.fold_scores import track_of
from sonicscan_train.judge.scoring import TrackLogits
from sonicscan_train.nets import checkpoint

_COLUMNS = ("weights_digest", "precision", "float32_layers", "temperature", "offset")


@dataclass(frozen=True)
class Scale:
    """A member's temperature and offset: each logit but that of `human` is (raw logit - offset) / temperature."""

    temperature: float
    offset: float

    def apply(self, track: TrackLogits) -> TrackLogits:
        """A track of raw logits, with 0 for `human`, on the common scale."""
        return track_of(track.clip, (track.logits[:, 1:] - self.offset) / self.temperature, track.facts)


@dataclass(frozen=True)
class Member:
    """A member as it was scored.

    Attributes:
        weights_digest: which training result it is.
        precision: of the file that scored its fold; `fp32` for a checkpoint.
        float32_layers: names of the layers of an int8 file that stay in float32, without the head.
        scale: of its margins.
    """

    weights_digest: str
    precision: str
    float32_layers: tuple[str, ...]
    scale: Scale


def member_of(path: Path, spec: ModelSpec, scale: Scale) -> Member:
    """A member that was scored.

    Args:
        path: a checkpoint, or an ONNX file.
        spec: its contract; that of an ONNX file names its weights and its arithmetic.
        scale: of its margins.
    """
    if path.is_dir():
        return Member(checkpoint.weights_digest(path), "fp32", (), scale)
    made = spec.provenance
    int8 = made.get("int8")
    kept = int8.get("float32_layers") if isinstance(int8, dict) else None
    layers = tuple(str(name) for name in kept if name != "head") if isinstance(kept, list) else ()
    return Member(str(made.get("weights_digest", "")), str(made.get("precision", "fp32")), layers, scale)


def write_fit(spec: ModelSpec, members: Sequence[Member], folder: Path) -> None:
    """`spec.json`, the mean's contract, and `members.csv`, in `folder`."""
    write_whole(folder / "spec.json", spec.to_json())
    rows = [
        (m.weights_digest, m.precision, " ".join(m.float32_layers), m.scale.temperature, m.scale.offset)
        for m in members
    ]
    write_table(folder / "members.csv", _COLUMNS, rows)


def read_fit(folder: Path) -> tuple[ModelSpec, list[Member]]:
    """The contract of the mean, and its members.

    Raises:
        InputError: not a folder that `write_fit` wrote.
        ModelError: a contract that is not valid.
    """
    try:
        text = (folder / "spec.json").read_text(encoding="utf-8")
        members = [
            Member(
                row["weights_digest"],
                row["precision"],
                tuple(row["float32_layers"].split()),
                Scale(float(row["temperature"]), float(row["offset"])),
            )
            for row in read_table(folder / "members.csv")
        ]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{folder} holds no cross-fitted calibration ({error}); see `crossfit`.") from error
    return ModelSpec.from_metadata(text, folder / "spec.json"), members
