"""Worker processes under supervision: each file is known to be in one worker's hands.

Each worker has a lane, a thread that gives it the next track, reads its answers and starts another
when it dies. Answers wait in one queue; a budget of windows bounds it, so that a slow model stops the
lanes from reading, the full pipes stop the workers, and memory stays flat whatever the files are.
A worker that dies or runs over the time limit costs its file one more try, then a row that says so.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from sonicscan.engine import wire
from sonicscan.engine.events import Abandoned, Done, Event, Failed, Idle, Visit, Windows
from sonicscan.engine.limits import Budget, Clock
from sonicscan.engine.wire import Job
from sonicscan.errors import STATUSES, SonicscanError
from sonicscan.library import remote

ATTEMPTS = 2
START_TIMEOUT_S = 120.0
_FAILED_STARTS = 10  # in a row, of all lanes
_TICK_S = 0.1
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class _WorkerGone(Exception):
    """The worker's pipe has closed."""


class WorkerPool:
    """Decodes tracks in `workers` processes.

    Args:
        job: what the jobs have in common.
        workers: how many processes.
        timeout_s: time a file may take, not counting what it waits for the model.
        budget: windows that may be decoded and not yet taken (`took` gives them back).

    Use as a context manager; leaving it ends the processes. With an adaptive plan, say of each track that is
    done whether it is `settled` or has to be read `again`; until then the workers wait for it.
    """

    def __init__(self, job: Job, workers: int, timeout_s: float, budget: int) -> None:
        self._job = job
        self._timeout_s = timeout_s
        self._budget = Budget(budget)
        self._lanes = [_Lane(self) for _ in range(workers)]
        self._visits: Iterator[Visit] = iter(())
        self._again: deque[Visit] = deque()
        self._unsettled = 0
        self._waiting = 0
        self._turn = threading.Condition()
        self._tickets = 0
        self._failed_starts = 0
        self._closing = threading.Event()
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def start(self, visits: Iterable[Visit]) -> None:
        """Begin with `visits`, of a track each; `events` yields what comes, then one None for each worker."""
        self._visits = iter(visits)
        for lane in self._lanes:
            lane.thread.start()
        threading.Thread(target=self._watch, name="sonicscan-watch", daemon=True).start()

    def took(self, windows: int) -> None:
        """Say that `windows` windows have been taken out of `events`."""
        self._budget.release(windows)

    def again(self, visit: Visit) -> None:
        """Have a further part of a track read, before any other track."""
        with self._turn:
            self._again.append(visit)
            self._turn.notify()

    def settled(self) -> None:
        """Say that a track needs no further visit."""
        with self._turn:
            self._unsettled -= 1
            self._turn.notify_all()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._budget.close()
        with self._turn:
            self._turn.notify_all()
        for lane in self._lanes:
            lane.kill()
        for lane in self._lanes:
            if lane.thread.ident is not None:
                lane.thread.join(timeout=5)

    def _watch(self) -> None:
        """Kill workers that are over their time; a stopped process dies of SIGKILL too."""
        while not self._closing.wait(_TICK_S):
            for lane in self._lanes:
                lane.kill_if_late()

    def _next(self) -> Visit | None:
        with self._turn:
            while not self._closing.is_set():
                if self._again:
                    return self._again.popleft()
                if (visit := next(self._visits, None)) is not None:
                    self._unsettled += 1
                    return visit
                if not (self._job.plan.adaptive and self._unsettled):
                    return None
                self._waiting += 1
                if self._waiting == len(self._lanes):
                    self.events.put(Idle())
                self._turn.wait()
                self._waiting -= 1
        return None

    def _ticket(self) -> int:
        with self._turn:
            self._tickets += 1
            return self._tickets

    def _started(self, well: bool) -> None:
        with self._turn:
            self._failed_starts = 0 if well else self._failed_starts + 1
            failed = self._failed_starts
        if failed >= _FAILED_STARTS:
            raise SonicscanError(
                "worker processes die as they start; `python -P -m sonicscan.engine.worker` should wait for input."
            )
        self._closing.wait(0.1 * failed)  # the machine may be out of processes or memory for a moment


