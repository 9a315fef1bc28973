"""Fills fixed-size batches with windows of many files and brings the logits back to them.

`Model.parallel` batches run at the same time, each in its own thread; ONNX Runtime releases the interpreter lock
meanwhile. The next batch is filled in one additional buffer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np

from sonicscan.arrays import Float32
from sonicscan.model.detector import Detector

CPU_BATCH, CUDA_BATCH = 4, 64  # larger ones are no faster on a CPU, and more threads wait at the end
# Architectures, by the beginnings of their names, whose activations on a batch of four exceed the processor's cache.
_CPU_BATCHES = {"swinv2_": 1}

# Called with a window's (ticket, index) and its logits, float32 [classes].
Deliver = Callable[[int, int, Float32], None]


def default_batch(architecture: str, kind: str) -> int:
    """Windows in a batch for a network, on a device of the kind `cpu` or `cuda` (docs/performance.md)."""
    if kind != "cpu":
        return CUDA_BATCH
    return next((size for name, size in _CPU_BATCHES.items() if architecture.startswith(name)), CPU_BATCH)


@dataclass
class _Batch:
    """Images, float32 [batch, 3, n_mels, n_frames], and the windows that they belong to."""

    images: Float32
    owners: list[tuple[int, int]] = field(default_factory=list)


class Batcher:
    """Batches windows for a detector.

    Args:
        detector: what runs the batches.
        deliver: takes each window's logits, in the thread that calls `add`, `collect` and `flush`.
        finished: called from a model thread when a batch is done and ready for `collect`.

    Attributes:
        windows: how many have been scored.
        busy_s: inference time divided by the number of parallel batches. If it is close to the wall-clock time, the
            model is never idle.
    """

    def __init__(self, detector: Detector, deliver: Deliver, finished: Callable[[], None]) -> None:
        self._detector = detector
        self._deliver = deliver
        self._finished = finished
        self._parallel = detector.model.parallel
        audio = detector.model.spec.audio
        shape = (detector.batch_size, 3, audio.n_mels, audio.n_frames)
        self._size = detector.batch_size
        self._free = [_Batch(np.zeros(shape, dtype=np.float32)) for _ in range(self._parallel + 1)]
        self._filling = self._free.pop()
        self._running: dict[Future[tuple[Float32, float]], _Batch] = {}
        self._threads = ThreadPoolExecutor(self._parallel, thread_name_prefix="sonicscan-model")
        self.busy_s = 0.0
        self.windows = 0

    def add(self, ticket: int, index: int, image: Float32) -> None:
        """Add a window; `image` is float32 [n_mels, n_frames], repeated over the three channels."""
        batch = self._filling
        batch.images[len(batch.owners)] = image
        batch.owners.append((ticket, index))
        if len(batch.owners) == self._size:
            self._submit()

    def flush(self) -> None:
        """Runs the last batch and waits for all logits."""
        if self._filling.owners:
            self._submit()
        wait(self._running)
        self.collect()

    def collect(self) -> None:
        """Deliver the logits of the batches that are done."""
        for future in [future for future in self._running if future.done()]:
            batch = self._running.pop(future)
            logits, took_s = future.result()
            self.busy_s += took_s / self._parallel
            self.windows += len(logits)
            for (ticket, index), row in zip(batch.owners, logits, strict=True):
                self._deliver(ticket, index, row)
            batch.owners.clear()
            self._free.append(batch)

    def close(self) -> None:
        """Ends the running batches; the detector cannot run again."""
        self._detector.runs.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _submit(self) -> None:
        """Runs the full batch, and starts another one as soon as a buffer is free."""
        future = self._threads.submit(self._run, self._filling.images, len(self._filling.owners))
        self._running[future] = self._filling
        future.add_done_callback(lambda _: self._finished())
        while not self._free:
            wait(self._running, return_when=FIRST_COMPLETED)
            self.collect()
        self._filling = self._free.pop()

    def _run(self, images: Float32, used: int) -> tuple[Float32, float]:
        began = time.perf_counter()
        return self._detector.logits(images, used), time.perf_counter() - began
