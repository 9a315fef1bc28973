"""The events that the local engine receives through one queue."""

from __future__ import annotations

from dataclasses import dataclass

from sonicscan.arrays import Float32
from sonicscan.audio.windows import WindowPlan
from sonicscan.engine.outcome import Outcome, Reading
from sonicscan.library.tracks import Track


@dataclass(frozen=True)
class Visit:
    """One reading of a track: all windows of the plan, or the next part of an adaptive plan.

    Attributes:
        track: the file.
        part: positions in the spread order; None for the first visit.
        before: the results of earlier visits.
        plan: a window plan that replaces the job's; None for the job's plan.
        excerpts: (start, end) in seconds of stretches to read instead of windows.
    """

    track: Track
    part: tuple[int, int] | None = None
    before: Reading = Reading()  # noqa: RUF009 - frozen
    plan: WindowPlan | None = None
    excerpts: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Windows:
    """Some windows of a track: images float32 [n, n_mels, n_frames], or samples where the job asks for them."""

    ticket: int
    starts_s: list[float]
    images: Float32


@dataclass(frozen=True)
class Done:
    """All windows of a visit have been sent."""

    ticket: int
    visit: Visit
    outcome: Outcome


@dataclass(frozen=True)
class Abandoned:
    """A worker died: the windows of this ticket are discarded, and the visit is repeated with another ticket."""

    ticket: int


@dataclass(frozen=True)
class Idle:
    """All workers are idle until `finish` or `again` is called."""


@dataclass(frozen=True)
class Failed:
    """A lane has failed; `error` ends the scan."""

    error: BaseException


@dataclass(frozen=True)
class BatchDone:
    """The model has finished a batch."""


Event = Windows | Done | Abandoned | Idle | Failed | BatchDone
