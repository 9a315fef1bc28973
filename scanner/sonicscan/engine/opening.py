"""Opens a local file within a time limit, for a worker that may not open files itself."""

from __future__ import annotations

import os
import threading

from sonicscan.audio.sources import open_regular
from sonicscan.calls import Call
from sonicscan.errors import AudioError
from sonicscan.library.held import DESCRIPTORS

_TICK_S = 0.1


def opened(path: bytes, seconds: float, closing: threading.Event) -> list[int]:
    """Opens a local file that will be passed to a worker.

    Args:
        path: the file's name.
        seconds: how long opening may take, since opening a file on a dead network share never returns.
        closing: set where the scan is ending.

    Raises:
        AudioError: it cannot be opened, or not in time.
    """

    def run() -> list[int]:
        found: list[int] = []
        try:
            for _ in range(DESCRIPTORS):
                with open_regular(path) as file:
                    found.append(os.dup(file.fileno()))
        except BaseException:
            for fd in found:
                os.close(fd)
            raise
        return found

    opening = Call(run, "sonicscan-open")
    waited = 0.0
    while not opening.wait(_TICK_S):
        waited += _TICK_S
        if waited >= seconds or closing.is_set():
            raise AudioError("timeout", f"opening it took more than {seconds:g} s.")
    return opening.result()
