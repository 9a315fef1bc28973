"""One worker process, and the thread that gives it a track, reads its answers and starts another when it dies.

When a worker dies or exceeds the time limit, its file is tried once more. If that fails too, the row reports it.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import signal
import threading
import time

import numpy as np

from sonicscan.engine import wire
from sonicscan.engine.base import ATTEMPTS
from sonicscan.engine.events import Abandoned, Done, Event, Failed, Visit, Windows
from sonicscan.engine.limits import Budget, Clock
from sonicscan.engine.opening import opened
from sonicscan.engine.outcome import Outcome
from sonicscan.engine.process import CAN_HAND_OVER, StartWorker, WorkerProcess
from sonicscan.engine.visits import VisitQueue
from sonicscan.engine.wire import Job
from sonicscan.errors import AudioError, SonicscanError
from sonicscan.library import remote
from sonicscan.library.urls import is_url

START_TIMEOUT_S = 120.0
_AFTER_SOUND_S = 2.0  # added to the limit, for tags and provenance, which have limits of their own
_FAILED_STARTS = 10  # in a row, of all lanes


class _WorkerGone(Exception):
    """The worker's pipe has closed, or sent an invalid message."""


class Starts:
    """Counts consecutive workers, over all lanes, that die as they start."""

    def __init__(self, visits: VisitQueue) -> None:
        self._visits = visits
        self._lock = threading.Lock()
        self._failed = 0

    def note(self, well: bool) -> None:
        """Counts a start, and waits a moment after a failed start.

        Raises:
            SonicscanError: too many starts in a row have failed.
        """
        with self._lock:
            self._failed = 0 if well else self._failed + 1
            failed = self._failed
        if failed >= _FAILED_STARTS:
            raise SonicscanError(
                "worker processes die as they start; `python -P -m sonicscan.engine.worker` should wait for input."
            )
        self._visits.wait_closed(0.1 * failed)  # the machine may lack processes or memory for a moment


