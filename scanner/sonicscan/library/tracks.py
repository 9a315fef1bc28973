"""A file that was found and is to be scored."""

from __future__ import annotations

from typing import NamedTuple

_INT64 = 1 << 63


def int64(value: int) -> int:
    """`value`, or the nearest number of 64 bits: a file's time may be in any year."""
    return max(-_INT64, min(value, _INT64 - 1))


class Track(NamedTuple):
    """A file that was found and is to be scored.

    Attributes:
        path: as the operating system names it; a URL without its secrets.
        size: bytes; -1 where it is unknown.
        mtime_ns: time of the last change, nanoseconds since 1970; 0 where it is unknown.
        address: the address that opens it, if it differs from `path`: a URL with a password or a signature.
    """

    path: bytes
    size: int
    mtime_ns: int
    address: bytes | None = None

    @property
    def name(self) -> str:
        """The path as text; bytes that are not UTF-8 are shown as `\\xNN`."""
        return self.path.decode("utf-8", "backslashreplace")

    @property
    def path_raw(self) -> bytes | None:
        """The path's bytes, where `name` cannot represent them all."""
        return None if self.name.encode() == self.path else self.path
