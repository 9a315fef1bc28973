"""The two stages of the Ray engine, each run by Ray actors: Decoding, and Detecting with the model.

Decoding sends pieces to Detecting, as tables of schema `PIECES`. A piece holds up to eight windows of a track; the last
piece holds the track's outcome and no windows. An error unrelated to a single file is also sent as an outcome, since
Ray keeps only the text of an exception.
"""

from __future__ import annotations

import json
import queue
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sonicscan.arrays import Float32
from sonicscan.engine.events import Abandoned, Done, Failed, Visit, Windows
from sonicscan.engine.pool import WorkerPool
from sonicscan.engine.wire import Job
from sonicscan.errors import SonicscanError
from sonicscan.files import write_whole
from sonicscan.library.tracks import Track
from sonicscan.model.batching import Batcher
from sonicscan.model.detector import Detector
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device

AHEAD_BYTES = 16 << 20  # limit on the images that wait in a decoding process

_PLACE = [
    ("track", pa.int64()),  # number of the track in its chunk
    ("ticket", pa.int64()),  # one for each try, so that pieces of a failed try are never mixed in
    ("first", pa.int64()),  # number of the piece's first window in its track
    ("starts_s", pa.list_(pa.float64())),
    ("outcome", pa.string()),  # JSON, in the last piece only
]
PIECES: pa.Schema = pa.schema([*_PLACE, ("images", pa.large_binary())])
SCORED: pa.Schema = pa.schema([*_PLACE, ("logits", pa.list_(pa.float32())), ("model_s", pa.float64())])


class Decoding:
    """Decodes tracks in its own supervised process.

    Args:
        job: the task for each file.
        timeout_s: seconds a file may take in each of two attempts.
    """

    def __init__(self, job: Job, timeout_s: float) -> None:
        self._feed: queue.SimpleQueue[Visit] = queue.SimpleQueue()
        self._pool = WorkerPool(job, 1, timeout_s, AHEAD_BYTES // (4 * job.audio.n_mels * job.audio.n_frames))
        self._pool.start(iter(self._feed.get, None))
        self._fatal: dict[str, Any] | None = None

    def __call__(self, visits: pa.Table) -> Iterator[pa.Table]:
        """Yields the pieces of `visits` (track, path, size, part), in their order."""
        if self._fatal is not None:
            yield _piece(-1, 0, 0, outcome=self._fatal)
            return
        rows = visits.to_pylist()
        for row in rows:
            self._feed.put(Visit(Track(row["path"], row["size"], 0), row["part"]))
        for number in (row["track"] for row in rows):
            first = 0
            while True:
                match self._pool.events.get():
                    case Windows(ticket, starts_s, images):
                        self._pool.took(len(images))
                        yield _piece(number, ticket, first, starts_s, images)
                        first += len(images)
                    case Abandoned():
                        first = 0
                    case Done(ticket, _, outcome):
                        yield _piece(number, ticket, first, outcome=outcome.to_header())
                        break
                    case Failed(error):
                        self._fatal = _fatal(error)
                        yield _piece(number, 0, 0, outcome=self._fatal)
                        return


class Detecting:
    """Holds the model and scores pieces.

    Args:
        model: reference to the bytes of the ONNX file.
        name: the file's name.
        device, threads, batch_size: as for the local engine.
    """

    def __init__(self, model: Any, name: str, device: Device, threads: int, batch_size: int) -> None:
        import ray

        self._logits: dict[tuple[int, int], Float32] = {}
        self._fatal: dict[str, Any] | None = None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            write_whole(path, ray.get(model))
            try:
                loaded = load_model(path, device, threads, parallel=max(1, threads))
            except SonicscanError as error:
                self._fatal = _fatal(error)
                return
        self._audio = loaded.spec.audio
        self._batcher = Batcher(Detector(loaded, batch_size), self._deliver, lambda: None)

    def __call__(self, pieces: pa.Table) -> pa.Table:
        """Yields the pieces with logits instead of images."""
        if self._fatal is None:
            try:
                return self._scored(pieces)
            except SonicscanError as error:
                self._fatal = _fatal(error)
        row = dict.fromkeys(SCORED.names) | {
            "track": -1,
            "starts_s": [],
            "outcome": json.dumps(self._fatal),
            "model_s": 0.0,
        }
        return pa.Table.from_pylist([row], SCORED)

    def _scored(self, pieces: pa.Table) -> pa.Table:
        busy_s = self._batcher.busy_s
        images = [scalar.as_buffer() for scalar in pieces.column("images")]
        shape = (-1, self._audio.n_mels, self._audio.n_frames)
        counts = []
        for piece, buffer in enumerate(images):
            windows = np.frombuffer(buffer, dtype=np.float32).reshape(shape)
            counts.append(len(windows))
            for k, image in enumerate(windows):
                self._batcher.add(piece, k, image)
        self._batcher.flush()
        logits: list[Any] = [
            np.concatenate([self._logits[piece, k] for k in range(n)]) if n else [] for piece, n in enumerate(counts)
        ]
        self._logits.clear()
        model_s = [self._batcher.busy_s - busy_s] + [0.0] * (len(counts) - 1)
        scored = [pa.array(logits, SCORED.field("logits").type), pa.array(model_s, pa.float64())]
        place = [pieces.column(name) for name, _ in _PLACE]
        return pa.table([*place, *scored], schema=SCORED)

    def _deliver(self, piece: int, index: int, logits: Float32) -> None:
        self._logits[piece, index] = logits


def _piece(
    track: int,
    ticket: int,
    first: int,
    starts_s: list[float] | None = None,
    images: Float32 | None = None,
    outcome: dict[str, Any] | None = None,
) -> pa.Table:
    row = {
        "track": track,
        "ticket": ticket,
        "first": first,
        "starts_s": starts_s or [],
        "images": b"" if images is None else images.tobytes(),
        "outcome": None if outcome is None else json.dumps(outcome),
    }
    return pa.Table.from_pylist([row], PIECES)


def _fatal(error: BaseException) -> dict[str, Any]:
    """Builds the outcome of an error that ends the scan."""
    return {"fatal": [type(error).__name__, str(error)]}