class _Lane:
    """One worker process and the thread that talks to it."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._process: subprocess.Popen[bytes] | None = None
        self._clock = Clock()
        self._guard = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="sonicscan-lane", daemon=True)

    def kill(self) -> None:
        with self._guard:
            if self._process is not None:
                self._process.kill()

    def kill_if_late(self) -> None:
        if self._clock.late():
            self.kill()

    def _run(self) -> None:
        events = self._pool.events
        try:
            while (visit := self._pool._next()) is not None:
                self._serve(visit)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that reads the events
            events.put(Failed(error))
        finally:
            self._end_process()
            events.put(None)

    def _serve(self, visit: Visit) -> None:
        """Have a track decoded, if need be by a second worker."""
        events = self._pool.events
        outcome: dict[str, Any] = {}
        ticket = 0
        for attempt in range(1, ATTEMPTS + 1):
            ticket = self._pool._ticket()
            began = time.perf_counter()
            try:
                outcome = self._decode(visit, ticket)
                break
            except _WorkerGone:
                if self._pool._closing.is_set():
                    return
                outcome = self._obituary(attempt) | {"elapsed_ms": (time.perf_counter() - began) * 1e3}
                events.put(Abandoned(ticket))
                ticket = self._pool._ticket()
        events.put(Done(ticket, visit, outcome))

    def _decode(self, visit: Visit, ticket: int) -> dict[str, Any]:
        """Send a job and pass on its windows; returns the worker's last word."""
        pool = self._pool
        pipe = self._ready_process()
        assert pipe.stdin is not None and pipe.stdout is not None
        self._clock.wind(pool._timeout_s)
        try:
            address = visit.track.address or visit.track.path
            held = remote.held_here(address)
            content = None if held is None else np.frombuffer(held, dtype=np.uint8)
            wanted = {"path": os.fsdecode(address), "size": visit.track.size, "part": visit.part}
            wire.send(pipe.stdin, wanted, content)
        except OSError as error:
            raise _WorkerGone from error
        while True:
            header, shape = self._answer(pipe)
            if not shape:
                return header
            if not pool._budget.acquire(shape[0]):
                raise _WorkerGone
            with self._clock:
                images = wire.receive_images(pipe.stdout, shape)
            if images is None:
                pool._budget.release(shape[0])
                raise _WorkerGone
            pool.events.put(Windows(ticket, header["starts_s"], images))

    def _answer(self, process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], tuple[int, ...]]:
        """The next header, and the shape of the images behind it (empty where there are none)."""
        assert process.stdout is not None
        with self._clock:
            answer = wire.receive_header(process.stdout)
        if answer is None:
            self.kill()  # where it has not gone, it talks nonsense
            raise _WorkerGone
        header, payload_bytes = answer
        audio = self._pool._job.audio
        starts = header.get("starts_s", [])
        shape = (len(starts), audio.n_mels, audio.n_frames) if payload_bytes and isinstance(starts, list) else ()
        sensible = shape or header.get("status") in STATUSES or header.get("ready") is True
        if not sensible or payload_bytes != (4 * shape[0] * shape[1] * shape[2] if shape else 0):
            self.kill()  # a file has taken it over
            raise _WorkerGone
        return header, shape

    def _ready_process(self) -> subprocess.Popen[bytes]:
        """The lane's worker, started if there is none; no file is to blame where that fails."""
        while self._process is None:
            try:
                self._start()
            except (OSError, _WorkerGone) as error:
                self._end_process()
                if self._pool._closing.is_set():
                    raise _WorkerGone from error
                self._pool._started(well=False)
            else:
                self._pool._started(well=True)
        return self._process

    def _start(self) -> None:
        process = subprocess.Popen(
            # -P: the current folder, perhaps full of strangers' files, is not searched for modules.
            [sys.executable, "-P", "-m", "sonicscan.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | dict.fromkeys(_THREAD_VARIABLES, "1"),
            process_group=0 if os.name == "posix" else None,
        )
        with self._guard:
            self._process = process
        if self._pool._closing.is_set():  # too late for `kill` to have seen it
            self.kill()
        _widen(process)
        self._clock.wind(START_TIMEOUT_S)
        assert process.stdin is not None
        wire.send(process.stdin, self._pool._job.to_header())
        self._answer(process)

    def _obituary(self, attempt: int) -> dict[str, Any]:
        """Bury the worker; the status and the sentence for the file it had in hand."""
        late, limit = self._clock.expired, self._pool._timeout_s
        code = self._end_process()
        if late:
            return {"status": "timeout", "error": f"decoding took more than {limit:g} s, {attempt} times."}
        cause = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return {"status": "crashed", "error": f"the worker that decoded it died ({cause}), {attempt} times."}

    def _end_process(self) -> int | None:
        with self._guard:
            process, self._process = self._process, None
        if process is None:
            return None
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            return process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _widen(process: subprocess.Popen[bytes]) -> None:
    """A pipe of a megabyte where the system allows it: fewer switches for each image."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)
