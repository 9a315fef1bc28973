"""The models that come with sonicscan: the default, and others that `--model` takes by name.

`SHA256SUMS` beside them has their digests, which are checked when a model is loaded. After a change of the models,
`python -m sonicscan.model.bundled` writes this file again.
"""

from __future__ import annotations

from pathlib import Path

from sonicscan.errors import ModelError
from sonicscan.files import sha256_of, write_whole

DEFAULT = "sonic-small-v2"
DIGESTS = "SHA256SUMS"
_FOLDER = Path(__file__).parent


def bundled_models() -> dict[str, Path]:
    """The bundled ONNX files by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.onnx"))}


def chosen_model(name: Path | None) -> Path:
    """Returns the file of that name, or else the bundled model of that name; None gives the default model.

    Raises:
        ModelError: the default is wanted, and this installation has none.
    """
    bundled = bundled_models()
    if name is None:
        if DEFAULT not in bundled:
            raise ModelError("this installation of sonicscan bundles no model; name one with --model.")
        return bundled[DEFAULT]
    return name if name.is_file() else bundled.get(str(name), name)


def bundled_digests() -> dict[str, str]:
    """SHA-256 of each bundled file of this version, by its name."""
    try:
        lines = (_FOLDER / DIGESTS).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{_FOLDER / DIGESTS} cannot be read ({error}); install sonicscan again.") from error
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def check_bundled(path: Path, digest: str) -> None:
    """Raise `ModelError` where `path` is a bundled model that is not the one of this version.

    Args:
        path: a model.
        digest: SHA-256 of its bytes, hex.
    """
    if path.resolve().parent == _FOLDER.resolve() and bundled_digests().get(path.name) != digest:
        raise ModelError(
            f"{path} is not the bundled model of this version: it was changed or damaged; install sonicscan again."
        )


def write_digests() -> Path:
    """Writes the digests of the bundled models, in the format of sha256sum; needed after a change of the models."""
    lines = [f"{sha256_of(path)}  {path.name}\n" for path in bundled_models().values()]
    write_whole(_FOLDER / DIGESTS, "".join(lines))
    return _FOLDER / DIGESTS


def bundled_card(card: str) -> Path | None:
    """A bundled model's card: beside the models where sonicscan was installed from a wheel, else in docs/.

    Args:
        card: as the model's contract has it, such as `docs/model-card.md`.
    """
    name = Path(card).name
    places = (_FOLDER / name, _FOLDER.parents[3] / "docs" / name)
    return next((place for place in places if place.is_file()), None)
