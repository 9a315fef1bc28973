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


def box(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """A box of MP4 or JUMBF."""
    return (8 + len(content) if size is None else size).to_bytes(4, "big") + name + content
