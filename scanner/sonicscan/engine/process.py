"""One worker process from the lane's side: pipes for messages, and a socket that passes open files."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from sonicscan.audio.sources import open_regular
from sonicscan.engine import wire
from sonicscan.engine.sandbox import kept_environment
from sonicscan.errors import AudioError
from sonicscan.library.held import DESCRIPTORS

CAN_HAND_OVER = hasattr(socket, "send_fds")  # POSIX; elsewhere workers open files by their names
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_TICK_S = 0.1


class WorkerProcess:
    """A started worker process that waits for a job.

    Args:
        remote: whether it fetches files; any other worker gives up network access.
    """

    def __init__(self, remote: bool) -> None:
        ours, theirs = socket.socketpair() if CAN_HAND_OVER else (None, None)
        number = "-" if theirs is None else str(theirs.fileno())
        try:
            self._process = subprocess.Popen(
                # -P: modules are not searched for in the current folder, which may hold strangers' files.
                [sys.executable, "-P", "-m", "sonicscan.engine.worker", number, "remote" if remote else "local"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=kept_environment(remote) | dict.fromkeys(_THREAD_VARIABLES, "1"),
                process_group=0 if os.name == "posix" else None,
                pass_fds=() if theirs is None else (theirs.fileno(),),
            )
        except BaseException:
            if ours is not None:
                ours.close()
            raise
        finally:
            if theirs is not None:
                theirs.close()
        self._socket = ours
        self.kill = self._process.kill
        assert self._process.stdin is not None and self._process.stdout is not None
        self.stdin, self.stdout = self._process.stdin, self._process.stdout
        _widen(self.stdout)

    def send(self, header: dict[str, Any], content: Any = None, files: Sequence[int] = ()) -> None:
        """Sends a job, with the bytes of a file or with open files; closes the open files in this process.

        Raises:
            OSError: the worker has ended.
        """
        try:
            if files:
                assert self._socket is not None
                socket.send_fds(self._socket, [b"\0"], list(files))
        finally:
            for fd in files:
                os.close(fd)
        wire.send(self.stdin, {**header, "files": len(files)}, content)

    def end(self) -> int | None:
        """Waits for the worker's end and returns its exit status."""
        for pipe in (self.stdin, self.stdout, self._socket):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            return self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


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


def _widen(pipe: Any) -> None:
    """Enlarges a pipe to a megabyte where the system allows it, which saves context switches."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
