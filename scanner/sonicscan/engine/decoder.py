"""Windows and excerpts of single files, decoded in the same limited process as a scan decodes in."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Generator, Iterator, Sequence

from sonicscan.audio.windows import WindowPlan
from sonicscan.engine.events import Abandoned, Done, Event, Failed, Visit, Windows
from sonicscan.engine.outcome import Float32, Outcome
from sonicscan.engine.pool import WorkerPool
from sonicscan.engine.wire import Job
from sonicscan.errors import FAILED_STATUSES, AudioError, SonicscanError
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
        self._pool = WorkerPool(Job(audio, WindowPlan(), samples=True, provenance=True), 1, timeout_s, _BUDGET_WINDOWS)

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
        done: Outcome | None = None
        died = False
        try:
            while done is None:
                event = self._pool.events.get()
                done, died = _outcome_of(event), died or isinstance(event, Abandoned)
                if isinstance(event, Windows):
                    self._pool.took(len(event.images))
                    if not died:  # what a second try sends would come twice
                        yield from zip(event.starts_s, event.images, strict=True)
        except GeneratorExit:
            while done is None:  # nobody wants the rest: the next visit must not find it
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
            raise SonicscanError("the decoding process has come to its end.")
    return None


def _track(path: bytes) -> Track:
    return Track(path, -1, 0)


@contextlib.contextmanager
def decoding(audio: AudioSpec, decoder: Decoder | None) -> Iterator[Decoder]:
    """`decoder`, which stays open; or one of its own for the block of the `with`."""
    if decoder is not None:
        yield decoder
    else:
        with Decoder(audio) as own:
            yield own
