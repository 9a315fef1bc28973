"""A checkpoint is a folder with `model.safetensors` and `spec.json`; other files in the folder are left alone.

`spec.json` is `ModelSpec.to_json()`, the same contract that the ONNX file will carry. Nothing in a checkpoint is
ever executed: no pickle is read.
"""

from __future__ import annotations

import os
from pathlib import Path

from sonicscan.errors import ModelError
from sonicscan.files import replacing, sha256_of
from sonicscan.spec import ModelSpec
from sonicscan_train.nets.backbones import DetectorNet, build, full_name, load_exactly, read_weights

WEIGHTS_NAME = "model.safetensors"
SPEC_NAME = "spec.json"


def save(folder: Path, model: DetectorNet, spec: ModelSpec) -> None:
    """Write a checkpoint; both files of an earlier one are replaced, each by rename.

    The earlier `spec.json` is removed before the weights are replaced. So an interruption leaves no weights with the
    contract, and the calibration, of others.

    Args:
        folder: made where it is missing.
        model: its weights are copied to the CPU.
        spec: must name the model's architecture and as many classes as its head has.

    Raises:
        ModelError: spec and model disagree, or a file cannot be written.
    """
    import safetensors.torch

    _check_match(model, spec)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / SPEC_NAME) as contract, replacing(folder / WEIGHTS_NAME) as weights:
            contract.write(spec.to_json().encode())
            weights.write(safetensors.torch.save(tensors))
            for file in (contract, weights):  # a full disk must show before the earlier contract is removed
                file.flush()
                os.fsync(file.fileno())
            (folder / SPEC_NAME).unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"the checkpoint {folder} could not be written: {error.strerror or error}.") from error


def load(folder: Path) -> tuple[DetectorNet, ModelSpec]:
    """The model, in evaluation mode on the CPU, and its contract.

    Raises:
        ModelError: no checkpoint there, no spec, a file cut short, or weights of another architecture.
    """
    spec = load_spec(folder)
    model = build(spec.architecture, len(spec.classes))
    load_exactly(model, read_weights(folder / WEIGHTS_NAME), f"the checkpoint {folder} (spec: {spec.architecture})")
    return model.eval(), spec


def load_spec(folder: Path) -> ModelSpec:
    """The checkpoint's contract, without its weights.

    Raises:
        ModelError: no checkpoint there, or one without a readable spec.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is no checkpoint: it must be a folder with {WEIGHTS_NAME} and {SPEC_NAME}.")
    try:
        text = (folder / SPEC_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelError(f"the checkpoint {folder} has no {SPEC_NAME}: how to prepare its input is unknown.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the checkpoint's {folder / SPEC_NAME} cannot be read: {error}.") from error
    return ModelSpec.from_json(text)


def weights_digest(folder: Path) -> str:
    """SHA-256, in hex, of the checkpoint's weights file: which training result this is.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        return sha256_of(folder / WEIGHTS_NAME)
    except OSError as error:
        raise ModelError(f"the weights {folder / WEIGHTS_NAME} cannot be read: {error.strerror or error}.") from error


def _check_match(model: DetectorNet, spec: ModelSpec) -> None:
    if full_name(spec.architecture) != model.architecture:
        raise ModelError(f"the spec says {spec.architecture} and the model is {model.architecture}.")
    if len(spec.classes) != model.head.out_features:
        raise ModelError(f"the spec has {len(spec.classes)} classes and the model {model.head.out_features}.")
