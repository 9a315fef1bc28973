"""Reads lists of files: text in the usual encodings, NUL-separated lists, and M3U playlists."""

from __future__ import annotations

import codecs
import os
from pathlib import PurePath

from sonicscan.errors import InputError
from sonicscan.library.urls import Url, is_url, located

_PLAYLISTS = (".m3u", ".m3u8")
_WIDE = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def file_list(content: bytes, name: str, nul: bool = False) -> list[bytes]:
    """Returns the paths that a list names; paths that do not exist are kept.

    UTF-8, UTF-16 and UTF-32 with a byte-order mark are recognised; otherwise the bytes are the paths. A carriage return
    at the end of a line is removed, unless a file with exactly that name exists. A playlist (.m3u, .m3u8, or a first
    line `#EXTM3U`) has comment lines, and its paths are relative to its own folder.

    Args:
        content: the list's bytes.
        name: of the list, for its suffix and folder; `-` for standard input.
        nul: the paths are separated by NUL, not by newlines.

    Raises:
        InputError: a NUL in a list of lines, or text that is not in the encoding that its mark names.
    """
    content = as_utf8(content, f"the list {name}")
    if nul:
        return [normal(item) for item in content.split(b"\0") if item]
    if b"\0" in content:
        raise InputError(
            f"the list {name} holds NUL characters: use -0 where they separate its paths; save it as UTF-8 otherwise."
        )
    lines = [_line(line) for line in content.split(b"\n")]
    if name.lower().endswith(_PLAYLISTS) or lines[0].rstrip() == b"#EXTM3U":
        folder = b"" if name == "-" else os.path.dirname(os.fsencode(name))  # noqa: PTH120 - bytes
        return [normal(_entry(line, folder)) for line in lines if line.strip() and not line.startswith(b"#")]
    return [normal(line) for line in lines if line]


def as_utf8(content: bytes, what: str) -> bytes:
    """Text without its byte-order mark, in UTF-8; bytes without a mark stay as they are.

    Raises:
        InputError: the text is not in the encoding that its mark names.
    """
    for mark, encoding in _WIDE:
        if content.startswith(mark):
            try:
                return content.decode(encoding).encode()
            except UnicodeError:
                raise InputError(f"{what} begins as {encoding.upper()} and is not; save it as UTF-8.") from None
    return content.removeprefix(codecs.BOM_UTF8)


def normal(path: bytes) -> bytes:
    """Removes `./` and repeated and trailing slashes, so that one file has one name; URLs stay as they are."""
    place = located(path)
    if isinstance(place, Url):
        return place.encoded()
    if is_url(path):
        return os.fsencode(place)
    return os.fsencode(PurePath(os.fsdecode(path)))


def _line(line: bytes) -> bytes:
    if not line.endswith(b"\r") or os.path.lexists(line):
        return line
    return line[:-1]


def _entry(line: bytes, folder: bytes) -> bytes:
    """Reads a playlist's path; backslashes separate folders if that path exists."""
    if is_url(line):
        return line
    path = os.path.join(folder, line)  # noqa: PTH118 - bytes
    turned = os.path.join(folder, line.replace(b"\\", b"/"))  # noqa: PTH118 - bytes
    return turned if os.path.lexists(turned) and not os.path.lexists(path) else path
