"""Finds Content Credentials and XMP in sound files, by a bounded walk over their chunks.

MP3, FLAC: ID3v2 frames GEOB (C2PA) and PRIV (XMP). WAV: chunks `C2PA`, `_PMX` and `XMP `. MP4: `uuid` boxes.
Ogg: a stream that begins with `\\0c2pa`. Sources: C2PA specification 2.3, A.3; XMP specification part 3.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

MAX_STORE = 16 << 20  # bytes of a manifest that are looked at
_MAX_XMP = 256 << 10
_MAX_CHUNKS = 2000
_HEAD = 1024  # bytes at the start of a chunk in which the manifest begins
_OGG_HEAD = 64 << 10
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_C2PA_TYPES = (b"application/c2pa\0", b"application/x-c2pa-manifest-store\0")


@dataclass(frozen=True)
class Embedded:
    """What was found in a file.

    Attributes:
        mime: media type of the container.
        start, size: where the manifest store lies, bytes; the size is 0 where there is none.
        unsynchronised: ID3 has put a zero byte behind each 0xFF of it.
        xmp: an XMP packet; empty where there is none.
    """

    mime: str = ""
    start: int = 0
    size: int = 0
    unsynchronised: bool = False
    xmp: bytes = b""


def find_embedded(file: io.RawIOBase) -> Embedded:
    """Find the manifest store and the XMP packet of an open file.

    Reads chunk headers, the beginning of chunks that may hold a manifest, and at most 256 KiB of XMP.
    """
    head = _read(file, 0, 12)
    if head[:3] == b"ID3":
        return _in_id3(file)
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _in_wave(file)
    if head[4:8] == b"ftyp":
        return _in_mp4(file)
    if head[:4] == b"OggS":
        return _in_ogg(file)
    return Embedded()


def read_store(file: io.RawIOBase, found: Embedded) -> bytes:
    """The manifest store, limited by the file and `MAX_STORE`."""
    store = _read(file, found.start, min(found.size, MAX_STORE))
    return store.replace(b"\xff\0", b"\xff") if found.unsynchronised else store


def _read(file: io.RawIOBase, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size) or b""


def _in_id3(file: io.RawIOBase) -> Embedded:
    head = _read(file, 0, 10)
    if len(head) < 10:
        return Embedded()
    major, flags, end = head[3], head[5], 10 + _synchsafe(head[6:10])
    mime = "audio/flac" if _read(file, end, 4) == b"fLaC" else "audio/mpeg"
    found = Embedded(mime, unsynchronised=bool(flags & 0x80))
    for name, start, size in _id3_frames(file, major, flags, end):
        if name in (b"GEOB", b"GEO") and not found.size:
            beginning = _read(file, start, min(size, _HEAD))
            if beginning[1:].startswith(_C2PA_TYPES):
                at = _jumbf_in(beginning)
                found = replace(found, start=start + at, size=size - at)
        elif name == b"PRIV" and not found.xmp and _read(file, start, 4) == b"XMP\0":
            found = replace(found, xmp=_read(file, start + 4, min(size - 4, _MAX_XMP)))
    return found


def _id3_frames(file: io.RawIOBase, major: int, flags: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size of each frame of an ID3v2 tag."""
    position = 10
    if flags & 0x40 and major > 2:  # an extended header
        extended = _read(file, position, 4)
        if len(extended) == 4:
            position += _synchsafe(extended) if major == 4 else 4 + int.from_bytes(extended, "big")
    header = 6 if major == 2 else 10
    for _ in range(_MAX_CHUNKS):
        frame = _read(file, position, header)
        if len(frame) < header or position + header > end or not frame[0]:
            return
        name, size = _frame_of(major, frame)
        start = position + header
        yield name, start, min(size, end - start)
        position = start + size


def _frame_of(major: int, header: bytes) -> tuple[bytes, int]:
    """The name and size of an ID3 frame."""
    if major == 2:
        return header[:3], int.from_bytes(header[3:6], "big")
    four = header[4:8]
    plain = major == 3 or any(byte & 0x80 for byte in four)  # some programs write plain sizes into version 2.4
    return header[:4], int.from_bytes(four, "big") if plain else _synchsafe(four)


def _synchsafe(four: bytes) -> int:
    a, b, c, d = four
    return a << 21 | b << 14 | c << 7 | d


def _in_wave(file: io.RawIOBase) -> Embedded:
    found = Embedded("audio/wav")
    position, long_data = 12, 0
    for _ in range(_MAX_CHUNKS):
        header = _read(file, position, 8)
        if len(header) < 8:
            break
        name, size = header[:4], int.from_bytes(header[4:], "little")
        start = position + 8
        if name == b"ds64":  # the sizes of an RF64 file
            sizes = _read(file, start, 16)
            long_data = struct.unpack("<QQ", sizes)[1] if len(sizes) == 16 else 0
        elif name == b"data" and size == 0xFFFFFFFF:
            size = long_data
        elif name == b"C2PA" and not found.size:
            found = replace(found, start=start, size=size)
        elif name in (b"_PMX", b"XMP ") and not found.xmp:
            found = replace(found, xmp=_read(file, start, min(size, _MAX_XMP)))
        position = start + size + size % 2
    return found


def _in_mp4(file: io.RawIOBase) -> Embedded:
    found = Embedded("audio/mp4")
    length = file.seek(0, os.SEEK_END)
    position = 0
    for _ in range(_MAX_CHUNKS):
        header = _read(file, position, 16)
        if len(header) < 8:
            break
        size, name, start = int.from_bytes(header[:4], "big"), header[4:8], position + 8
        if size == 1 and len(header) == 16:
            size, start = int.from_bytes(header[8:], "big"), position + 16
        elif size == 0:
            size = length - position
        if size < start - position:
            break
        if name == b"uuid":
            kind = _read(file, start, 16)
            inside, rest = start + 16, position + size - start - 16
            if kind == _C2PA_UUID and not found.size and rest > 0:
                beginning = _read(file, inside, min(rest, _HEAD))
                # Behind version and flags the purpose; other purposes than `manifest` belong to fragmented files.
                if beginning[4:].startswith(b"manifest\0"):
                    at = _jumbf_in(beginning)
                    found = replace(found, start=inside + at, size=rest - at)
            elif kind == _XMP_UUID and not found.xmp and rest > 0:
                found = replace(found, xmp=_read(file, inside, min(rest, _MAX_XMP)))
        position += size
    return found


def _in_ogg(file: io.RawIOBase) -> Embedded:
    """Ogg: the streams begin with one page each, at the start of the file."""
    head = _read(file, 0, _OGG_HEAD)
    position = 0
    while head[position : position + 4] == b"OggS" and len(head) > position + 27 and head[position + 5] & 2:
        segments = head[position + 27 : position + 27 + head[position + 26]]
        start = position + 27 + len(segments)
        if head[start : start + 5] == b"\0c2pa":
            return Embedded("audio/ogg", start + 5, max(1, sum(segments) - 5))
        position = start + sum(segments)
    return Embedded("audio/ogg")


def _jumbf_in(beginning: bytes) -> int:
    """The start of the first JUMBF box; 0 if there is none, so that the content is not a manifest."""
    return max(0, beginning.find(b"jumb") - 4)
