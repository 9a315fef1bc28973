"""Windows and excerpts of single files, decoded in the same limited process as a scan decodes in."""

from __future__ import annotations

import queue
from collections.abc import Generator, Iterator, Sequence

from sonicscan.audio.windows import WindowPlan
from sonicscan.engine.events import Abandoned, Done, Failed, Visit, Windows
from sonicscan.engine.outcome import Float32, Outcome
from sonicscan.engine.pool import WorkerPool
from sonicscan.engine.wire import Job
from sonicscan.errors import AudioError
from sonicscan.library.tracks import Track
from sonicscan.spec import AudioSpec

TIMEOUT_S = 120.0
_BUDGET_WINDOWS = 64


class Decoder:
    """A worker process for files that are looked at one by one; use as a context manager.

    Args:
        audio: sample rate and length of the windows.
        timeout_s: seconds that a file may take to decode.
    """

    def __init__(self, audio: AudioSpec, timeout_s: float = TIMEOUT_S) -> None:
        self._feed: queue.SimpleQueue[Visit | None] = queue.SimpleQueue()
        self._pool = WorkerPool(Job(audio, WindowPlan(), samples=True), 1, timeout_s, _BUDGET_WINDOWS)

    def __enter__(self) -> Decoder:
        self._pool.start(iter(self._feed.get, None))
        return self

    def __exit__(self, *exc: object) -> None:
        self._feed.put(None)
        self._pool.__exit__(*exc)

    def windows(self, path: bytes, plan: WindowPlan) -> Generator[tuple[float, Float32], None, Outcome]:
        """The windows of a file, silent ones too.

        Args:
            path: the file, or its URL.
            plan: which windows.

        Yields:
            start in seconds and samples, float32 [window_samples].

        Returns:
            what the worker found out about the file; sound was read.

        Raises:
            AudioError: no sound could be read, or the worker died.
        """
        return self._visit(Visit(_track(path), plan=plan))

    def excerpts(self, path: bytes, ranges: Sequence[tuple[float, float]]) -> Iterator[tuple[float, Float32]]:
        """Stretches of a file's sound.

        Args:
            path: the file, or its URL.
            ranges: start and end in seconds, ascending.

        Yields:
            start in seconds and samples, float32 [n], mono at `EXCERPT_RATE`; fewer where the track ends before.

        Raises:
            AudioError: no sound could be read, or the worker died.
        """
        if ranges:
            yield from self._visit(Visit(_track(path), excerpts=tuple(ranges)))

    def _visit(self, visit: Visit) -> Generator[tuple[float, Float32], None, Outcome]:
        self._feed.put(visit)
        while True:
            match self._pool.events.get():
                case Windows(_, starts_s, samples):
                    self._pool.took(len(samples))
                    yield from zip(starts_s, samples, strict=True)
                case Abandoned():
                    outcome = self._outcome()
                    raise AudioError(outcome.status if outcome.error else "crashed", outcome.error or _DIED)
                case Done(_, _, outcome):
                    if outcome.status not in ("ok", "truncated", "too_short", "silent"):
                        raise AudioError(outcome.status, outcome.error or "no sound could be read.")
                    return outcome
                case Failed(error):
                    raise error

    def _outcome(self) -> Outcome:
        """The outcome of the second try of a file whose worker died."""
        while True:
            match self._pool.events.get():
                case Windows(_, _, samples):
                    self._pool.took(len(samples))
                case Done(_, _, outcome):
                    return outcome
                case Failed(error):
                    raise error


_DIED = "the worker that decoded it died once; try again."


def _track(path: bytes) -> Track:
    return Track(path, -1, 0)
