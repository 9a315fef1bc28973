"""TOML files that come with the package, such as recipes, or that a user writes in their place."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from sonicscan.errors import InputError

_PACKAGE = Path(__file__).parent


def packaged_files(folder: str) -> list[Path]:
    """The TOML files in a folder of the package, by name."""
    return sorted((_PACKAGE / folder).glob("*.toml"))


def read_packaged(name: str, folder: str, kind: str) -> tuple[Path, dict[str, Any]]:
    """A TOML file and what it holds.

    Args:
        name: a file that ends in `.toml`, or the name of one in `folder`.
        folder: a folder of the package, such as `recipes`.
        kind: what one such file is called in messages, such as `recipe`.

    Raises:
        InputError: there is no such file, or it is not TOML.
    """
    path = Path(name) if name.endswith(".toml") else _PACKAGE / folder / f"{name}.toml"
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(file.stem for file in packaged_files(folder))
        raise InputError(f"there is no {kind} {name!r}; known: {known}, or give a .toml file.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"the {kind} {path} cannot be read: {error}.") from error
