"""The model that comes with sonicscan."""

from __future__ import annotations

from pathlib import Path

from sonicscan.errors import ModelError


def bundled_model() -> Path:
    """The bundled ONNX file.

    Raises:
        ModelError: this installation has none.
    """
    found = sorted(Path(__file__).parent.glob("*.onnx"))
    if not found:
        raise ModelError("this installation of sonicscan bundles no model; name one with --model.")
    return found[0]
