"""Families of generators: the classes of a model that says what kind of generator a track may be from.

A file is TOML, or one of those in `sonicscan_train/families`. It has the name of each class, and the names or patterns
of its sources:

    suno = ["Suno*"]
    latent-diffusion = ["StableAudio*", "ACE-Step*"]
"""

from __future__ import annotations

from sonicscan.errors import InputError
from sonicscan_train.packaged import read_packaged


def read_families(name: str) -> dict[str, str]:
    """Class names by source or pattern, in the file's order.

    Args:
        name: a file that ends in `.toml`, or the name of one in the package.

    Raises:
        InputError: it cannot be read, holds something else, or names a source twice.
    """
    path, values = read_packaged(name, "families", "set of families")
    found: dict[str, str] = {}
    for family, sources in values.items():
        if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
            raise InputError(f"{path}: {family} must be a list of sources or patterns.")
        for source in sources:
            if source in found:
                raise InputError(f"{path} names {source!r} in {found[source]} and in {family}.")
            found[source] = family
    return found
