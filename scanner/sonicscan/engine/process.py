"""One worker process from the scanner's side: pipes for messages, and a socket that passes open files.

This module imports little, so that workers can start before the scanner has imported the rest.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from sonicscan.engine.sandbox import kept_environment

CAN_HAND_OVER = hasattr(socket, "send_fds")  # POSIX; elsewhere workers open files by their names
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


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

    def hand_over(self, files: Sequence[int]) -> None:
        """Passes open files to the worker; closes them in this process.

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


StartWorker = Callable[[bool], WorkerProcess]  # takes whether the worker fetches files


class EarlyWorkers:
    """Workers for local files that start while the scanner still imports its modules and loads the model.

    Call it for a worker: it returns one of these, or starts another. Leaving the context ends those that nobody took.

    Args:
        n: how many.
    """

    def __init__(self, n: int) -> None:
        self._waiting: deque[WorkerProcess] = deque()
        with contextlib.suppress(OSError):  # the lane that lacks one tries again and reports it
            for _ in range(n):
                self._waiting.append(WorkerProcess(remote=False))

    def __call__(self, remote: bool) -> WorkerProcess:
        if not remote:
            with contextlib.suppress(IndexError):
                return self._waiting.popleft()
        return WorkerProcess(remote)

    def __enter__(self) -> EarlyWorkers:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._waiting:
            worker.kill()
        while self._waiting:
            self._waiting.popleft().end()


def _widen(pipe: Any) -> None:
    """Enlarges a pipe to a megabyte where the system allows it, which saves context switches."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
