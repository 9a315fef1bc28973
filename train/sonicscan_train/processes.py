"""Worker processes that decode and change sound."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")


def mapped(function: Callable[[J], R], jobs: Sequence[J], workers: int, chunk: int = 8) -> Iterator[R]:
    """The results of a function, in the order of the jobs.

    Ctrl-C reaches every process of a terminal. Workers do not receive it: this process alone handles it, and they print
    no tracebacks.

    Args:
        function: picklable if `workers` is over 1.
        jobs: its arguments.
        workers: processes; with one or none it runs in this process.
        chunk: jobs that a worker takes at once.
    """
    if workers <= 1:
        yield from map(function, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        with _sigint_blocked():  # new processes take over the mask
            results = pool.map(function, jobs, chunksize=chunk)
        yield from results


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
