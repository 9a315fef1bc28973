"""Quick checks for sound behind the end that a header claims.

Each check reads a few places of the file. The formats are FLAC, MP3, WAV, RF64, AIFF, CAF and AU, because libsndfile
stops at their claimed end. `ogg` checks Ogg, and `packets` the formats that FFmpeg reads.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Literal

from sonicscan.audio.views import behind_id3, read_at
from sonicscan.library.ranges import FetchingReader

_TAIL = 256 << 10
_LEAST_S = 0.5  # of sound behind the end, to matter
_PLACES = 16
_PLACE = 8192
_JUNK = 16 << 10
# Placeholder sizes of programs that cannot seek back to write the real size.
STREAMED_SIZES = (range(2**31 - 2**16, 2**31 + 1), range(2**32 - 2**16, 2**32))


# --- FLAC (RFC 9639) ---


def flac_end(file: io.RawIOBase) -> int | None:
    """The end of the last frame in `file`, in samples, from the frame's own number; None if no frame is found."""
    start = behind_id3(file)
    head = read_at(file, start, 42)
    if head[:4] != b"fLaC" or len(head) < 42:
        return None
    block, channels = int.from_bytes(head[10:12], "big"), (head[20] >> 1 & 7) + 1
    size = file.seek(0, os.SEEK_END)
    tail = read_at(file, max(start, size - _TAIL), _TAIL)
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if (end := _flac_frame_end(tail[at : at + 16], block, channels)) is not None:
            return end
    return None


def flac_claims_too_little(file: io.RawIOBase) -> bool:
    """Whether a FLAC has frames behind the length in its header; False if that length is unknown."""
    head = read_at(file, behind_id3(file), 26)
    if head[:4] != b"fLaC" or len(head) < 26:
        return False
    total, rate = int.from_bytes(head[21:26], "big") & (1 << 36) - 1, int.from_bytes(head[18:21], "big") >> 4
    return 0 < total < (flac_end(file) or 0) - _LEAST_S * rate


def _flac_frame_end(head: bytes, block: int, channels: int) -> int | None:
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    size_code, rate_code, layout = head[2] >> 4, head[2] & 15, head[3] >> 4
    if not size_code or rate_code == 15 or (layout > 10) or (channels != (2 if layout > 7 else layout + 1)):
        return None
    more = 0 if head[4] < 0x80 else 8 - (head[4] ^ 0xFF).bit_length() - 1
    if head[4] in range(0x80, 0xC0) or more > 6:
        return None
    number = head[4] & (0x7F if not more else 0x3F >> more)
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    at = 5 + more
    if size_code in (6, 7):
        samples = int.from_bytes(head[at : at + size_code - 5], "big") + 1
        at += size_code - 5
    else:
        samples = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 256 << size_code - 8
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    return (number if head[1] & 1 else number * block) + samples


