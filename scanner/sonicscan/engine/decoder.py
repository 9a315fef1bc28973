"""Decodes windows and excerpts of single files, in a worker process with the same limits as in a scan."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Generator, Iterator, Sequence

from sonicscan.arrays import Float32
from sonicscan.audio.windows import WindowPlan
from sonicscan.calls import DEFAULT_TIMEOUT_S
from sonicscan.engine.events import Abandoned, Done, Event, Failed, Visit, Windows
from sonicscan.engine.outcome import Outcome
from sonicscan.engine.pool import WorkerPool
from sonicscan.engine.wire import Job
from sonicscan.errors import FAILED_STATUSES, AudioError, SonicscanError
from sonicscan.library.tracks import Track
from sonicscan.spec import AudioSpec

_BUDGET_WINDOWS = 64


class Decoder:
    """A worker process that decodes single files on request; use as a context manager.

    Args:
        audio: sample rate and length of the windows.
        timeout_s: seconds that a file may take to decode.
    """

    def __init__(self, audio: AudioSpec, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._feed: queue.SimpleQueue[Visit | None] = queue.SimpleQueue()
        self._pool = WorkerPool(Job(audio, WindowPlan(), samples=True, provenance=True), 1, timeout_s, _BUDGET_WINDOWS)

    def __enter__(self) -> Decoder:
        self._pool.start(iter(self._feed.get, None))
        return self

    def __exit__(self, *exc: object) -> None:
        self._feed.put(None)
        self._pool.__exit__(*exc)

    def windows(self, path: bytes, plan: WindowPlan) -> Generator[tuple[float, Float32], None, Outcome]:
        """Yields all windows of a file, silent ones included.

        Args:
            path: the file, or its URL.
            plan: which windows.

        Yields:
            start in seconds and samples, float32 [window_samples].

        Returns: the outcome for the file; its status says that sound was read.

        Raises:
            AudioError: no sound could be read, or the worker died.
        """
        return self._visit(Visit(_track(path), plan=plan))

    def excerpts(self, path: bytes, ranges: Sequence[tuple[float, float]]) -> Iterator[tuple[float, Float32]]:
        """Yields stretches of a file's sound.

        Args:
            path: the file, or its URL.
            ranges: start and end in seconds, ascending.

        Yields:
            start in seconds and samples, float32 [n], mono at `EXCERPT_RATE`; a stretch is shorter where the track ends
            within it.

        Raises:
            AudioError: no sound could be read, or the worker died.
        """
        if ranges:
            yield from self._visit(Visit(_track(path), excerpts=tuple(ranges)))

    def _visit(self, visit: Visit) -> Generator[tuple[float, Float32], None, Outcome]:
        self._feed.put(visit)
        done: Outcome | None = None
        died = False
        try:
            while done is None:
                event = self._pool.events.get()
                done, died = _outcome_of(event), died or isinstance(event, Abandoned)
                if isinstance(event, Windows):
                    self._pool.took(len(event.images))
                    if not died:  # a second try would send the same windows again
                        yield from zip(event.starts_s, event.images, strict=True)
        except GeneratorExit:
            while done is None:  # the caller stopped early: skip messages that the next visit must not read
                event = self._pool.events.get()
                done = _outcome_of(event)
                if isinstance(event, Windows):
                    self._pool.took(len(event.images))
            raise
        if done.status in FAILED_STATUSES and done.status != "truncated":
            raise AudioError(done.status, done.error or "no sound could be read.")
        if died:
            raise AudioError("crashed", "the worker that decoded it died once; try again.")
        return done


def _outcome_of(event: Event | None) -> Outcome | None:
    """The outcome in the event that ends a visit; None for every other event."""
    match event:
        case Done(_, _, outcome):
            return outcome
        case Failed(error):
            raise error
        case None:
            raise SonicscanError("the decoding process has ended.")
    return None


def _track(path: bytes) -> Track:
    return Track(path, -1, 0)


@contextlib.contextmanager
def decoding(audio: AudioSpec, decoder: Decoder | None) -> Iterator[Decoder]:
    """Yields `decoder`, which stays open afterwards; without one, opens a new decoder for the `with` block."""
    if decoder is not None:
        yield decoder
    else:
        with Decoder(audio) as own:
            yield own
