"""The visits that lanes take, one at a time: new tracks, and further visits of an adaptive plan first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from sonicscan.engine.events import Visit


class VisitQueue:
    """Hands out visits to lanes, which wait while an open track may still need another visit.

    Args:
        lanes: how many lanes take visits.
        adaptive: whether a finished visit may lead to another one of the same track.
        idle: called when every lane waits.

    Attributes:
        closing: set by `close`.
    """

    def __init__(self, lanes: int, adaptive: bool, idle: Callable[[], None]) -> None:
        self._lanes = lanes
        self._adaptive = adaptive
        self._idle = idle
        self._visits: Iterator[Visit] = iter(())
        self._again: deque[Visit] = deque()
        self._open = 0
        self._waiting = 0
        self._tickets = 0
        self._changed = threading.Condition()
        self.closing = threading.Event()

    def fill(self, visits: Iterable[Visit]) -> None:
        """Set the first visit of each track."""
        self._visits = iter(visits)

    def take(self) -> Visit | None:
        """The next visit; None where there is none left, or the queue is closed."""
        with self._changed:
            while not self.closing.is_set():
                if self._again:
                    return self._again.popleft()
                if (visit := next(self._visits, None)) is not None:
                    self._open += 1
                    return visit
                if not (self._adaptive and self._open):
                    return None
                self._waiting += 1
                if self._waiting == self._lanes:
                    self._idle()
                self._changed.wait()
                self._waiting -= 1
        return None

    def again(self, visit: Visit) -> None:
        """Add a further visit of an open track; it comes before any other track."""
        with self._changed:
            self._again.append(visit)
            self._changed.notify()

    def finish(self) -> None:
        """Count one track as done: it needs no further visit."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def ticket(self) -> int:
        """A number that no other try of a visit has."""
        with self._changed:
            self._tickets += 1
            return self._tickets

    def close(self) -> None:
        """Let every lane come to its end."""
        self.closing.set()
        with self._changed:
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.closing.is_set()

    def wait_closed(self, seconds: float) -> bool:
        """Wait for `close`, at most `seconds`; returns `closed`."""
        return self.closing.wait(seconds)