def _crc8(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 & 0xFF ^ (0x07 if crc & 0x80 else 0)
    return crc


# --- MP3 (ISO/IEC 11172-3 and 13818-3; the Xing header is LAME's) ---

_KBITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


@dataclass(frozen=True)
class Mp3Claim:
    """The length in the Xing or Info header of an MP3.

    Attributes:
        seconds: length; 0 if the header does not give it.
        low: the file has more frames than the header counts.
        reached: the file holds the bytes that the header counts.
    """

    seconds: float
    low: bool
    reached: bool


def mp3_claim(file: io.RawIOBase) -> Mp3Claim | None:
    """The length that an MP3 claims; None for any other file."""
    start = behind_id3(file)
    head = read_at(file, start, 512)
    length = _mp3_frame(head)
    if not length:
        return None
    if isinstance(file, FetchingReader):
        file.fetch_all()  # decoders look at every frame
    version = head[1] >> 3 & 3
    at = max(head.find(b"Xing"), head.find(b"Info"))
    flags = int.from_bytes(head[at + 4 : at + 8], "big") if 0 <= at < 200 else 0
    frames = int.from_bytes(head[at + 8 : at + 12], "big") if flags & 1 else 0
    if not frames:
        return Mp3Claim(0.0, low=False, reached=False)
    samples = 1152 if version == 3 else 576
    seconds = frames * samples / _RATES[version][head[2] >> 2 & 3]
    size = file.seek(0, os.SEEK_END) - start
    counted = int.from_bytes(head[at + 12 : at + 16], "big") if flags & 2 else 0
    # A few extra kilobytes may be damage before that place. A second file or a wrong count adds more.
    more = counted > 0 and size - counted > max(_JUNK, counted // 50)
    behind = more and _mp3_run(read_at(file, start + counted, _PLACE))[0] >= 3
    held = min(counted or size, size)
    runs = [_mp3_run(read_at(file, start + held * k // _PLACES, _PLACE)) for k in range(1, _PLACES)]
    whole = sum(n for n, _ in runs)
    found = held * whole / max(1, sum(n_bytes for _, n_bytes in runs))
    return Mp3Claim(seconds, behind or found > 1.3 * frames + 50, counted > 0 and size >= 0.99 * counted)


def _mp3_frame(head: bytes) -> int:
    """Size in bytes of the layer III frame that begins with `head`; 0 if `head` begins no frame."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[1] >> 3 & 3 == 1:
        return 0
    version, kbit, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if rate == 3 or kbit in (0, 15):
        return 0
    bits = (144_000 if version == 3 else 72_000) * _KBITS[version != 3][kbit]
    return bits // _RATES[version][rate] + (head[2] >> 1 & 1)


def _mp3_run(content: bytes) -> tuple[int, int]:
    """Number of consecutive frames in `content`, and their bytes; (0, 0) for fewer than three."""
    at = 0
    while (at := content.find(b"\xff", at)) >= 0:
        n, end = 0, at
        while (length := _mp3_frame(content[end : end + 4])) and end + length <= len(content):
            n, end = n + 1, end + length
        if n >= 3:
            return n, end - at
        at += 1
    return 0, 0


# --- WAV, RF64, AIFF, CAF and AU ---


@dataclass(frozen=True)
class _Chunks:
    """How a format writes chunks: where the first one is, bytes of a size, byte order, the chunk of the samples."""

    first: int
    width: int
    order: Literal["little", "big"]
    data: bytes
    even: bool = True  # chunks are padded to an even length


_CHUNKED = {
    b"RIFF": _Chunks(12, 4, "little", b"data"),
    b"RF64": _Chunks(12, 4, "little", b"data"),
    b"FORM": _Chunks(12, 4, "big", b"SSND"),
    b"caff": _Chunks(8, 8, "big", b"data", even=False),
}


def longer_data(file: io.RawIOBase) -> tuple[int, bytes] | None:
    """The patch (position, bytes) that makes the header of a WAV, RF64, AIFF, CAF or AU count all samples.

    None if the header is correct. Sizes of 32 bits wrap around at 4 GiB, and recorders that lost power never wrote
    them.
    """
    head, size = read_at(file, 0, 64), file.seek(0, os.SEEK_END)
    if head[:4] == b".snd":
        start, claimed = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
        if _streamed(claimed) or not _is_sound(file, start + claimed, size):
            return None
        return 8, min(size - start, 2**32 - 1).to_bytes(4, "big")
    form = _CHUNKED.get(head[:4])
    if form is None or head[8:12] == b"AVI ":
        return None
    at, wide = form.first, 0
    for _ in range(1000):
        chunk = read_at(file, at, 4 + form.width)
        length = int.from_bytes(chunk[4:], form.order)
        if len(chunk) < 4 + form.width:
            return None
        start = at + 4 + form.width
        if chunk[:4] == form.data:
            break
        if chunk[:4] == b"ds64" and head[:4] == b"RF64":
            wide = at + 16
        at = start + length + (length % 2 if form.even else 0)
    else:
        return None
    if wide:
        length = int.from_bytes(read_at(file, wide, 8), "little")
    if _streamed(length) or length >= 2**63 or not _is_sound(file, start + length + length % 2, size):
        return None
    if wide:
        return wide, (size - start).to_bytes(8, "little")
    return at + 4, min(size - start, 2 ** (8 * form.width) - 1).to_bytes(form.width, form.order)


def _streamed(size: int) -> bool:
    return not size or any(size in sizes for sizes in STREAMED_SIZES)


def _is_sound(file: io.RawIOBase, begin: int, size: int) -> bool:
    """Whether the bytes from `begin` to the end are samples: neither a chunk, nor a tag, nor all zero."""
    rest = size - begin
    if rest < 4096:
        return False
    if rest % 2**32 < 2**16 and rest >= 2**32:  # a size of 32 bits that wrapped around
        return True
    for head in (read_at(file, begin, 8), read_at(file, begin - 1, 8)):
        named = all(0x20 <= byte < 0x7F for byte in head[:4])
        if named and (int.from_bytes(head[4:8], "little") <= rest or head[:3] in (b"TAG", b"ID3", b"APE")):
            return False
    return any(any(read_at(file, begin + (rest - 4096) * k // _PLACES, 4096)) for k in range(_PLACES))


# --- Ends that are reached ---


def reaches_claim(file: io.RawIOBase, codec: str, claimed: int, sample_rate: int) -> bool:
    """Whether a FLAC or MP3 reaches its claimed end (`claimed` frames); damage before the end does not matter."""
    if codec == "flac":
        end = flac_end(file)
        return end is not None and end >= claimed - _LEAST_S * sample_rate
    claim = mp3_claim(file) if codec == "mp3" else None
    return claim is not None and claim.reached
