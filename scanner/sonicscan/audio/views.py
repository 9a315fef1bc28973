"""Views of a file for decoders: without leading ID3 tags, and with the true length in the header."""

from __future__ import annotations

import io
import os

from sonicscan.library.positioned import PositionedReader

_ID3_HEADER = 10
_MAX_ID3_TAGS = 16  # one after the other; programs write two or three
_PADDING = 64 << 10  # zero bytes that may follow the last of them


class View(PositionedReader):
    """The bytes of `file` from `start` on, with some of them replaced.

    Args:
        file: seekable; shared, so that only one of its views is in use at a time.
        start: the view's first byte.
        patch: (position in the view, bytes that stand there), if any.
        end: where the view ends in `file`; None for its end.
        owned: closing the view closes `file`.
    """

    def __init__(
        self,
        file: io.RawIOBase,
        start: int = 0,
        patch: tuple[int, bytes] | None = None,
        end: int | None = None,
        owned: bool = False,
    ) -> None:
        size = file.seek(0, os.SEEK_END)
        super().__init__(max(0, (size if end is None else min(end, size)) - start))
        self._file = file
        self._owned = owned
        self._start = start
        self._patch = patch

    def close(self) -> None:
        if self._owned and not self.closed:
            self._file.close()
        super().close()

    # io hands over a memoryview, though the stubs allow any buffer.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._start + self._position)
        left = max(0, self._size - self._position)
        n = self._file.readinto(memoryview(buffer)[:left]) or 0
        if self._patch is not None:
            at, content = self._patch[0] - self._position, self._patch[1]
            first, end = max(0, at), min(n, at + len(content))
            if first < end:
                buffer[first:end] = content[first - at : end - at]
        self._position += n
        return n


def read_at(file: io.RawIOBase, position: int, n: int) -> bytes:
    """Read up to `n` bytes of `file` from `position`, fewer at its end; leaves the position behind them."""
    file.seek(position)
    parts = []
    while n and (part := file.read(n)):
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def id3_tags(file: io.RawIOBase) -> list[int]:
    """Where the ID3v2 tags at the start of `file` begin, one after the other, and where the last one ends.

    Source: https://id3.org/id3v2.4.0-structure, 3.1; a footer adds ten bytes.
    """
    places = [0]
    for _ in range(_MAX_ID3_TAGS):
        start = places[-1]
        head = read_at(file, start, _ID3_HEADER)
        if len(head) < _ID3_HEADER or head[:3] != b"ID3" or max(head[6:]) > 0x7F or 0xFF in head[3:5]:
            break
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        places.append(start + _ID3_HEADER + size + (_ID3_HEADER if head[5] & 0x10 else 0))
    return places


def behind_id3(file: io.RawIOBase) -> int:
    """The end of the ID3v2 tags at the start of `file`, and of zero bytes behind them; 0 without such tags."""
    start = id3_tags(file)[-1]
    if start:
        padding = read_at(file, start, _PADDING)
        rest = padding.lstrip(b"\0")
        zeros = len(padding) - len(rest)
        if rest and zeros >= 16:
            start += zeros - (3 if rest[1:5] == b"ftyp" else 0)  # the size of an MP4's first box begins with zeros
    return start
