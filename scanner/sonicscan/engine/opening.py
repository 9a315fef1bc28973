"""Opens a local file within a time limit, for a worker that may not open files itself."""

from __future__ import annotations

import os
import threading

from sonicscan.audio.sources import open_regular
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
    found: list[int] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            for _ in range(DESCRIPTORS):
                with open_regular(path) as file:
                    found.append(os.dup(file.fileno()))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failed.append(error)
        done.set()

    threading.Thread(target=run, name="sonicscan-open", daemon=True).start()
    waited = 0.0
    while not done.wait(_TICK_S):
        waited += _TICK_S
        if waited >= seconds or closing.is_set():
            raise AudioError("timeout", f"opening it took more than {seconds:g} s.")
    if failed:
        for fd in found:
            os.close(fd)
        raise failed[0]
    return found
