"""Lists remote folders in threads, while local folders are listed."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
_SERVERS, _AHEAD, _TICK_S = 8, 1000, 0.1


class Beside(Generic[T]):
    """Runs listings of remote folders in separate threads, a few at a time.

    Args:
        listings: each one yields the tracks below one URL.
    """

    def __init__(self, listings: Sequence[Callable[[], Iterator[T]]]) -> None:
        self._left = deque(listings)
        self._found: queue.Queue[T | BaseException | None] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._threads = min(len(listings), _SERVERS)

    def __enter__(self) -> Beside[T]:
        for _ in range(self._threads):
            threading.Thread(target=self._run, name="sonicscan-listing", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()

    def arrived(self) -> Iterator[T]:
        """Yields the tracks that have arrived so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                yield from self._taken(self._found.get_nowait())

    def rest(self) -> Iterator[T]:
        """Yields all remaining tracks, and waits for them."""
        while self._threads:
            yield from self._taken(self._found.get())

    def _taken(self, found: T | BaseException | None) -> Iterator[T]:
        if isinstance(found, BaseException):
            raise found
        if found is None:
            self._threads -= 1
        else:
            yield found

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                try:
                    listing = self._left.popleft()
                except IndexError:
                    break
                for found in listing():
                    self._put(found)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that reads
            self._put(error)
        self._put(None)

    def _put(self, found: T | BaseException | None) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._found.put(found, timeout=_TICK_S)
                return
