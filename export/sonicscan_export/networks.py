"""What is exported: a trained network, the mean of several, or an untrained one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import sonicscan
from sonicscan.errors import InputError, ModelError
from sonicscan.spec import HUMAN, ModelSpec
from sonicscan_export import data
from sonicscan_export.graph import name_in_mean
from sonicscan_train.judge.members import Scale, read_fit
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, build, full_name, prepare_untrained
from sonicscan_train.nets.ensemble import mean_of

_PREPARING_WINDOWS = 8


@dataclass(frozen=True)
class Network:
    """What is exported.

    Attributes:
        detector: the network.
        spec: its contract.
        origin: where the weights come from, for provenance.
        scored_as: the precision in which cross-fitting scored its members; None where the calibration is the network's.
        float32_layers: the layers that stayed in float32 in its int8 members, by their `layer_names` in the mean.
    """

    detector: DetectorNet
    spec: ModelSpec
    origin: dict[str, Any]
    scored_as: str | None = None
    float32_layers: tuple[str, ...] = ()


def from_checkpoint(folder: Path) -> Network:
    """A trained network.

    Raises:
        ModelError: no checkpoint, or a damaged one.
    """
    detector, spec = checkpoint.load(folder)
    return Network(detector, spec, {"checkpoint": folder.name, "weights_digest": checkpoint.weights_digest(folder)})


def from_checkpoints(folders: Sequence[Path], name: str, crossfit: Path | None = None) -> Network:
    """The mean of several trained networks, each on its own scale.

    Args:
        folders: one checkpoint a member.
        name: the architecture of the result.
        crossfit: folder of `sonicscan-train crossfit`, which has the members' scales and the calibration. None takes
            the scales from the checkpoints, and the result has no calibration, because its scores differ from theirs.

    Raises:
        InputError: a folder of another cross-fitting, or of other members, or of members of several precisions.
        ModelError: no checkpoint, a damaged one, or checkpoints that differ in AudioSpec or classes.
    """
    loaded = [checkpoint.load(folder) for folder in folders]
    first = loaded[0][1]
    for folder, (_, spec) in zip(folders, loaded, strict=True):
        if (spec.audio, spec.classes) != (first.audio, first.classes):
            raise ModelError(f"{folder} has another AudioSpec or other classes than {folders[0]}.")
    digests = [checkpoint.weights_digest(folder) for folder in folders]
    scored_as: str | None = None
    float32_layers: list[str] = []
    if crossfit is None:
        scales = [Scale(spec.temperature, spec.offset) for _, spec in loaded]
        contract = ModelSpec(
            architecture=name,
            classes=first.classes,
            audio=first.audio,
            data_digest=first.data_digest,
            license_note=first.license_note,
        )
    else:
        contract, fitted = read_fit(crossfit)
        known = {member.weights_digest: member for member in fitted}
        precisions = sorted({member.precision for member in fitted})
        if len(precisions) > 1:
            raise InputError(f"the cross-fitting in {crossfit} scored members as {' and '.join(precisions)}; use one.")
        scored_as = precisions[0]
        missing = [folder for folder, digest in zip(folders, digests, strict=True) if digest not in known]
        if missing or len(known) != len(folders) or (contract.audio, contract.classes) != (first.audio, first.classes):
            what = f"does not know {missing[0]}" if missing else f"is of {len(known)} members like these"
            raise InputError(f"the cross-fitting in {crossfit} {what}; export the members that it scored.")
        scales = [known[digest].scale for digest in digests]
        for k, digest in enumerate(digests):
            float32_layers += [name_in_mean(layer, k) for layer in known[digest].float32_layers]
        contract = dataclasses.replace(contract, architecture=name)
    members = [
        {
            "checkpoint": folder.name,
            "architecture": spec.architecture,
            "weights_digest": digest,
            "temperature": scale.temperature,
            "offset": scale.offset,
            **spec.provenance,
        }
        for folder, digest, scale, (_, spec) in zip(folders, digests, scales, loaded, strict=True)
    ]
    temperatures, offsets = [scale.temperature for scale in scales], [scale.offset for scale in scales]
    detector = mean_of([network for network, _ in loaded], temperatures, name, offsets)
    return Network(detector, contract, {"members": members}, scored_as, tuple(float32_layers))


def untrained(backbone: str, weights: str, seed: int, classes: tuple[str, ...]) -> Network:
    """A network whose head has learned nothing, marked as such: the scanner gives it no verdicts.

    Args:
        backbone, weights: as `backbones.build` has them.
        seed: of the random weights.
        classes: names; `human` first.
    """
    random = weights == "none"
    spec = ModelSpec(
        architecture=full_name(backbone),
        classes=classes,
        untrained=True,
        tool_version=sonicscan.__version__,
        license_note="random weights" if random else "untrained head; the backbone's weights have terms of their own",
    )
    detector = build(backbone, len(classes), weights, seed=seed)
    if random:
        prepare_untrained(
            detector, torch.from_numpy(data.as_batch(data.synthetic_windows(spec.audio, _PREPARING_WINDOWS).images))
        )
    return Network(detector, spec, {"weights": Path(weights).name, "seed": seed})


def classes_of(text: str) -> tuple[str, ...]:
    """Class names from the command line: the others than `human`, separated by commas."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    return names if names[:1] == (HUMAN,) else (HUMAN, *names)
