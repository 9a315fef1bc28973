"""Title, artist, album and ISRC of a sound file: by its content, never by its name.

tinytag reads MP3, MP4, Ogg, FLAC, WAV, AIFF and WMA. An APEv2 tag at the end, then FFmpeg, give missing tags: Matroska,
CAF, MP2 and others. Tags are untrusted input. Reading them takes at most about `MAX_SECONDS` and `MAX_BYTES`. Damaged
tags are left out; the track is still scored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import av
import av.logging

from sonicscan.audio.ffmpeg import CONTAINERS
from sonicscan.audio.sources import open_regular
from sonicscan.audio.views import View, behind_id3, id3_tags, read_at
from sonicscan.errors import AudioError
from sonicscan.library.ranges import OpenFile

MAX_SECONDS = 1.0
MAX_BYTES = 4 << 20
_MAX_TAG = 2000  # characters of one tag
_MAX_TEXTS = 500
_PROBED_BYTES = 1 << 16  # FFmpeg looks for other codecs in all of them, if a WAV claims to hold PCM: 15 ms for 1 MB
# FFmpeg's names of the four tags, lower case, in the order in which they are looked for.
_NAMES = {
    "title": ("title", "tit2", "inam"),
    "artist": ("artist", "author", "album_artist", "tpe1", "iart"),
    "album": ("album", "wm/albumtitle", "talb", "iprd"),
    "isrc": ("isrc", "tsrc", "wm/isrc"),
}


@dataclass(frozen=True)
class Tags:
    """The tags of a file; None for a missing tag. Each has at most 2,000 characters.

    Attributes:
        texts: all tags with a text, as (name in lower case, text); at most 500. They do not count for equality.
        cut: whether a limit ended the reading while title, artist or album was missing; does not count either.
    """

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    isrc: str | None = None
    texts: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    cut: bool = field(default=False, compare=False)

    def completed_by(self, other: Tags) -> Tags:
        """These tags, with missing ones taken from `other`."""
        return Tags(
            self.title or other.title,
            self.artist or other.artist,
            self.album or other.album,
            self.isrc or other.isrc,
            (self.texts + other.texts)[:_MAX_TEXTS],
        )


class _OutOfTimeError(BaseException):
    """Not an `Exception`, so that no parser catches it as a damaged tag."""


def read_tags(path: bytes | OpenFile) -> Tags:
    """Read the tags of a sound file, within `MAX_SECONDS` and `MAX_BYTES`.

    Args:
        path: the file's name, as bytes, or an open remote file.

    Returns:
        the tags found within the bounds; no tags if the file cannot be opened or its tags are damaged.
    """
    tags = Tags()
    with contextlib.suppress(AudioError, OSError), open_regular(path) as file:
        bounded = _BoundedFile(file)
        try:
            with _alarm(MAX_SECONDS):
                tags = _by_tinytag(bounded)
        except _OutOfTimeError:
            bounded.cut = True
        for other in (_of_ape, _by_ffmpeg):
            if tags.title is None or tags.artist is None or tags.album is None:
                tags = tags.completed_by(other(bounded))
        late = bounded.cut and None in (tags.title, tags.artist, tags.album)
        tags = dataclasses.replace(tags, cut=late)
    return tags


class _BoundedFile(io.RawIOBase):
    """A file that reports its end after `MAX_BYTES` were read in total, or after `MAX_SECONDS`."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        self._left = MAX_BYTES
        self.cut = False
        self._deadline = time.monotonic() + MAX_SECONDS

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    # io hands over a memoryview, though the stubs allow any buffer.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if time.monotonic() > self._deadline or not self._left:
            self.cut = True
            return 0  # FFmpeg cannot be stopped by an exception here
        n = self._file.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= n
        return n


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `_OutOfTimeError` in the block after `seconds`; only in the main thread, and not on Windows.

    Some parsers loop over data in memory, in time that grows with the square of its size.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise _OutOfTimeError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _by_tinytag(file: _BoundedFile) -> Tags:
    """The tags of a file, and of each further ID3v2 tag behind the first one, which tinytag does not look for."""
    tags = _of_tinytag(View(file))
    for start in id3_tags(file)[1:-1]:
        tags = tags.completed_by(_of_tinytag(View(file, start)))
    return tags


def _of_tinytag(file: View) -> Tags:
    from tinytag import TinyTag

    try:
        tag = TinyTag.get(file_obj=io.BufferedReader(file), duration=False)
    except Exception:  # noqa: BLE001 - whatever a parser raises on a damaged tag costs the tag, not the track
        return Tags()
    isrc = next(iter(tag.other.get("isrc", [])), None)
    texts = tuple(_texts(tag.as_dict()))
    return Tags(_clean(tag.title), _clean(tag.artist), _clean(tag.album), _clean(isrc), texts)


def _texts(tags: Mapping[str, object]) -> list[tuple[str, str]]:
    """All texts among tags; tinytag puts `_` before a free tag whose name is that of a common one."""
    found: list[tuple[str, str]] = []
    for name, values in tags.items():
        for value in values if isinstance(values, list | tuple) else (values,):
            text = _clean(value)
            if text is not None and len(found) < _MAX_TEXTS:
                found.append((name.lower().lstrip("_")[:100], text))
    return found


def _of_ape(file: io.RawIOBase) -> Tags:
    """The APEv2 tag at the end of `file`, before an ID3v1 tag, if there is one.

    Source: https://wiki.hydrogenaud.io/index.php?title=APEv2_specification
    """
    size = file.seek(0, os.SEEK_END)
    tail = read_at(file, max(0, size - 160), 160)
    at = tail.rfind(b"APETAGEX")
    if at < 0 or len(tail) < at + 32:
        return Tags()
    length, count = struct.unpack_from("<II", tail, at + 12)
    begin = size - len(tail) + at + 32 - length
    if not 32 <= length <= MAX_BYTES // 4 or begin < 0:
        return Tags()
    body, found = read_at(file, begin, length - 32), dict[str, str]()
    place = 0
    for _ in range(min(count, 1000)):
        end = body.find(b"\0", place + 8, place + 8 + 256)
        if end < 0:
            break
        n = int.from_bytes(body[place : place + 4], "little")
        found[body[place + 8 : end].decode("ascii", "replace")] = body[end + 1 : end + 1 + n].decode("utf-8", "replace")
        place = end + 1 + n
    return _named(found)


def _by_ffmpeg(file: _BoundedFile) -> Tags:
    av.logging.set_level(None)
    try:
        with av.open(
            View(file, behind_id3(file)),
            mode="r",
            options={"format_whitelist": CONTAINERS, "protocol_whitelist": "", "probesize": str(_PROBED_BYTES)},
            metadata_errors="replace",
            timeout=MAX_SECONDS,
        ) as container:
            found = dict(container.metadata)
            for stream in container.streams.audio[:1]:  # Ogg and some others: each stream has tags of its own
                found = {**stream.metadata, **found}
    except Exception:  # noqa: BLE001 - as above
        return Tags()
    return _named(found)


def _named(found: Mapping[str, str]) -> Tags:
    lower = {name.lower(): text for name, text in found.items()}
    four = {
        tag: next((text for name in names if (text := _clean(lower.get(name)))), None) for tag, names in _NAMES.items()
    }
    return Tags(four["title"], four["artist"], four["album"], four["isrc"], tuple(_texts(lower)))


def _clean(text: object) -> str | None:
    """Text that is UTF-8, without NUL, at most `_MAX_TAG` characters; None where nothing is left."""
    if not isinstance(text, str):
        return None
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ").strip()[:_MAX_TAG] or None
