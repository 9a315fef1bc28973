"""What every engine offers: it turns tracks into report rows."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from sonicscan.engine.wire import Job
from sonicscan.library.tracks import Track
from sonicscan.model.loading import Model
from sonicscan.report.row import FileResult
from sonicscan.scoring.thresholds import Thresholds

ATTEMPTS = 2  # times that a file is tried when the process that decodes it dies


@dataclass
class EngineStats:
    """How much work the engine did, and how long it took.

    Attributes:
        windows: windows that were scored.
        model_s: seconds in which the model ran.
        wall_s: seconds since the scan began.
    """

    windows: int = 0
    model_s: float = 0.0
    wall_s: float = 0.0

    def reset(self) -> None:
        """Reset all counts."""
        self.windows, self.model_s, self.wall_s = 0, 0.0, 0.0

    @property
    def bottleneck(self) -> Literal["model", "decoding"]:
        """The slower of the two stages, decoding or inference."""
        return "model" if self.model_s > 0.7 * self.wall_s else "decoding"


class Engine(Protocol):
    """Decodes and scores tracks: on this machine, or on a cluster.

    Attributes:
        model: the loaded model, whose contract every row follows.
        stats: of the latest `score`.
    """

    model: Model
    stats: EngineStats

    @property
    def device(self) -> str:
        """The device that runs the model, as named in reports."""
        ...

    @property
    def summary(self) -> str:
        """The model, the device and the number of processes, in one line."""
        ...

    def score(self, tracks: Iterable[Track], job: Job, thresholds: Thresholds | None) -> Generator[FileResult]:
        """Score tracks.

        Args:
            tracks: read one at a time, as workers become free.
            job: the task of the workers for each file.
            thresholds: for the verdicts; None gives no verdicts. An adaptive plan needs thresholds.

        Yields:
            one result for each track, in the order in which they are done.

        Raises:
            ModelError, DeviceError: the model fails while it runs.
        """
        ...
