"""The child process: takes one file at a time and answers with log-mel images and facts.

It never imports onnxruntime or torch, ignores Ctrl-C (the parent handles it), and ends when its pipe closes or its
parent dies. It has one BLAS thread, and may use one gigabyte more memory than at its start. Run as `python -P -m
sonicscan.engine.worker SOCKET local|remote`. It reads jobs from standard input, receives open local files through the
socket with that number, and writes answers to standard output. `sandbox` lists the rights that it gives up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import socket
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import soxr

from sonicscan.audio.decode import Window, read_windows
from sonicscan.audio.facts import AudioFacts
from sonicscan.audio.images import WindowImage, read_images
from sonicscan.audio.melspec import log_mel
from sonicscan.audio.sources import from_os_error, open_regular, open_source
from sonicscan.audio.tags import Tags, read_tags
from sonicscan.audio.windows import WindowPlan
from sonicscan.engine import wire
from sonicscan.engine.outcome import Outcome
from sonicscan.engine.sandbox import give_up
from sonicscan.errors import AudioError, Status
from sonicscan.library.held import HeldFile
from sonicscan.library.ranges import OpenFile, sound_at
from sonicscan.library.tracks import Track
from sonicscan.provenance.reading import read_provenance
from sonicscan.provenance.record import Provenance

MEMORY_LIMIT = 1 << 30
_MAX_ERROR = 1000
TAGS_CUT = "tags_cut"  # the warning of a file whose tags could not be read within their limits
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
    handed = None if sys.argv[1] == "-" else socket.socket(fileno=int(sys.argv[1]))
    log_mel(job.audio)  # before the limit of memory is set
    _limit_memory()
    give_up(remote=sys.argv[2] == "remote")
    with contextlib.suppress(BrokenPipeError):
        wire.send(answers, wire.READY)
        while (message := wire.receive_header(jobs)) is not None:
            header = message[0]
            content = jobs.read(message[1]) if header["in_memory"] else None
            track = Track(os.fsencode(header["path"]), header["size"], 0)
            plan = None if header["plan"] is None else msgspec.convert(header["plan"], WindowPlan)
            here = job.for_visit(header["part"] and tuple(header["part"]), plan)
            with contextlib.ExitStack() as stack:
                held = None
                if header["files"] and handed is not None:
                    held = HeldFile(socket.recv_fds(handed, 1, header["files"])[1])
                    stack.callback(held.close)
                if header["excerpts"]:
                    _answer_excerpts(track, content, held, header["excerpts"], answers)
                else:
                    _answer(track, content, held, here, answers)


def _die_with_parent() -> None:
    """Lets the kernel end this process with its parent (Linux), even while it decodes and does not read its pipe."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Reserves the pipes: text that C libraries print to descriptors 1 and 2 is discarded."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    return jobs, answers


