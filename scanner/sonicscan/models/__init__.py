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


def bundled_card() -> Path | None:
    """The bundled model's card: beside it where sonicscan was installed from a wheel, else in docs/."""
    here = Path(__file__).parent
    places = (here / "model-card.md", here.parents[2] / "docs" / "model-card.md")
    return next((place for place in places if place.is_file()), None)
