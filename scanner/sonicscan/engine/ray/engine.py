"""The Ray engine: processes of a cluster decode and score, instead of a local pool and detector.

    tracks ─driver─▶ chunk ─Ray Data─▶ Decoding (CPU) ─▶ Detecting (CPU or GPU) ─▶ logits ─driver─▶ rows

Both stages use the parts of the local engine. Decoding owns a `WorkerPool` with one supervised process, so time limits,
crashes and memory limits give the same statuses. Detecting owns a `Detector` and the `Batcher` that fills it. Ray Data
moves the images between them, distributes the work and applies backpressure where the next stage is slow. The driver
handles paths, logits and rows, never sound.

A Ray dataset must be listed before it runs, and fails as a whole when a node dies. So a library is scanned in chunks,
and each chunk is one dataset. The next chunk is listed meanwhile. The chunk size follows the cluster's speed, so that
the start of a dataset takes a small part of its time. When a chunk fails, its finished rows are kept. The other tracks
go into a new chunk on the remaining nodes; if the chunk gave no rows, it is split in halves. So a lost node costs one
retry. A track that crashes every process ends up alone in a chunk, and its row reports the crash.
"""

from __future__ import annotations

import itertools
import json
import os
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sonicscan import errors
from sonicscan.arrays import Float32
from sonicscan.calls import DEFAULT_TIMEOUT_S
from sonicscan.engine.base import ATTEMPTS, EngineStats
from sonicscan.engine.events import Visit
from sonicscan.engine.outcome import Outcome, Reading
from sonicscan.engine.ray.cluster import Cluster, Shares
from sonicscan.engine.ray.stages import Decoding, Detecting
from sonicscan.engine.rows import next_visit, track_result
from sonicscan.engine.wire import Job
from sonicscan.errors import InputError, SonicscanError
from sonicscan.library.tracks import Track
from sonicscan.library.urls import is_url
from sonicscan.model.batching import default_batch
from sonicscan.model.loading import Model
from sonicscan.model.sessions import Device
from sonicscan.report.row import FileResult
from sonicscan.scoring.likelihood import spec_for_windows
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.text import first_line

CHUNK_S = 300.0  # target duration of a chunk
MAX_CHUNK = 100_000  # tracks
_FIRST_CHUNK = 256  # tracks for each decoding process
_MAX_BLOCK = 32  # tracks per call of a decoding process
_BLOCK_BYTES = 16 << 20  # bytes of images per message
_STALL_S = 300.0  # in addition to the time limits of a file


