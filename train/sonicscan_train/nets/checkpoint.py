"""A checkpoint is a folder: `model.safetensors`, `spec.json` and whatever else training puts beside them.

`spec.json` is `ModelSpec.to_json()`, the same contract that the ONNX file will carry. Nothing in a checkpoint is
ever executed: no pickle is read.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from sonicscan.errors import ModelError
from sonicscan.files import sha256_of
from sonicscan.spec import ModelSpec
from sonicscan_train.nets.backbones import DetectorNet, build, full_name, load_exactly, read_weights

WEIGHTS_NAME = "model.safetensors"
SPEC_NAME = "spec.json"


def save(folder: Path, model: DetectorNet, spec: ModelSpec, write_more: Callable[[Path], None] | None = None) -> None:
    """Write a checkpoint that appears whole, by rename; an earlier one of that name is replaced.

    Args:
        folder: the checkpoint's name; its parent is made where it is missing.
        model: its weights are copied to the CPU.
        spec: must name the model's architecture and as many classes as its head has.
        write_more: called with the folder being written, to put optimiser state and such into it.

    Raises:
        ModelError: spec and model disagree, or the folder cannot be written.
    """
    import safetensors.torch

    _check_match(model, spec)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
        try:
            tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
            safetensors.torch.save_file(tensors, partial / WEIGHTS_NAME)
            (partial / SPEC_NAME).write_text(spec.to_json(), encoding="utf-8")
            if write_more is not None:
                write_more(partial)
            partial.chmod(0o755)
            _swap(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
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


def _swap(partial: Path, folder: Path) -> None:
    """Renames `partial` to `folder`; an earlier folder is moved away first, since a folder cannot be replaced by
    rename."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
