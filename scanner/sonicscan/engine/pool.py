"""Supervised worker processes: one lane for each, and one queue for all their messages.

A budget of windows bounds the queue. If the model is slow, the lanes stop reading, the pipes fill up and the workers
wait. So memory use stays constant for any files.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable

from sonicscan.engine.events import Event, Idle, Visit
from sonicscan.engine.lane import Lane, Starts
from sonicscan.engine.limits import Budget
from sonicscan.engine.process import StartWorker, WorkerProcess
from sonicscan.engine.visits import VisitQueue
from sonicscan.engine.wire import Job

_TICK_S = 0.1
_END_S = 1.0  # for all lanes; a lane that waits for a dead disk ends with the process


class WorkerPool:
    """Decodes tracks in `workers` processes.

    Args:
        job: the settings for every file.
        workers: how many processes.
        timeout_s: seconds a file may take, not counting the time that it waits for the model.
        budget: limit on windows that are decoded and not yet taken (`took` returns them to the budget).
        start_worker: starts a worker process.

    Use as a context manager; leaving it ends the processes. With an adaptive plan, call `finish` or `again`
    for each track that is done; until then the workers wait for it.
    """

    def __init__(
        self, job: Job, workers: int, timeout_s: float, budget: int, start_worker: StartWorker = WorkerProcess
    ) -> None:
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._budget = Budget(budget)
        self._visits = VisitQueue(workers, job.plan.adaptive, lambda: self.events.put(Idle()))
        starts = Starts(self._visits)
        shared = (self._visits, self._budget, self.events, starts, start_worker)
        self._lanes = [Lane(job, timeout_s, *shared) for _ in range(workers)]
        self.again = self._visits.again
        self.finish = self._visits.finish

    def start(self, visits: Iterable[Visit]) -> None:
        """Starts the lanes with `visits`, one for each track; `events` yields their events, then one None for each
        worker."""
        self._visits.fill(visits)
        for lane in self._lanes:
            lane.thread.start()
        threading.Thread(target=self._watch, name="sonicscan-watch", daemon=True).start()

    def took(self, windows: int) -> None:
        """Returns `windows` windows, which were taken out of `events`, to the budget."""
        self._budget.release(windows)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self._visits.close()
        self._budget.close()
        for lane in self._lanes:
            lane.kill()
        limit = time.monotonic() + _END_S
        for lane in self._lanes:
            if lane.thread.ident is not None:
                lane.thread.join(max(0.0, limit - time.monotonic()))

    def _watch(self) -> None:
        """Kills workers that exceed their time limit; SIGKILL also ends a stopped process."""
        while not self._visits.wait_closed(_TICK_S):
            for lane in self._lanes:
                lane.kill_if_late()
