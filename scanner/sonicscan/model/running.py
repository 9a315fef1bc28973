"""Limits the time of ONNX Runtime: loading and running end after a limit, and on the first Ctrl-C."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import onnxruntime as ort

from sonicscan.calls import Call

LOAD_LIMIT_S = 300.0
_GRACE_S = 5.0  # time for ONNX Runtime to stop after its flag is set

T = TypeVar("T")


def batch_limit_s(windows: int) -> float:
    """Seconds that a batch of `windows` may take: a hundred times the time of the slowest bundled backbone."""
    return 60.0 + 20.0 * windows


class OverTimeError(Exception):
    """The model did not end within its limit."""


class Runs:
    """The current runs of one session, which another thread can end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._options: set[ort.RunOptions] = set()
        self._stopped = False

    def stop(self) -> None:
        """Ends all current runs and any later ones."""
        with self._lock:
            self._stopped = True
            for options in self._options:
                options.terminate = True

    @contextlib.contextmanager
    def limited(self, seconds: float) -> Iterator[ort.RunOptions]:
        """Options for one run, which ONNX Runtime ends after `seconds`.

        Raises:
            OverTimeError: the limit was reached.
        """
        options = ort.RunOptions()
        late = threading.Event()

        def end() -> None:
            late.set()
            options.terminate = True

        clock = threading.Timer(seconds, end)
        clock.daemon = True
        with self._lock:
            self._options.add(options)
            options.terminate = self._stopped
        clock.start()
        try:
            yield options
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            if late.is_set():
                raise OverTimeError from error
            raise
        finally:
            clock.cancel()
            with self._lock:
                self._options.discard(options)


def apart(call: Callable[[], T], stop: Callable[[], None], seconds: float) -> T:
    """Runs `call` in a separate thread, so that a signal reaches the waiting thread.

    Args:
        call: native code that does not return to the interpreter.
        stop: makes `call` end early; called after `seconds`, or when the wait is interrupted.
        seconds: the limit.

    Raises:
        OverTimeError: the limit was reached.
    """
    running = Call(call, "sonicscan-apart")
    try:
        in_time = running.wait(seconds)
    except BaseException:
        stop()
        running.wait(_GRACE_S)
        raise
    if not in_time:
        stop()
        running.wait(_GRACE_S)
        raise OverTimeError
    return running.result()
