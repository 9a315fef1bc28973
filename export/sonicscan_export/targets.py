"""Where models are written to."""

from __future__ import annotations

from pathlib import Path

from sonicscan.errors import InputError


def check_target(path: Path) -> None:
    """Raise `InputError` unless `path` names a model that could be written."""
    if path.suffix != ".onnx":
        raise InputError(f"--out {path}: the name must end in .onnx.")
    if path.is_dir():
        raise InputError(f"--out {path}: that is a folder.")
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: there is no folder {path.parent}.")
