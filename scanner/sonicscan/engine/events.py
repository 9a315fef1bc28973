"""What the engine hears of, through one queue: windows, ends of visits, deaths, and batches that are done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sonicscan.engine.wire import Float32
from sonicscan.library.tracks import Track


@dataclass(frozen=True)
class Visit:
    """One reading of a track: the windows of the plan or, of an adaptive plan, a further part of them.

    Attributes:
        track: the file.
        part: positions in the spread order; None for the first visit.
        before: whatever `WorkerPool.again` was given.
    """

    track: Track
    part: tuple[int, int] | None = None
    before: Any = None


@dataclass(frozen=True)
class Windows:
    """Images of some windows of a track; `images` is float32 [n, n_mels, n_frames]."""

    ticket: int
    starts_s: list[float]
    images: Float32


@dataclass(frozen=True)
class Done:
    """All windows of a visit have been sent; `outcome` holds status, facts and tags."""

    ticket: int
    visit: Visit
    outcome: dict[str, Any]


@dataclass(frozen=True)
class Abandoned:
    """A worker died: forget the windows of this ticket, the visit comes again under another."""

    ticket: int


@dataclass(frozen=True)
class Idle:
    """No worker has anything to do until `settled` or `again` is called."""


@dataclass(frozen=True)
class Failed:
    """A lane cannot go on; `error` ends the scan."""

    error: BaseException


@dataclass(frozen=True)
class BatchDone:
    """The model has finished a batch; put here by whoever runs it, so that one queue tells all."""


Event = Windows | Done | Abandoned | Idle | Failed | BatchDone
