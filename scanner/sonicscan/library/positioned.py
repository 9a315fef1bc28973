"""The part that every read-only file object of known size shares: its position."""

from __future__ import annotations

import io


class PositionedReader(io.RawIOBase):
    """A seekable, readable file object; a subclass defines `readinto`, which reads at `_position` and advances it.

    Args:
        size: bytes in it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position
