"""The folders that a scan was given, and the real folder behind each: `library` and `/srv/library` can be one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

from sonicscan.library.urls import is_url

_MAX_ROOTS = 1000  # limit on the folders that a report stores; above it none is stored


@dataclass(frozen=True)
class Roots:
    """The folders of one scan, as they were typed and as they really are.

    Attributes:
        folders: (prefix of every path below the folder, real path of the folder), longest prefix first.
    """

    folders: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def of(cls, roots: Iterable[bytes]) -> Roots:
        """Builds from `Listing.roots`; files and URLs are left out, since they have one spelling."""
        found = [
            (prefix_of(root), os.path.realpath(root))
            for root in roots
            if not is_url(root) and os.path.isdir(root)  # noqa: PTH112 - bytes, which pathlib does not take
        ]
        return cls(tuple(sorted(found, key=lambda folder: len(folder[0]), reverse=True)))

    def real(self, path: bytes) -> bytes:
        """Returns the same name of a track for any spelling of its folder on the command line."""
        for prefix, folder in self.folders:
            if path.startswith(prefix):
                return os.path.join(folder, path[len(prefix) :])  # noqa: PTH118 - bytes
        if is_url(path):
            return path
        folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 - bytes
        return os.path.join(os.path.realpath(folder), name)  # noqa: PTH118 - bytes

    @property
    def kept(self) -> tuple[tuple[str, str], ...]:
        """The values that a report stores: each prefix with a digest of its folder's real path. The real path itself
        stays private."""
        folders = self.folders if len(self.folders) <= _MAX_ROOTS else ()
        return tuple((os.fsdecode(prefix), _digest(folder)) for prefix, folder in folders)


NO_ROOTS = Roots()


def respelled(kept: Iterable[tuple[str, str]], now: Roots) -> dict[bytes, bytes]:
    """Prefixes of an earlier report, longest first, with the prefix that the same folder has now.

    Args:
        kept: `Roots.kept` of the earlier scan.
        now: the folders of this scan.

    Returns:
        only the prefixes that have changed; usually none.
    """
    prefixes = {_digest(folder): prefix for prefix, folder in now.folders}
    earlier = [(os.fsencode(prefix), digest) for prefix, digest in kept]
    same = {(prefix, _digest(folder)) for prefix, folder in now.folders}
    changed = {
        prefix: prefixes[digest] for prefix, digest in earlier if digest in prefixes and (prefix, digest) not in same
    }
    return dict(sorted(changed.items(), key=lambda pair: len(pair[0]), reverse=True))


def prefix_of(root: bytes) -> bytes:
    """The prefix of the path of every track below the folder, as `Listing` writes it."""
    return b"" if root == b"." else root.rstrip(b"/") + b"/"


def _digest(folder: bytes) -> str:
    return hashlib.sha256(folder).hexdigest()[:32]
