"""Checks of a container before decoding: encryption, a missing index, and formats known by their first bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

from sonicscan.audio.views import read_at
from sonicscan.errors import AudioError

_MAX_HEADER = 32 << 20
_MAX_BOXES = 4096
_MP4_FIRST = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"uuid"}
_MP4_ENCRYPTED = {b"enca": "CENC", b"drms": "FairPlay", b"drmi": "FairPlay", b"aavd": "Audible", b"aaxc": "Audible"}
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_ENCRYPTION = (bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"), bytes.fromhex("14e68a292226174cb935dae07ee9289c"))
_EBML = b"\x1a\x45\xdf\xa3"
# Matroska (RFC 9559): the path Segment, Tracks, TrackEntry, ContentEncodings, ContentEncoding; and the elements sought.
_EBML_PATH = {0x18538067, 0x1654AE6B, 0xAE, 0x6D80, 0x6240}
_EBML_TRACK_TYPE, _EBML_ENCRYPTION, _EBML_CLUSTER, _EBML_AUDIO = 0x83, 0x5035, 0x1F43B675, 2
_TS_PACKET = 188

_STARTS = (
    (b"RIFF", 0, "RIFF (WAV or AVI)"),
    (b"RF64", 0, "RF64"),
    (b"FORM", 0, "AIFF"),
    (b"fLaC", 0, "FLAC"),
    (b"OggS", 0, "Ogg"),
    (_EBML, 0, "Matroska"),
    (_ASF, 0, "ASF (WMA)"),
    (b"wvpk", 0, "WavPack"),
    (b"MAC ", 0, "Monkey's Audio"),
    (b"TTA1", 0, "TTA"),
    (b"DSD ", 0, "DSF"),
    (b"FRM8", 0, "DSDIFF"),
    (b"caff", 0, "CAF"),
    (b".snd", 0, "AU"),
    (b"MPCK", 0, "Musepack"),
    (b"MP+", 0, "Musepack"),
    (b"#!AMR", 0, "AMR"),
    (b"FLV", 0, "FLV"),
    (b".RMF", 0, "RealMedia"),
    (b"tBaK", 0, "TAK"),
)


def refuse_encrypted(file: io.RawIOBase) -> None:
    """Refuse a container whose sound is encrypted.

    Raises:
        AudioError: `unsupported`, with the kind of encryption.
    """
    head = read_at(file, 0, 4096)
    kind = None
    if _is_mp4(head):
        kind = _mp4_encryption(file)
    elif head[:16] == _ASF:
        header = read_at(file, 0, min(_MAX_HEADER, int.from_bytes(head[16:24], "little")))
        kind = "Windows Media DRM" if any(guid in header for guid in _ASF_ENCRYPTION) else None
    elif head[:4] == _EBML:
        kind = "Matroska content encryption" if _matroska_encrypted(file) else None
    elif head[:1] == b"G" and head[_TS_PACKET : _TS_PACKET + 1] == b"G":
        kind = "a scrambled transport stream" if _transport_scrambled(file) else None
    file.seek(0)
    if kind:
        raise AudioError("unsupported", f"the sound is encrypted ({kind}); decrypt the file first.")


def why_unreadable(file: io.RawIOBase) -> AudioError:
    """The error for a file that no decoder opens."""
    head = read_at(file, 0, 64)
    if _is_mp4(head):
        if not {b"moov", b"moof"} & {name for name, _, _ in _boxes(file, 0, file.seek(0, os.SEEK_END))}:
            return AudioError(
                "unreadable", "the index of this MP4 (`moov`) is missing: the file was cut short; copy it again."
            )
        return AudioError("unreadable", "it begins like MP4, and its header is damaged.")
    for start, at, name in _STARTS:
        if head[at : at + len(start)] == start:
            return AudioError("unreadable", f"it begins like {name}, and its header is damaged.")
    return AudioError("unsupported", "neither libsndfile nor FFmpeg recognises a sound format in it.")


def _is_mp4(head: bytes) -> bool:
    size = int.from_bytes(head[:4], "big")
    return head[4:8] in _MP4_FIRST and (size >= 8 or size in (0, 1))


def _boxes(file: io.RawIOBase, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte of the content, end) of the boxes between two places (ISO/IEC 14496-12, 4.2)."""
    for _ in range(_MAX_BOXES):
        head = read_at(file, start, 16)
        if len(head) < 8 or start + 8 > end:
            return
        size, begin = int.from_bytes(head[:4], "big"), start + 8
        if size == 1:
            size, begin = int.from_bytes(head[8:16], "big"), start + 16
        stop = end if size == 0 else start + size
        if stop < begin:
            return
        yield head[4:8], begin, min(stop, end)
        start = stop


def _mp4_encryption(file: io.RawIOBase) -> str | None:
    """The encryption of the sound; None if a sound track is not encrypted, or the file has no sound track."""
    found: list[str | None] = []
    for name, begin, end in _boxes(file, 0, file.seek(0, os.SEEK_END)):
        if name == b"moov":
            for track, a, b in _boxes(file, begin, end):
                if track == b"trak":
                    content = read_at(file, a, min(b - a, _MAX_HEADER))
                    at = content.find(b"stsd")
                    if at >= 0 and b"soun" in content[:at]:
                        found.append(_MP4_ENCRYPTED.get(content[at + 16 : at + 20]))
    return found[0] if found and all(found) else None


def _matroska_encrypted(file: io.RawIOBase) -> bool:
    """Whether every track of sound is encrypted."""
    found: list[bool] = []
    sound = False
    for element, content in _elements(file):
        if element == 0xAE:
            sound = False
        elif element == _EBML_TRACK_TYPE:
            sound = content[:1] == bytes([_EBML_AUDIO])
            found += [False] if sound else []
        elif element == _EBML_ENCRYPTION and sound and found:
            found[-1] = True
    return bool(found) and all(found)


def _elements(file: io.RawIOBase) -> Iterator[tuple[int, bytes]]:
    """Elements before the first cluster. Masters of `_EBML_PATH` are entered; other elements give their first bytes."""
    at, size = 0, file.seek(0, os.SEEK_END)
    for _ in range(_MAX_BOXES):
        head = read_at(file, at, 12)
        if len(head) < 2 or not head[0] or at >= size:
            return
        id_length = 9 - head[0].bit_length()
        element = int.from_bytes(head[:id_length], "big")
        lead = head[id_length] if len(head) > id_length else 0
        if not lead or element == _EBML_CLUSTER:
            return
        size_length = 9 - lead.bit_length()
        length = int.from_bytes(head[id_length : id_length + size_length], "big") & ((1 << 7 * size_length) - 1)
        at += id_length + size_length
        if element in _EBML_PATH:
            yield element, b""
        else:
            yield element, read_at(file, at, min(8, length))
            at += length


def _transport_scrambled(file: io.RawIOBase) -> bool:
    """Whether most packets with content say that it is scrambled (ISO/IEC 13818-1, 2.4.3.2)."""
    content = read_at(file, 0, 2000 * _TS_PACKET)
    heads = [content[k : k + 4] for k in range(0, len(content) - 4, _TS_PACKET)]
    streams = [head for head in heads if head[:1] == b"G" and 0x20 <= (head[1] & 0x1F) << 8 | head[2] < 0x1FFF]
    return sum(head[3] >= 0x80 for head in streams) > len(streams) / 2
