"""The queue of visits for the lanes: further visits of an adaptive plan first, then new tracks. A separate thread lists
tracks a few ahead, so a listing that waits for a disk or a server holds no lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from sonicscan.engine.events import Visit


class VisitQueue:
    """Gives visits to lanes; lanes wait while an unfinished track may need another visit.

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
        self._listed: deque[Visit] = deque()
        self._all_listed = True
        self._failure: BaseException | None = None
        self._again: deque[Visit] = deque()
        self._open = 0
        self._waiting = 0
        self._tickets = 0
        self._changed = threading.Condition()
        self.closing = threading.Event()

    def fill(self, visits: Iterable[Visit]) -> None:
        """Starts the thread that lists the first visit of each track."""
        self._all_listed = False
        threading.Thread(target=self._list, args=(iter(visits),), name="sonicscan-list", daemon=True).start()

    def _list(self, visits: Iterator[Visit]) -> None:
        try:
            for visit in visits:
                with self._changed:
                    self._listed.append(visit)
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: len(self._listed) < self._lanes or self.closing.is_set())
                if self.closing.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in a lane
            self._failure = error
        with self._changed:
            self._all_listed = True
            self._changed.notify_all()

    def take(self) -> Visit | None:
        """Returns the next visit; None where no visit is left, or the queue is closed.

        Raises:
            SonicscanError: the listing has failed.
        """
        with self._changed:
            while not self.closing.is_set():
                if self._again:
                    return self._again.popleft()
                if self._listed:
                    self._open += 1
                    self._changed.notify_all()
                    return self._listed.popleft()
                if self._failure is not None:
                    raise self._failure
                if self._all_listed and not (self._adaptive and self._open):
                    return None
                self._waiting += 1
                if self._waiting == self._lanes:
                    self._idle()
                self._changed.wait()
                self._waiting -= 1
        return None

    def again(self, visit: Visit) -> None:
        """Adds a further visit of an unfinished track, before all other tracks."""
        with self._changed:
            self._again.append(visit)
            self._changed.notify()

    def finish(self) -> None:
        """Counts one track as done: it needs no further visit."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def ticket(self) -> int:
        """Returns a number that is unique among all tries of all visits."""
        with self._changed:
            self._tickets += 1
            return self._tickets

    def close(self) -> None:
        """Ends every lane."""
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
