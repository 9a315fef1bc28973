"""Ogg files (RFC 3533) that libsndfile reads wrongly: those that begin late, and chains of several streams."""

from __future__ import annotations

import io
import os
from typing import Literal

from sonicscan.audio.views import read_at

BEGINS_STREAM = 0x02  # flag of a page
_MAX_PAGES = 256  # until the first timestamp
_HEADER = 27  # bytes of a page's header, without its table of sizes
_SEARCHED = (64 << 10) + 300  # a page has at most 65,307 bytes
_MANY_PAGES = 1.5  # times as many pages as the last one counts; page sizes vary within a stream
_PLACES = 8


def odd_ogg(file: io.RawIOBase) -> Literal["late", "chained"] | None:
    """Whether an Ogg file of Vorbis, Opus or FLAC begins with a late timestamp, or seems to chain several streams.

    libsndfile uses the last page's timestamp as the length, even if the first page begins late. It reads only the first
    stream of a chain.
    """
    head = read_at(file, 0, 512)
    if head[:4] != b"OggS" or (longest := _longest_packet(head)) is None:
        return None
    serial = head[14:18]
    at, packets, late = 0, 0, False
    for _ in range(_MAX_PAGES):
        page = read_at(file, at, 27 + 255)
        if page[:4] != b"OggS":
            break
        if at and page[5] & BEGINS_STREAM and page[14:18] != serial:
            return None  # several multiplexed streams
        sizes = page[27 : 27 + page[26]]
        packets += sum(size < 255 for size in sizes)
        time = int.from_bytes(page[6:14], "little")
        if 0 < time < 2**63:
            late = longest > 0 and time > (packets + 1) * longest
            break
        at += 27 + page[26] + sum(sizes)
    return "chained" if _is_chained(file, serial) else "late" if late else None


def _is_chained(file: io.RawIOBase, serial: bytes) -> bool:
    """Whether the last page is of another stream than the first, or the numbers of the pages begin anew in between.

    Files that were joined to themselves have one serial number. Their last page has a low number for so long a file. A
    stream with larger pages in front of smaller ones looks the same at its end, so pages in between decide.
    """
    size = file.seek(0, os.SEEK_END)
    tail = read_at(file, max(0, size - _SEARCHED), _SEARCHED)
    last = tail.rfind(b"OggS")
    if last < 0 or len(tail) < last + _HEADER:
        return False
    own, number = _numbered(tail[last:])
    page_size = (last - tail.find(b"OggS")) / max(1, tail.count(b"OggS") - 1)
    if own != serial:
        return True
    if size / max(1.0, page_size) <= _MANY_PAGES * (number + 2):
        return False
    before = 0
    for k in range(1, _PLACES):
        content = read_at(file, size * k // _PLACES, _SEARCHED)
        at = content.find(b"OggS\0")
        if at < 0 or len(content) < at + _HEADER:
            continue
        own, number = _numbered(content[at:])
        if own != serial or number < before:
            return True
        before = number
    return False


def _numbered(page: bytes) -> tuple[bytes, int]:
    """The serial number of a page's stream, and the page's own number in it."""
    return page[14:18], int.from_bytes(page[18:22], "little")


def _longest_packet(head: bytes) -> int | None:
    """The most samples in one packet of this stream; 0 if it is FLAC, None if it is neither Vorbis, Opus nor FLAC."""
    content = head[27 + head[26] :]
    if content[:8] == b"OpusHead":
        return 5760
    if content[:7] == b"\x01vorbis" and len(content) > 28:
        return 1 << (content[28] >> 4)
    return 0 if content[:5] == b"\x7fFLAC" else None
