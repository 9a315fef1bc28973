"""Tags written by hand, for the tests that read them."""

from __future__ import annotations

SUNO = "made with suno; created=2026-07-18T23:18:05.570Z; id=961df90a-7871-462d-a984-c18eb8836fde"


def synchsafe(n: int) -> bytes:
    return bytes(n >> shift & 127 for shift in (21, 14, 7, 0))


def frame(name: str, content: bytes, version: int = 4) -> bytes:
    """An ID3v2 frame; the version is 2, 3 or 4."""
    if version == 2:
        return name.encode() + len(content).to_bytes(3, "big") + content
    size = synchsafe(len(content)) if version == 4 else len(content).to_bytes(4, "big")
    return name.encode() + size + b"\0\0" + content


def comment(text: str) -> bytes:
    """A COMM frame."""
    return frame("COMM", b"\3eng\0" + text.encode())


def free(name: str, text: str) -> bytes:
    """A TXXX frame."""
    return frame("TXXX", b"\3" + name.encode() + b"\0" + text.encode())


def id3(*frames: bytes, version: int = 4, flags: int = 0, size: int | None = None) -> bytes:
    """An ID3v2 tag."""
    content = b"".join(frames)
    return b"ID3" + bytes([version, 0, flags]) + synchsafe(len(content) if size is None else size) + content


def with_id3(sound: bytes, *frames: bytes) -> bytes:
    """An MP3 with an ID3v2 tag in front of it, in place of the one that it has."""
    if sound[:3] == b"ID3":
        a, b, c, d = sound[6:10]
        sound = sound[10 + (a << 21 | b << 14 | c << 7 | d) :]
    return id3(*frames) + sound


def with_chunk(wav: bytes, name: bytes, content: bytes, size: int | None = None) -> bytes:
    """A WAV file with a further chunk at its end."""
    length = len(content) if size is None else size
    longer = wav + name + length.to_bytes(4, "little") + content + b"\0" * (len(content) % 2)
    return longer[:4] + (len(longer) - 8).to_bytes(4, "little") + longer[8:]


def in_ogg(sound: bytes, packet: bytes) -> bytes:
    """An Ogg file with a further stream of one packet, whose pages lie between those that begin and continue it."""
    end = 27 + sound[26] + sum(sound[27 : 27 + sound[26]])
    parts = [packet[k : k + 255 * 255] for k in range(0, len(packet), 255 * 255)]
    first, *more = (
        _ogg_page(part, 2 * (k == 0) | (k > 0) | 4 * (k == len(parts) - 1), k) for k, part in enumerate(parts)
    )
    return sound[:end] + first + b"".join(more) + sound[end:]


def _ogg_page(body: bytes, kind: int, number: int) -> bytes:
    """RFC 3533, 6."""
    lacing = (b"\xff" * (len(body) // 255) + bytes([len(body) % 255]))[:255]
    head = b"OggS\0" + bytes([kind]) + bytes(8) + b"C2PA" + number.to_bytes(4, "little")
    tail = bytes([len(lacing)]) + lacing + body
    return head + ogg_checksum(head + bytes(4) + tail).to_bytes(4, "little") + tail


def ogg_checksum(page: bytes | bytearray) -> int:
    """The CRC of an Ogg page whose own four bytes are zero (RFC 3533, 6)."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x104C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def box(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """A box of MP4 or JUMBF."""
    return (8 + len(content) if size is None else size).to_bytes(4, "big") + name + content
