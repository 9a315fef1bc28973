"""A local file that another process opened and passed on, since the worker itself may not open files."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence

from sonicscan.library.ranges import OpenFile

DESCRIPTORS = 2  # decoding uses at most two readers of a file at a time


class HeldFile(OpenFile):
    """An open file.

    Args:
        descriptors: of the same file, each opened separately, so that each has its own position. This object closes
            them.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._free = list(descriptors)
        self._closed = False

    def reader(self) -> io.RawIOBase:
        """Returns a new reader at the start of the file; closing it frees its descriptor for another reader.

        Raises:
            OSError: as many readers are open as there are descriptors.
        """
        if not self._free:
            raise OSError("too many readers of one file")
        fd = self._free.pop()
        os.lseek(fd, 0, os.SEEK_SET)
        return _Reader(fd, self._give_back)

    def check(self) -> None:
        """Does nothing: a local file cannot fail in transfer."""

    def close(self) -> None:
        """Close the file; a reader that is still open closes its part later."""
        self._closed = True
        while self._free:
            os.close(self._free.pop())

    def _give_back(self, fd: int) -> None:
        if self._closed:
            os.close(fd)
        else:
            self._free.append(fd)


class _Reader(io.FileIO):
    """Reads from a descriptor, and gives it back when it is closed."""

    def __init__(self, fd: int, give_back: Callable[[int], None]) -> None:
        super().__init__(fd, closefd=False)
        self._held = fd
        self._give_back = give_back

    def close(self) -> None:
        was_open = not self.closed
        super().close()
        if was_open:
            self._give_back(self._held)
