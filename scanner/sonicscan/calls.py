"""A call in a thread of its own, because some calls never return: files on a dead share, servers, native code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 120.0  # of `--timeout`: for decoding a file, and for each answer of a server


class Call(Generic[T]):
    """A call that runs in a daemon thread. A caller who no longer waits leaves the thread behind.

    Args:
        call: what to run.
        name: of the thread.
    """

    def __init__(self, call: Callable[[], T], name: str) -> None:
        self._call = call
        self._found: list[T] = []
        self._failed: BaseException | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self._found.append(self._call())
        except BaseException as error:  # noqa: BLE001 - `result` raises it in the thread that waits
            self._failed = error
        self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Waits for the end of the call, at most so long; whether it has ended."""
        return self._ended.wait(seconds)

    def result(self) -> T:
        """What the call returned; only after its end.

        Raises:
            BaseException: what the call raised.
        """
        if self._failed is not None:
            raise self._failed
        return self._found[0]
