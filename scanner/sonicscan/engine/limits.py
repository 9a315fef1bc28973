"""Limits for workers: a clock for the current file, and a budget for windows that are decoded and not yet scored."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


class Clock:
    """Measures only the time in which the lane waits for the worker (a context manager)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0.0
        self._since: float | None = None
        self.expired = False

    def wind(self, seconds: float) -> None:
        with self._lock:
            self._left, self._since, self.expired = seconds, None, False

    def __enter__(self) -> None:
        with self._lock:
            self._since = time.monotonic()

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            if self._since is not None:
                self._left -= time.monotonic() - self._since
            self._since = None

    def late(self) -> bool:
        with self._lock:
            if self._since is not None and time.monotonic() - self._since > self._left:
                self.expired = True
                return True
            return False


@dataclass
class Budget:
    """Limits the decoded windows that are not yet scored; a request above the limit waits for the whole budget."""

    size: int
    _used: int = 0
    _closed: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def acquire(self, n: int) -> bool:
        """Waits until `n` windows are free in the budget; returns False where the scan is ending."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._used == 0 or self._used + n <= self.size)
            self._used += n
            return not self._closed

    def release(self, n: int) -> None:
        with self._changed:
            self._used -= n
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
