"""Folders that commands write to."""

from __future__ import annotations

from pathlib import Path

from sonicscan.errors import InputError


def make_folder(path: Path) -> None:
    """Make a folder where it is missing, before the work whose results it gets.

    Raises:
        InputError: it cannot be made, or a file has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path} cannot be made: {error.strerror or error}; name another one.") from error
