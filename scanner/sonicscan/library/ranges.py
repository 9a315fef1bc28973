"""Sound files without a name on this machine: remote files, and files whose bytes are in memory.

Bytes of a remote file are fetched on request, each byte at most once. Where the format allows random access, only the
ranges of the windows are fetched, a fraction of a long track. MP3 decoders read every frame, so the whole file is
fetched, in few requests. Fetched bytes stay in a nameless temporary file until the track is done, so reading them again
causes no traffic. A file in memory needs no temporary file: a process that decodes local files cannot make one.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from typing import Protocol

from sonicscan.errors import AudioError, RemoteError
from sonicscan.library import remote
from sonicscan.library.positioned import PositionedReader
from sonicscan.library.urls import Url, is_url

BLOCK = 64 << 10
_FIRST_RUN = 2  # blocks
_LONGEST_RUN = 64
_WHOLE_RUN = 256
_SMALL = 16 * BLOCK  # below this size, one request for the whole file is cheaper than several for parts


class OpenFile(Protocol):
    """An open sound file, read without its name."""

    def reader(self) -> io.RawIOBase:
        """A new reader, at the start."""
        ...

    def check(self) -> None:
        """Raise the `AudioError` that ended reading before the file's end."""


class MemoryFile(OpenFile):
    """A sound file whose bytes are in memory.

    Args:
        content: the bytes of the file.
    """

    def __init__(self, content: bytes | memoryview) -> None:
        self._content = memoryview(content)
        self.size = len(self._content)

    def reader(self) -> io.RawIOBase:
        """A new reader, at the start."""
        return _Reader(self)

    def read_at(self, position: int, n: int) -> bytes:
        """Up to `n` bytes from `position`; none at the end."""
        return bytes(self._content[position : position + n])

    def check(self) -> None:
        """Does nothing: all bytes are in memory."""


class RemoteFile(OpenFile):
    """The bytes of a remote file.

    Args:
        fetch: the bytes from one position up to another.
        size: of the file, bytes.
        whole: whether the file will be read to its end.

    Attributes:
        fetched: bytes that came over the network.
        requests: how often something was fetched.

    Raises:
        AudioError: there is no room for a temporary file.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, whole: bool = False) -> None:
        self.size = size
        self.fetched = self.requests = 0
        self._fetch = fetch
        self._failure: AudioError | None = None
        try:
            self._store = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `__exit__`
        except OSError as error:
            raise _no_room(error) from error
        self._held = bytearray(-(-size // BLOCK))  # 1 for each block that is there
        self._whole = whole or size <= _SMALL
        # A stretch is fetched in growing runs; the first run of the next stretch is as long as this stretch.
        self._stretch = self._reached = self._next = 0

    def reader(self) -> io.RawIOBase:
        """A new reader, at the start; closing it keeps what was fetched."""
        return FetchingReader(self)

    def fetch_all(self) -> None:
        """Fetch in long runs from now on: all of the file will be read."""
        self._whole = True

    def read_at(self, position: int, n: int) -> bytes:
        """Up to `n` bytes from `position`; none at the end, and none once fetching has failed."""
        n = min(n, self.size - position)
        if n <= 0 or self._failure is not None:
            return b""
        try:
            self._hold(position // BLOCK, -(-(position + n) // BLOCK))
            self._store.seek(position)
            return self._store.read(n)
        except (AudioError, OSError) as error:  # a decoder's callback cannot raise it
            self._failure = error if isinstance(error, AudioError) else _no_room(error)
            return b""

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(self, *exc: object) -> None:
        """Deletes the fetched bytes; if fetching failed, raises that error instead of errors that followed from it."""
        self._store.close()
        self.check()

    def check(self) -> None:
        """Raise the `AudioError` that ended reading before the file's end."""
        if self._failure is not None:
            raise self._failure from None

    def _hold(self, first: int, end: int) -> None:
        while (block := self._held.find(0, first, end)) >= 0:
            if block == self._next:
                run = (block - self._stretch) // 2
            else:
                run = self._reached - self._stretch
                self._stretch = block
            run = _WHOLE_RUN if self._whole else min(max(run, end - block, _FIRST_RUN), _LONGEST_RUN)
            held = self._held.find(1, block, block + run)
            self._load(block, min(block + run, len(self._held)) if held < 0 else held)
        self._reached = end

    def _load(self, first: int, end: int) -> None:
        start, stop = first * BLOCK, min(end * BLOCK, self.size)
        content = self._fetch(start, stop)
        self.requests += 1
        self.fetched += len(content)
        if len(content) == self.size != stop - start:  # a server that does not support ranges
            first, end, start, stop = 0, len(self._held), 0, self.size
        if len(content) != stop - start:
            raise AudioError("unreadable", "it changed while it was being read.")
        self._store.seek(start)
        self._store.write(content)
        self._held[first:end] = b"\1" * (end - first)
        self._next = end


def _no_room(error: OSError) -> AudioError:
    why = (error.strerror or str(error)).rstrip(".")
    return AudioError("unreadable", f"there is no temporary file for what is fetched of it ({why}); set TMPDIR.")


class _Reader(PositionedReader):
    def __init__(self, file: MemoryFile | RemoteFile) -> None:
        super().__init__(file.size)
        self._file = file

    # io hands over a memoryview, though the stubs allow any buffer.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._file.read_at(self._position, len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


class FetchingReader(_Reader):
    """A reader of a `RemoteFile`."""

    def __init__(self, file: RemoteFile) -> None:
        super().__init__(file)
        self.fetch_all = file.fetch_all


@contextlib.contextmanager
def sound_at(path: bytes, size: int, whole: bool, content: bytes | None = None) -> Iterator[bytes | OpenFile]:
    """Yields the object that the decoder opens: `path` itself, or for a URL an open file.

    Args:
        path: a file's name, or a URL.
        size: bytes, from the listing; -1 where unknown, and the server of a URL is asked.
        whole: all of it will be read.
        content: the file's bytes, if they were sent with the job; None to read or fetch them.

    Raises:
        AudioError: it does not exist or cannot be fetched, now or in the `with` block.
    """
    if not is_url(path):
        yield path
        return
    if content is not None:
        yield MemoryFile(content)
        return
    with _opened(Url(path.decode("utf-8", "surrogateescape")), size, whole) as file:
        yield file


def _opened(url: Url, size: int, whole: bool) -> RemoteFile:
    try:
        files, path = remote.filesystem(url)
        known = size if size >= 0 else _size_of(url)
    except RemoteError as error:
        raise AudioError(error.status, str(error)) from None

    def fetch(start: int, stop: int) -> bytes:
        try:
            with remote.reaching(url, "read"):
                return bytes(files.cat_file(path, start=start, end=stop))
        except RemoteError as error:
            raise AudioError(error.status, str(error)) from None

    return RemoteFile(fetch, known, whole)


def _size_of(url: Url) -> int:
    found = remote.info(url)
    if found.get("type") != "file":
        raise AudioError("unsupported", "not a regular file.")
    if found.get("size") is None:
        raise AudioError("unsupported", "its server does not say how long it is.")
    return int(found["size"])