class RayEngine:
    """Scores tracks on a Ray cluster.

    Args:
        model: loaded on the driver's CPU to read its contract; the actors load it again from its bytes.
        address: of the cluster; None takes RAY_ADDRESS, or starts a cluster on this machine only.
        gpus_per_actor: share of a GPU that each actor with the model takes; 0 for the CPU.
        workers, threads, batch_size: 0 chooses a value for the cluster.
        timeout_s: seconds a file may take to decode in each of two attempts.

    Attributes:
        retries: how often a process died and its tracks were given to the remaining ones.

    Raises:
        InputError: Ray is not installed, or there is no cluster at `address`.
    """

    def __init__(
        self,
        model: Model,
        address: str | None = None,
        gpus_per_actor: float = 0.0,
        workers: int = 0,
        threads: int = 0,
        batch_size: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        if gpus_per_actor < 0:
            raise InputError(f"--gpus-per-actor is a share of a GPU or a number of them, not {gpus_per_actor:g}.")
        self.model = model
        self.stats = EngineStats()
        self.retries = 0
        self._actor_device = Device("cuda" if gpus_per_actor else "cpu")
        self._timeout_s = timeout_s
        self._batch_size = batch_size or default_batch(model.spec.architecture, self._actor_device.kind)
        self._cluster = Cluster(address, gpus_per_actor, workers, threads)
        self._model_ref = self._cluster.put(model.path.read_bytes())

    @property
    def device(self) -> str:
        return self._actor_device.kind

    @property
    def summary(self) -> str:
        """Model and shares of the cluster, in one line."""
        s = self._cluster.shares()
        return (
            f"{self.model.path.name} ({self.model.spec.architecture}) on a Ray cluster, nodes: {s.nodes}, "
            f"actors with the model: {s.detectors} on {self.device}, batch {self._batch_size}, "
            f"decoding processes: {s.decoders}"
        )

    def score(
        self, tracks: Iterable[Track], job: Job, thresholds: Thresholds | None = None
    ) -> Generator[FileResult, None, None]:
        self.stats.reset()
        work = _Work(job, thresholds)
        began = time.perf_counter()
        listed = iter(tracks)
        size = _FIRST_CHUNK * self._cluster.shares().decoders
        lister = ThreadPoolExecutor(1, thread_name_prefix="sonicscan-listing")
        try:
            following = lister.submit(_chunk, listed, size)
            while chunk := [*work.further, *following.result()]:
                following = lister.submit(_chunk, listed, size)
                chunk_began = time.perf_counter()
                work.further.clear()
                for result in self._score_all(chunk, work):
                    self.stats.wall_s = time.perf_counter() - began
                    yield result
                pace = len(chunk) / (time.perf_counter() - chunk_began)
                size = min(max(size, round(pace * CHUNK_S)), MAX_CHUNK)
        finally:
            lister.shutdown(wait=False, cancel_futures=True)

    def _score_all(self, chunk: list[Visit], work: _Work) -> Iterator[FileResult]:
        """Scores a chunk and retries what fails; adds tracks that need another visit to `work.further`."""
        groups = [(chunk, 0)]  # with the number of times that a track has failed alone
        while groups:
            group, failed = groups.pop()
            missing = dict(enumerate(group))
            failure = yield from self._score_once(group, missing, work)
            left = list(missing.values())
            if left:
                self.retries += 1
                self._cluster.wait_for_nodes()
            if 0 < len(left) < len(group):
                groups.append((left, 0))
            elif len(left) > 1:
                half = len(left) // 2
                groups += [(left[half:], 0), (left[:half], 0)]
            elif left and failed + 1 < ATTEMPTS:
                groups.append((left, failed + 1))
            elif left:
                error = f"the Ray processes that scored it died ({failure}), {ATTEMPTS} times."
                reading = Reading(Outcome(status="crashed", error=error))
                yield track_result(left[0].track, reading, self.model.spec, thresholds=None)

    def _score_once(
        self, chunk: list[Visit], missing: dict[int, Visit], work: _Work
    ) -> Generator[FileResult, None, str]:
        """Runs one dataset: yields rows, removes finished tracks from `missing`, and returns the reason why others are
        left."""
        import ray.exceptions
        from ray.data.exceptions import ExecutionTimeoutError

        shares = self._cluster.shares()
        open_tracks: dict[tuple[int, int], _Open] = {}
        try:
            for piece in self._pieces(chunk, work.job, shares):
                if piece["outcome"] is not None and (fatal := json.loads(piece["outcome"]).get("fatal")):
                    raise getattr(errors, fatal[0], SonicscanError)(fatal[1])
                self._count(piece, shares)
                here = open_tracks.setdefault((piece["track"], piece["ticket"]), _Open())
                here.add(piece, len(self.model.spec.classes))
                if here.complete and piece["track"] in missing:
                    visit = missing.pop(piece["track"])
                    for key in [key for key in open_tracks if key[0] == piece["track"]]:
                        del open_tracks[key]
                    track, reading = visit.track, here.reading(visit)
                    another = next_visit(track, reading, work.job, self.model.spec, work.thresholds)
                    if another is not None:
                        work.further.append(another)
                        continue
                    own = spec_for_windows(self.model.spec, str(work.job.plan))
                    yield track_result(track, reading, own, work.thresholds)
        except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
            return first_line(error)
        return "its rows were lost"

    def _pieces(self, chunk: list[Visit], job: Job, s: Shares) -> Iterator[dict[str, Any]]:
        """Yields the rows of the second stage as they arrive."""
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.target_max_block_size = _BLOCK_BYTES
        context.execution_no_progress_timeout_s = 2 * self._timeout_s + _STALL_S
        block = min(max(1, len(chunk) // (8 * s.decoders)), _MAX_BLOCK)
        folder = os.fsencode(Path.cwd())
        table = pa.table(
            {
                "track": pa.array(range(len(chunk)), pa.int64()),
                "path": pa.array([_absolute(visit.track, folder) for visit in chunk], pa.binary()),
                "size": pa.array([visit.track.size for visit in chunk], pa.int64()),
                "part": pa.array([visit.part for visit in chunk], pa.list_(pa.int64())),
            }
        )
        blocks = [table.slice(k, block) for k in range(0, len(chunk), block)]
        # A dead actor is not restarted in place: the remaining nodes may have no room for it.
        common: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": None, "max_restarts": 0}
        model = (self._model_ref, self.model.path.name, self._actor_device, s.threads, self._batch_size)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # no other way to set max_restarts
            dataset: ray.data.Dataset = ray.data.from_arrow(blocks)
            dataset = dataset.map_batches(
                Decoding,
                fn_constructor_args=(job, self._timeout_s),
                compute=ray.data.ActorPoolStrategy(size=min(s.decoders, len(blocks))),
                num_cpus=s.decoder_cpus,
                **common,
            ).map_batches(
                Detecting,
                fn_constructor_args=model,
                compute=ray.data.ActorPoolStrategy(size=min(s.detectors, len(blocks))),
                num_cpus=s.detector_cpus,
                num_gpus=s.detector_gpus,
                **common,
            )
        batches: Any = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for rows in batches:
            yield from rows.to_pylist()

    def _count(self, piece: dict[str, Any], shares: Shares) -> None:
        self.stats.windows += len(piece["starts_s"])
        self.stats.model_s += piece["model_s"] / shares.detectors


@dataclass
class _Work:
    """The state of one `score` call; `further` holds the visits that an adaptive plan still needs."""

    job: Job
    thresholds: Thresholds | None
    further: list[Visit] = field(default_factory=list)


@dataclass
class _Open:
    """A track with the pieces that have arrived so far, in any order."""

    starts_s: dict[int, float] = field(default_factory=dict)
    logits: dict[int, Float32] = field(default_factory=dict)
    outcome: Outcome | None = None
    windows: int = 0

    def add(self, piece: dict[str, Any], classes: int) -> None:
        for k, logits in enumerate(np.array(piece["logits"], dtype=np.float32).reshape(-1, classes)):
            self.starts_s[piece["first"] + k] = piece["starts_s"][k]
            self.logits[piece["first"] + k] = logits
        if piece["outcome"] is not None:
            self.outcome, self.windows = Outcome.from_header(json.loads(piece["outcome"])), piece["first"]

    @property
    def complete(self) -> bool:
        return self.outcome is not None and len(self.logits) == self.windows

    def reading(self, visit: Visit) -> Reading:
        """The results of this visit to the track and of earlier ones."""
        assert self.outcome is not None
        order = range(self.windows)
        return visit.before.and_then(self.outcome, [self.starts_s[k] for k in order], [self.logits[k] for k in order])


def _absolute(track: Track, folder: bytes) -> bytes:
    """The name by which a process on another node opens the track: a URL, or an absolute path on shared storage."""
    address = track.address or track.path
    return address if is_url(address) else os.path.join(folder, address)  # noqa: PTH118 - bytes


def _chunk(tracks: Iterator[Track], size: int) -> list[Visit]:
    return [Visit(track) for track in itertools.islice(tracks, size)]