class Lane:
    """Serves visits from a queue, each by a worker process.

    Args:
        job: the settings for every file.
        timeout_s: seconds a file may take, not counting the time that it waits for the model.
        visits: the queue that supplies the visits.
        budget: limit on the windows that were decoded and not yet scored.
        events: the queue that receives all events.
        starts: the count of failed starts, shared by all lanes.
        start_worker: starts a worker process.
    """

    def __init__(
        self,
        job: Job,
        timeout_s: float,
        visits: VisitQueue,
        budget: Budget,
        events: queue.SimpleQueue[Event | None],
        starts: Starts,
        start_worker: StartWorker,
    ) -> None:
        self._job = job
        self._timeout_s = timeout_s
        self._visits = visits
        self._budget = budget
        self._events = events
        self._starts = starts
        self._start_worker = start_worker
        self._processes: dict[bool, WorkerProcess] = {}  # by whether it fetches files
        self._clock = Clock()
        self._guard = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="sonicscan-lane", daemon=True)

    def kill(self) -> None:
        """End the worker at once."""
        with self._guard:
            for process in self._processes.values():
                process.kill()

    def kill_if_late(self) -> None:
        """End the worker if its file has used up its time."""
        if self._clock.late():
            self.kill()

    def _run(self) -> None:
        try:
            while (visit := self._visits.take()) is not None:
                self._serve(visit)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that reads the events
            self._events.put(Failed(error))
        finally:
            for remote in tuple(self._processes):
                self._end_process(remote)
            self._events.put(None)

    def _serve(self, visit: Visit) -> None:
        """Lets a worker decode a track, and a second worker if the first one dies."""
        ticket = self._visits.ticket()
        address = visit.track.address or visit.track.path
        held = remote.held_here(address)
        needs_network = held is None and is_url(address)
        for attempt in range(1, ATTEMPTS + 1):
            began = time.perf_counter()
            try:
                outcome = self._decode(visit, ticket, address, held, needs_network)
                break
            except AudioError as error:  # it cannot even be opened
                outcome = Outcome(status=error.status, error=str(error))
                break
            except _WorkerGone:
                if self._visits.closed:
                    return
                outcome = self._death(attempt, (time.perf_counter() - began) * 1e3, needs_network)
                self._events.put(Abandoned(ticket))
                ticket = self._visits.ticket()
        self._events.put(Done(ticket, visit, outcome))

    def _decode(self, visit: Visit, ticket: int, address: bytes, held: bytes | None, needs_network: bool) -> Outcome:
        """Sends a job, passes on its windows and returns the worker's last message."""
        worker = self._ready_process(needs_network)
        job = self._job.for_visit(visit.part, visit.plan)
        by_name = needs_network or held is not None or not CAN_HAND_OVER
        files = [] if by_name else opened(address, self._timeout_s, self._visits.closing)
        self._clock.wind(self._timeout_s + _AFTER_SOUND_S)
        try:
            wanted = {
                "path": os.fsdecode(address),
                "size": visit.track.size,
                "in_memory": held is not None,
                "part": visit.part,
                "plan": None if visit.plan is None else dataclasses.asdict(visit.plan),
                "excerpts": visit.excerpts,
                "files": len(files),
            }
            worker.hand_over(files)
            wire.send(worker.stdin, wanted, None if held is None else np.frombuffer(held, dtype=np.uint8))
        except OSError as error:
            raise _WorkerGone from error
        windows = 0
        while True:
            answer = self._answer(worker, job, bool(visit.excerpts))
            if not isinstance(answer, wire.Chunk):
                return self._checked(answer)
            windows += len(answer.starts_s)
            if windows > max(job.plan.at_most, len(visit.excerpts)):
                self.kill()
                raise _WorkerGone
            if not self._budget.acquire(answer.shape[0]):
                raise _WorkerGone
            with self._clock:
                images = wire.receive_images(worker.stdout, answer.shape)
            if images is None:
                self._budget.release(answer.shape[0])
                self.kill()
                raise _WorkerGone
            self._events.put(Windows(ticket, answer.starts_s, images))

    def _answer(self, worker: WorkerProcess, job: Job, excerpts: bool = False) -> wire.Chunk | dict[str, object]:
        """The next message: a chunk of values that follow, or a header without values."""
        with self._clock:
            message = wire.receive_header(worker.stdout)
        try:
            if message is None:
                raise ValueError("the pipe has closed, or holds no message")
            return wire.Chunk.from_message(*message, job, excerpts)
        except ValueError as error:
            self.kill()  # a file may control the worker
            raise _WorkerGone from error

    def _checked(self, header: dict[str, object]) -> Outcome:
        try:
            return Outcome.from_header(header)
        except ValueError as error:
            self.kill()
            raise _WorkerGone from error

    def _ready_process(self, needs_network: bool) -> WorkerProcess:
        """Returns the lane's worker for such files, and starts one if needed. A failed start is not counted against the
        file."""
        while (worker := self._processes.get(needs_network)) is None:
            try:
                self._start(needs_network)
            except (OSError, _WorkerGone) as error:
                self._end_process(needs_network)
                if self._visits.closed:
                    raise _WorkerGone from error
                self._starts.note(well=False)
            else:
                self._starts.note(well=True)
        return worker

    def _start(self, needs_network: bool) -> None:
        worker = self._start_worker(needs_network)
        with self._guard:
            self._processes[needs_network] = worker
        if self._visits.closed:  # `kill` may have run before this process existed
            self.kill()
        self._clock.wind(START_TIMEOUT_S)
        wire.send(worker.stdin, self._job.to_header())
        if self._answer(worker, self._job) != wire.READY:
            self.kill()
            raise _WorkerGone

    def _death(self, attempt: int, elapsed_ms: float, needs_network: bool) -> Outcome:
        """Ends the dead worker and returns the outcome of the file that it was decoding."""
        late = self._clock.expired
        code = self._end_process(needs_network)
        if late:
            error = f"decoding took more than {self._timeout_s:g} s, {attempt} times."
            return Outcome(status="timeout", error=error, elapsed_ms=elapsed_ms)
        cause = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        error = f"the worker that decoded it died ({cause}), {attempt} times."
        return Outcome(status="crashed", error=error, elapsed_ms=elapsed_ms)

    def _end_process(self, needs_network: bool) -> int | None:
        with self._guard:
            worker = self._processes.pop(needs_network, None)
        return None if worker is None else worker.end()
