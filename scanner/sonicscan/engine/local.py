"""The local engine: a pool of decoding processes and one detector turn tracks into rows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from sonicscan.arrays import Float32
from sonicscan.calls import DEFAULT_TIMEOUT_S
from sonicscan.engine.base import EngineStats
from sonicscan.engine.events import Abandoned, BatchDone, Done, Failed, Idle, Visit, Windows
from sonicscan.engine.outcome import Reading
from sonicscan.engine.pool import WorkerPool
from sonicscan.engine.process import StartWorker, WorkerProcess
from sonicscan.engine.rows import next_visit, track_result
from sonicscan.engine.wire import Job
from sonicscan.library.tracks import Track
from sonicscan.machine import usable_cpus
from sonicscan.model.batching import Batcher, default_batch
from sonicscan.model.detector import Detector
from sonicscan.model.loading import Model
from sonicscan.report.row import FileResult
from sonicscan.scoring.likelihood import spec_for_windows
from sonicscan.scoring.thresholds import Thresholds

IN_FLIGHT_BYTES = 64 << 20


@dataclass
class _Pending:
    """An unfinished visit: logits by window, and the worker's last message once it arrived."""

    starts_s: list[float] = field(default_factory=list)
    logits: dict[int, Float32] = field(default_factory=dict)
    done: Done | None = None

    @property
    def complete(self) -> bool:
        return self.done is not None and len(self.logits) == len(self.starts_s)

    def reading(self, done: Done) -> Reading:
        """The results of this visit and of earlier ones."""
        logits = [self.logits[i] for i in range(len(self.starts_s))]
        return done.visit.before.and_then(done.outcome, self.starts_s, logits)


class LocalEngine:
    """Scores tracks on this machine.

    Args:
        model: the loaded model.
        workers: decoding processes; 0 starts one for each CPU, even if the model runs on the CPU.
        batch_size: windows in a batch; 0 chooses a value for the network and the device.
        timeout_s: seconds a file may take to decode in each of two attempts.
        start_worker: starts a decoding process.
    """

    def __init__(
        self,
        model: Model,
        workers: int = 0,
        batch_size: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        start_worker: StartWorker = WorkerProcess,
    ) -> None:
        self.model = model
        self.stats = EngineStats()
        self._workers = workers or usable_cpus()
        self._batch_size = batch_size or default_batch(model.spec.architecture, model.device.kind)
        self._timeout_s = timeout_s
        self._start_worker = start_worker

    @property
    def device(self) -> str:
        return str(self.model.device)

    @property
    def summary(self) -> str:
        why = f" ({self.model.note.rstrip('.')})" if self.model.note else ""
        return (
            f"{self.model.path.name} ({self.model.spec.architecture}) on {self.model.device}{why}, "
            f"batch {self._batch_size}, {self._workers} decoding {'process' if self._workers == 1 else 'processes'}"
        )

    def score(
        self, tracks: Iterable[Track], job: Job, thresholds: Thresholds | None = None
    ) -> Generator[FileResult, None, None]:
        spec = spec_for_windows(self.model.spec, str(job.plan))
        stats = self.stats
        stats.reset()
        budget = max(IN_FLIGHT_BYTES // (4 * job.audio.n_mels * job.audio.n_frames), 2 * self._batch_size)
        pending: dict[int, _Pending] = {}

        def deliver(ticket: int, index: int, logits: Float32) -> None:
            if ticket in pending:
                pending[ticket].logits[index] = logits

        began = time.perf_counter()
        with WorkerPool(job, self._workers, self._timeout_s, budget, self._start_worker) as pool:
            detector = Detector(self.model, self._batch_size)
            with contextlib.closing(Batcher(detector, deliver, lambda: pool.events.put(BatchDone()))) as batcher:
                pool.start(map(Visit, tracks))
                lanes = self._workers
                while lanes:
                    match pool.events.get():
                        case Windows(ticket, starts_s, images):
                            known = pending.setdefault(ticket, _Pending()).starts_s
                            for start, image in zip(starts_s, images, strict=True):
                                known.append(start)
                                batcher.add(ticket, len(known) - 1, image)
                            pool.took(len(images))
                        case Done(ticket) as done:
                            pending.setdefault(ticket, _Pending()).done = done
                        case Abandoned(ticket):
                            pending.pop(ticket, None)
                        case BatchDone():
                            batcher.collect()
                        case Idle():
                            batcher.flush()
                        case Failed(error):
                            raise error
                        case None:
                            lanes -= 1
                            if not lanes:
                                batcher.flush()
                    stats.model_s, stats.windows = batcher.busy_s, batcher.windows
                    stats.wall_s = time.perf_counter() - began
                    for ticket in [t for t, p in pending.items() if p.complete]:
                        visited = pending.pop(ticket)
                        assert visited.done is not None
                        track, reading = visited.done.visit.track, visited.reading(visited.done)
                        if (further := next_visit(track, reading, job, spec, thresholds)) is not None:
                            pool.again(further)
                            continue
                        pool.finish()
                        yield track_result(track, reading, spec, thresholds)
