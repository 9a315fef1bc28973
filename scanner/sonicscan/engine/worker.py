"""The child process: takes one file at a time and answers with log-mel images and facts.

It never imports onnxruntime or torch, ignores Ctrl-C (the parent decides), leaves when its pipe
closes or its parent dies, keeps one BLAS thread, and may not use more than a gigabyte beyond what it starts with.
Run as `python -P -m sonicscan.engine.worker`; jobs come on standard input, answers go to standard output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sonicscan.audio.decode import AudioFacts
from sonicscan.audio.images import read_images
from sonicscan.audio.melspec import log_mel
from sonicscan.audio.sources import from_os_error, open_regular
from sonicscan.audio.tags import Tags, read_tags
from sonicscan.engine import wire
from sonicscan.engine.outcome import Outcome
from sonicscan.errors import AudioError, Status
from sonicscan.library.ranges import RemoteFile, sound_at
from sonicscan.library.tracks import Track

CHUNK_WINDOWS = 8
MEMORY_LIMIT = 1 << 30
_MAX_TAG = 2000
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve jobs until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    jobs, answers = _private_pipes()
    first = wire.receive_header(jobs)
    if first is None:
        return
    job = wire.Job.from_header(first[0])
    log_mel(job.audio)  # before the limit of memory is set
    _limit_memory()
    with contextlib.suppress(BrokenPipeError):
        wire.send(answers, wire.READY)
        while (message := wire.receive_header(jobs)) is not None:
            part = message[0].get("part")
            content = jobs.read(message[1]) or None
            track = Track(os.fsencode(message[0]["path"]), message[0]["size"], 0)
            _answer(track, content, job.for_part(part and tuple(part)), answers)


def _die_with_parent() -> None:
    """Have the kernel end this process with its parent (Linux), even where a file keeps it from its pipe."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes to ourselves: what C libraries print to 1 and 2 goes nowhere."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    return jobs, answers


def _limit_memory() -> None:
    """Let a file that decodes to something monstrous fail with MemoryError (Linux)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        return
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _answer(track: Track, content: bytes | None, job: wire.Job, answers: BinaryIO) -> None:
    """Send the images of a file, then its outcome."""
    began = time.perf_counter()
    outbox = _Outbox(answers)
    content_hash: str | None = None
    tags = Tags()
    try:
        with sound_at(track.path, track.size, job.hash or job.plan.reads_all, content) as path:
            if job.hash:
                content_hash = _content_hash(path)
            try:
                facts = _send_windows(path, job, outbox)
            finally:
                if not (job.plan.adaptive and job.plan.part[0]):  # the first visit has told them
                    tags = read_tags(path)
        outcome = Outcome.of_facts(facts, outbox.sent, outbox.silent)
    except AudioError as error:
        outcome = _failed(error.status, str(error))
    except OSError as error:
        failure = from_os_error(error)
        outcome = _failed(failure.status, str(failure))
    except MemoryError:
        outcome = _failed("unreadable", "decoding it takes more than 1 GiB of memory.")
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises on a hostile file is that file's row
        outcome = _failed("unreadable", f"the decoder failed ({type(error).__name__}: {error}).")
    outcome = dataclasses.replace(
        outcome,
        content_hash=content_hash,
        silent_windows=outbox.silent,
        elapsed_ms=(time.perf_counter() - began - outbox.waited_s) * 1e3,
        **dataclasses.asdict(tags),
    )
    wire.send(answers, outcome.to_header())


def _failed(status: Status, error: str) -> Outcome:
    # What decoders say may quote the file: the report takes only text that is UTF-8.
    return Outcome(status=status, error=error.encode("utf-8", "backslashreplace").decode())


class _Outbox:
    """Collects images and sends them a chunk at a time; counts what it sent and what was silent."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._starts: list[float] = []
        self._images: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        self.sent = 0
        self.silent = 0
        self.waited_s = 0.0

    def put(self, start_s: float, image: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        self._starts.append(start_s)
        self._images.append(image)
        self.sent += 1
        if len(self._images) == CHUNK_WINDOWS:
            self.flush()

    def flush(self) -> None:
        if self._images:
            images = np.stack(self._images)
            began = time.perf_counter()
            wire.send(self._answers, {"starts_s": self._starts, "shape": images.shape}, images)
            self.waited_s += time.perf_counter() - began
            self._starts, self._images = [], []


def _send_windows(path: bytes | RemoteFile, job: wire.Job, outbox: _Outbox) -> AudioFacts:
    windows = read_images(path, job.audio, job.plan)
    while True:
        try:
            window = next(windows)
        except StopIteration as end:
            outbox.flush()
            facts: AudioFacts = end.value
            return facts
        if window.image is None:
            outbox.silent += 1
        else:
            outbox.put(window.start_s, window.image)


def _content_hash(path: bytes | RemoteFile) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
    sys.exit(0)