def _limit_memory() -> None:
    """Limits the memory, so that a file that decodes to too much data fails with MemoryError (Linux)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        return
    wanted = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_LIMIT
    there = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    limit = min([wanted, *there])  # a limit of `ulimit -v` may be lowered, and not raised
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _answer(
    track: Track,
    content: bytes | None,
    held: HeldFile | None,
    job: wire.Job,
    answers: BinaryIO,
) -> None:
    """Send the images or samples of a file, then its outcome.

    Args:
        track: the file.
        content: its bytes, if they were sent with the job.
        held: the open file, if it was sent with the job.
        job: what is wanted.
        answers: the pipe.
    """
    began = time.perf_counter()
    outbox = _Outbox(answers)
    content_hash: str | None = None
    tags = Tags()
    provenance: Provenance | None = None
    try:
        with contextlib.ExitStack() as stack:
            path: bytes | OpenFile = held or stack.enter_context(
                sound_at(track.path, track.size, job.hash or job.plan.reads_all, content)
            )
            if job.hash:
                content_hash = _content_hash(path)
            try:
                facts = _send_windows(path, job, outbox)
            finally:
                if not (job.plan.adaptive and job.plan.part[0]):  # the first visit has sent them
                    tags = read_tags(path)
                    if job.provenance:
                        provenance = read_provenance(path, tags.texts, job.trust)
        outcome = Outcome.of_facts(facts, outbox.sent, outbox.silent)
    except Exception as error:  # noqa: BLE001 - any exception of a decoder becomes the file's row
        outcome = _failure(error)
    outcome = dataclasses.replace(
        outcome,
        content_hash=content_hash,
        silent_windows=outbox.silent,
        elapsed_ms=(time.perf_counter() - began - outbox.waited_s) * 1e3,
        warnings=(*outcome.warnings, TAGS_CUT) if tags.cut else outcome.warnings,
        title=tags.title,
        artist=tags.artist,
        album=tags.album,
        isrc=tags.isrc,
        provenance=provenance,
    )
    wire.send(answers, outcome.to_header())


def _failure(error: Exception) -> Outcome:
    """The outcome of a file that `error` ended."""
    status: Status = "unreadable"
    if isinstance(error, OSError):
        error = from_os_error(error)
    if isinstance(error, AudioError):
        status, said = error.status, str(error)
    elif isinstance(error, MemoryError):
        said = "decoding it takes more than 1 GiB of memory."
    else:
        said = f"the decoder failed ({type(error).__name__}: {error})."
    # Messages of decoders may quote the file; the report takes only text that is UTF-8.
    return Outcome(status=status, error=said.encode("utf-8", "backslashreplace").decode()[:_MAX_ERROR])


class _Outbox:
    """Collects images and sends them in chunks; counts the sent and the silent windows."""

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
        if len(self._images) == wire.CHUNK_WINDOWS:
            self.flush()

    def flush(self) -> None:
        if self._images:
            images = np.stack(self._images)
            began = time.perf_counter()
            wire.send(self._answers, {"starts_s": self._starts, "shape": images.shape}, images)
            self.waited_s += time.perf_counter() - began
            self._starts, self._images = [], []


def _send_windows(path: bytes | OpenFile, job: wire.Job, outbox: _Outbox) -> AudioFacts:
    windows: Generator[Window | WindowImage, None, AudioFacts] = (
        read_windows(path, job.audio, job.plan) if job.samples else read_images(path, job.audio, job.plan)
    )
    while True:
        try:
            window = next(windows)
        except StopIteration as end:
            outbox.flush()
            facts: AudioFacts = end.value
            return facts
        if isinstance(window, Window):
            # Only this process has the separate channels, so it decides about silence: a silent window is sent as
            # zeros.
            outbox.put(window.start_s, np.zeros_like(window.samples) if window.silent else window.samples)
        elif window.image is None:
            outbox.silent += 1
        else:
            outbox.put(window.start_s, window.image)


def _answer_excerpts(
    track: Track,
    content: bytes | None,
    held: HeldFile | None,
    excerpts: Sequence[tuple[float, float]],
    answers: BinaryIO,
) -> None:
    """Send stretches of a file's sound, mono at `EXCERPT_RATE`, one message each, then an outcome."""
    outbox = _Outbox(answers)
    outcome = Outcome(status="ok")
    try:
        with contextlib.ExitStack() as stack:
            path: bytes | OpenFile = held or stack.enter_context(sound_at(track.path, track.size, False, content))
            source = stack.enter_context(contextlib.closing(open_source(path)))
            for start, end in excerpts:
                source.seek(round(start * source.sample_rate))
                samples = np.nan_to_num(source.read(round((end - start) * source.sample_rate)))
                if not len(samples):
                    break
                outbox.put(start, soxr.resample(np.clip(samples, -1.0, 1.0), source.sample_rate, wire.EXCERPT_RATE))
                outbox.flush()
    except Exception as error:  # noqa: BLE001 - as in `_answer`
        outcome = _failure(error)
    wire.send(answers, outcome.to_header())


def _content_hash(path: bytes | OpenFile) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
    sys.exit(0)
