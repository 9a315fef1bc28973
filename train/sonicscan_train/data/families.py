"""Families of generators: the classes of a model that says what kind of generator a track may be from.

A file is TOML, or one of those in `sonicscan_train/families`. It has the name of each class, and the names or patterns
of its sources:

    suno = ["Suno*"]
    latent-diffusion = ["StableAudio*", "ACE-Step*"]
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from sonicscan.errors import InputError

FOLDER = Path(__file__).parents[1] / "families"


def read_families(name: str) -> dict[str, str]:
    """Class names by source or pattern, in the file's order.

    Args:
        name: a file that ends in `.toml`, or the name of one in the package.

    Raises:
        InputError: it cannot be read, holds something else, or names a source twice.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.toml")))
        raise InputError(f"there are no families {name!r}; known are {known}, or give a .toml file.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"the families in {path} cannot be read: {error}.") from error
    found: dict[str, str] = {}
    for family, sources in values.items():
        if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
            raise InputError(f"{path}: {family} must be a list of sources or patterns.")
        for source in sources:
            if source in found:
                raise InputError(f"{path} names {source!r} in {found[source]} and in {family}.")
            found[source] = family
    return found
