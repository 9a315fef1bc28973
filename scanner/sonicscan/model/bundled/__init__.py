"""The models that come with sonicscan: the default, and others that `--model` takes by name."""

from __future__ import annotations

from pathlib import Path

from sonicscan.errors import ModelError

DEFAULT = "sonicnet_s"
_FOLDER = Path(__file__).parent


def bundled_models() -> dict[str, Path]:
    """The bundled ONNX files by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.onnx"))}


def chosen_model(name: Path | None) -> Path:
    """The file of that name, or else the bundled model that is called so; None for the default.

    Raises:
        ModelError: the default is wanted, and this installation has none.
    """
    bundled = bundled_models()
    if name is None:
        if DEFAULT not in bundled:
            raise ModelError("this installation of sonicscan bundles no model; name one with --model.")
        return bundled[DEFAULT]
    return name if name.exists() else bundled.get(str(name), name)


def bundled_card() -> Path | None:
    """The bundled models' card: beside them where sonicscan was installed from a wheel, else in docs/."""
    places = (_FOLDER / "model-card.md", _FOLDER.parents[3] / "docs" / "model-card.md")
    return next((place for place in places if place.is_file()), None)
