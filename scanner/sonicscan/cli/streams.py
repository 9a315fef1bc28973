"""Makes the standard streams safe: each write is complete or an error, and none of the three is closed.

Python's own streams lose data or end the program in four cases:

- With PYTHONUNBUFFERED=1, a write may be partial.
- A non-blocking pipe takes a part of the data.
- A closed stream is None, and the next file that is opened gets its descriptor.
- A failing standard error raises an exception during a scan.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_STDERR_WAIT_S = 5.0  # seconds; messages to a slower reader are lost
_CHUNK = 1 << 16


class StdoutError(OSError):
    """Standard output cannot be written; EPIPE if its reader has closed it."""


class _Whole(io.FileIO):
    """A descriptor that is read and written as if it were blocking."""

    def write(self, data: Any, /) -> int:
        """Write all of `data`.

        Raises:
            OSError: not all of it could be written.
        """
        view = memoryview(data).cast("B")
        total = len(view)
        while view:
            written: int | None = super().write(view)
            if written is None:
                self._wait(select.POLLOUT)
            else:
                view = view[written:]
        return total

    def readinto(self, buffer: Any, /) -> int:
        """Read what is there, at least one byte before the end."""
        while True:
            count: int | None = super().readinto(buffer)
            if count is not None:
                return count
            self._wait(select.POLLIN)

    def readall(self) -> bytes:
        """Read to the end."""
        content, chunk = bytearray(), bytearray(_CHUNK)
        while count := self.readinto(chunk):
            content += chunk[:count]
        return bytes(content)

    def _wait(self, event: int, timeout_ms: float | None = None) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), event)
        return bool(poll.poll(timeout_ms))


class _Stdout(_Whole):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise StdoutError(error.errno, error.strerror) from error


class _Stderr(_Whole):
    def write(self, data: Any, /) -> int:
        with contextlib.suppress(OSError):  # a message that cannot be written must not end a scan
            super().write(data)
        return memoryview(data).nbytes

    def _wait(self, event: int, timeout_ms: float | None = None) -> bool:
        if super()._wait(event, _STDERR_WAIT_S * 1000):
            return True
        raise TimeoutError


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Replace those of `sys.stdin`, `sys.stdout` and `sys.stderr` that are the process' own.

    Writing to a standard output that is closed raises `StdoutError`, and so does reading from a closed standard input
    (`OSError`). What is written to a closed or failing standard error is lost.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    # The wrong direction for the first two, so that using them is an error.
    for fd, flags, own in (
        (0, os.O_WRONLY, sys.__stdin__),
        (1, os.O_RDONLY, sys.__stdout__),
        (2, os.O_WRONLY, sys.__stderr__),
    ):
        if own is None:
            _occupy(fd, flags)
    try:
        if sys.stdin is sys.__stdin__:
            reader = io.BufferedReader(_Whole(0, "rb", closefd=False))
            sys.stdin = io.TextIOWrapper(reader, _encoding(before[0]), "surrogateescape")
        if sys.stdout is sys.__stdout__:
            sys.stdout = _text(_Stdout(1, "wb", closefd=False), before[1])
        if sys.stderr is sys.__stderr__:
            sys.stderr = _text(_Stderr(2, "wb", closefd=False), before[2], line_buffering=True)
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def discard_stdout() -> None:
    """Drop what a failed standard output still holds in its buffer, so that the process ends quietly."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        sys.stdout.flush()


def _occupy(fd: int, flags: int) -> None:
    """Open /dev/null as a standard descriptor that is closed, so that no other file gets its number."""
    try:
        os.fstat(fd)
    except OSError:
        opened = os.open(os.devnull, flags)
        if opened != fd:
            os.dup2(opened, fd)
            os.close(opened)


def _encoding(stream: TextIO | None) -> str:
    return "utf-8" if stream is None else stream.encoding


def _text(raw: _Whole, before: TextIO | None, line_buffering: bool = False) -> io.TextIOWrapper:
    errors = "surrogateescape" if before is not None and before.errors == "surrogateescape" else "backslashreplace"
    if _encoding(before).lower().replace("-", "") != "utf8":
        errors = "backslashreplace"  # a character that the terminal cannot show is escaped
    buffer = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, _encoding(before), errors, line_buffering=line_buffering or raw.isatty())
