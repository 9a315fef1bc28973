"""The local engine: a pool of decoding processes and one detector turn tracks into results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sonicscan.engine.events import Abandoned, BatchDone, Done, Failed, Idle, Visit, Windows
from sonicscan.engine.pool import WorkerPool
from sonicscan.engine.wire import Job
from sonicscan.library.tracks import Track
from sonicscan.model.batching import Batcher
from sonicscan.model.detector import Detector, Model
from sonicscan.report.row import FileResult
from sonicscan.scoring import aggregate
from sonicscan.scoring.adaptive import Reading, next_part
from sonicscan.scoring.thresholds import Thresholds

Float32 = npt.NDArray[np.float32]
IN_FLIGHT_BYTES = 64 << 20


@dataclass(frozen=True)
class EngineOptions:
    """How the local engine uses the machine.

    Attributes:
        workers: decoding processes.
        batch_size: windows the model takes at a time.
        timeout_s: seconds a file may take to decode, twice.
    """

    workers: int
    batch_size: int
    timeout_s: float = 120.0


@dataclass
class EngineStats:
    """What the engine's time went into."""

    windows: int = 0
    model_s: float = 0.0
    wall_s: float = 0.0

    @property
    def bottleneck(self) -> Literal["model", "decoding"]:
        """Which of the two the other one waited for."""
        return "model" if self.model_s > 0.7 * self.wall_s else "decoding"


@dataclass
class _Pending:
    """A visit on its way: logits by window, and its last word once the worker has said it."""

    starts_s: list[float] = field(default_factory=list)
    logits: dict[int, Float32] = field(default_factory=dict)
    done: Done | None = None

    @property
    def complete(self) -> bool:
        return self.done is not None and len(self.logits) == len(self.starts_s)

    def reading(self, done: Done) -> Reading:
        """What this visit and those before it have brought."""
        before: Reading = done.visit.before or Reading()
        return before.and_then(done.outcome, self.starts_s, [self.logits[i] for i in range(len(self.starts_s))])


def score_tracks(
    tracks: Iterable[Track],
    model: Model,
    job: Job,
    options: EngineOptions,
    thresholds: Thresholds | None = None,
    stats: EngineStats | None = None,
) -> Generator[FileResult, None, None]:
    """Score tracks, in whatever order they come to an end.

    Args:
        tracks: consumed as workers become free.
        model: the loaded model; its AudioSpec must be the one in `job`.
        job: what the workers do with each file.
        options: processes, batch size, time limit.
        thresholds: for the verdicts; None gives none. An adaptive plan needs them.
        stats: filled while the engine runs.

    Yields:
        one result for each track.

    Raises:
        ModelError, DeviceError: the model fails while it runs.
    """
    stats = stats if stats is not None else EngineStats()
    audio = job.audio
    budget = max(IN_FLIGHT_BYTES // (4 * audio.n_mels * audio.n_frames), 2 * options.batch_size)
    pending: dict[int, _Pending] = {}

    def deliver(ticket: int, index: int, logits: Float32) -> None:
        if ticket in pending:
            pending[ticket].logits[index] = logits

    began = time.perf_counter()
    with WorkerPool(job, options.workers, options.timeout_s, budget) as pool:
        batcher = Batcher(Detector(model, options.batch_size), deliver, lambda: pool.events.put(BatchDone()))
        with contextlib.closing(batcher):
            pool.start(map(Visit, tracks))
            lanes = options.workers
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
                    if (further := next_visit(track, reading, job, model, thresholds)) is not None:
                        pool.again(further)
                        continue
                    pool.settled()
                    yield track_result(track, reading.outcome, reading.starts_s, reading.logits, model, thresholds)


def next_visit(track: Track, reading: Reading, job: Job, model: Model, thresholds: Thresholds | None) -> Visit | None:
    """The visit that an adaptive plan still needs of a track; None where `reading` is all that is needed."""
    if not job.plan.adaptive or thresholds is None:
        return None
    margins = aggregate.window_margins(np.stack(reading.logits), model.spec.temperature) if reading.logits else ()
    part = next_part(reading, margins, thresholds)
    return None if part is None else Visit(track, part, reading)


def track_result(
    track: Track,
    outcome: dict[str, Any],
    starts_s: Sequence[float],
    logits: Sequence[Float32],
    model: Model,
    thresholds: Thresholds | None,
) -> FileResult:
    """The report row of a track.

    Args:
        track: the file.
        outcome: the worker's last word: status, facts, tags.
        starts_s: window starts, seconds.
        logits: of each window, float32 [classes].
        model: for the scores.
        thresholds: for the verdict.
    """
    scored: dict[str, Any] = {}
    if logits:
        spec = model.spec
        margins = aggregate.window_margins(np.stack(logits), spec.temperature)
        score = aggregate.score_of(aggregate.track_margin(margins))
        verdict = None if thresholds is None else thresholds.verdict(score)
        classes = aggregate.class_scores(np.stack(logits), spec, score)
        # As the report stores them, so that a row judged again from the report comes out the same.
        starts = np.asarray(starts_s, dtype=np.float32).tolist()
        stored = margins.astype(np.float32).tolist()
        scored = aggregate.judgement(score, starts, stored, spec, thresholds) | {
            "score": score,
            "class_scores": classes,
            "attribution": aggregate.attribution_of(classes, spec, verdict),
            "window_starts_s": starts,
            "window_margins": stored,
        }
    facts = ("duration_s", "sample_rate", "channels", "codec", "bandwidth_hz", "content_hash", "elapsed_ms")
    return FileResult(
        path=track.name,
        path_raw=track.path_raw,
        status=outcome["status"],
        error=outcome.get("error"),
        windows=len(logits),
        silent_windows=outcome.get("silent_windows", 0),
        size=track.size,
        mtime_ns=track.mtime_ns,
        warnings=outcome.get("warnings", []),
        **scored,
        **{name: outcome.get(name) for name in facts},
        **outcome.get("tags", {}),
    )
