"""Fills fixed-size batches with windows of many files and brings the logits back to them.

Two buffers take turns: while the model works on one, in a thread of its own (ONNX Runtime leaves the
interpreter to others meanwhile), the next batch is put together in the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from sonicscan.detector import Detector

Float32 = npt.NDArray[np.float32]
# Called with a window's (ticket, index) and its logits, float32 [classes].
Deliver = Callable[[int, int, Float32], None]


class Batcher:
    """Batches windows for a detector.

    Args:
        detector: what runs the batches.
        deliver: takes each window's logits, in the thread that calls `add` and `flush`.
        finished: called, from the model's thread, when a batch is done and `collect` would not wait.
    """

    def __init__(self, detector: Detector, deliver: Deliver, finished: Callable[[], None]) -> None:
        self._detector = detector
        self._deliver = deliver
        self._finished = finished
        audio = detector.model.spec.audio
        self._size = detector.batch_size
        self._buffers = [np.zeros((self._size, 3, audio.n_mels, audio.n_frames), dtype=np.float32) for _ in range(2)]
        self._owners: list[tuple[int, int]] = []
        self._running: tuple[Future[Float32], list[tuple[int, int]]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sonicscan-model")
        self.busy_s = 0.0
        self.windows = 0

    def add(self, ticket: int, index: int, image: Float32) -> None:
        """Add a window; `image` is float32 [n_mels, n_frames], repeated over the three channels."""
        self._buffers[0][len(self._owners)] = image
        self._owners.append((ticket, index))
        if len(self._owners) == self._size:
            self._submit()

    def flush(self) -> None:
        """Run what is left and wait for all logits."""
        if self._owners:
            self._submit()
        self.collect()

    def collect(self) -> None:
        """Deliver the logits of the running batch, once it is done."""
        if self._running is not None:
            future, owners = self._running
            self._running = None
            for (ticket, index), logits in zip(owners, future.result(), strict=True):
                self._deliver(ticket, index, logits)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _submit(self) -> None:
        self.collect()
        future = self._thread.submit(self._run, self._buffers[0], len(self._owners))
        self._running = future, self._owners
        future.add_done_callback(lambda _: self._finished())
        self._buffers.reverse()
        self._owners = []

    def _run(self, images: Float32, used: int) -> Float32:
        began = time.perf_counter()
        logits = self._detector.logits(images, used)
        self.busy_s += time.perf_counter() - began
        self.windows += used
        return logits
