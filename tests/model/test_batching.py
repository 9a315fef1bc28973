"""Batches of many files' windows, several at once: each window's logits come back to it, once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sonicscan.errors import ModelError
from sonicscan.model.batching import Batcher, default_batch
from sonicscan.model.detector import Detector
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device

WINDOWS = [(ticket, index) for ticket in range(5) for index in range(1 + 3 * ticket)]


def image_of(ticket: int, index: int) -> np.ndarray:
    return np.random.default_rng([ticket, index]).standard_normal((256, 256), dtype=np.float32)


@pytest.mark.parametrize(
    ("architecture", "kind", "size"),
    [
        ("swinv2_small_window16_256", "cpu", 1),
        ("lambda_resnet26rpt_256", "cpu", 4),
        ("tf_efficientnet_lite0 x 3", "cpu", 4),
        ("swinv2_small_window16_256", "cuda", 64),
    ],
)
def test_the_default_batch_depends_on_network_and_device(architecture: str, kind: str, size: int) -> None:
    assert default_batch(architecture, kind) == size


@pytest.mark.parametrize(("parallel", "batch"), [(1, 1), (1, 8), (3, 4), (3, 64)])
def test_logits_come_back_to_their_windows(parallel: int, batch: int, tiny_model: Path) -> None:
    model = load_model(tiny_model, Device("cpu"), threads=parallel, parallel=parallel)
    found: dict[tuple[int, int], np.ndarray] = {}
    threads, done = set(), threading.Semaphore(0)

    def deliver(ticket: int, index: int, logits: np.ndarray) -> None:
        assert (ticket, index) not in found
        found[ticket, index] = logits
        threads.add(threading.get_ident())

    batcher = Batcher(Detector(model, batch), deliver, done.release)
    for ticket, index in WINDOWS:
        batcher.add(ticket, index, image_of(ticket, index))
    batcher.flush()
    batcher.close()
    assert sorted(found) == WINDOWS
    assert threads == {threading.get_ident()}  # never in one of the model's
    assert batcher.windows == len(WINDOWS)
    assert batcher.busy_s > 0
    for _ in range(-(-len(WINDOWS) // batch)):
        assert done.acquire(timeout=10)
    for key in WINDOWS:
        alone = model.session.run(["logits"], {"spectrogram": np.tile(image_of(*key), (1, 3, 1, 1))})[0][0]
        np.testing.assert_allclose(found[key], alone, atol=1e-5)


def test_what_is_done_is_delivered_before_the_rest(tiny_model: Path) -> None:
    model = load_model(tiny_model, Device("cpu"), threads=2, parallel=2)
    found, done = [], threading.Semaphore(0)
    batcher = Batcher(Detector(model, 2), lambda ticket, index, logits: found.append(index), done.release)
    for index in range(3):
        batcher.add(0, index, image_of(0, index))
    assert done.acquire(timeout=10)
    batcher.collect()
    assert found == [0, 1]
    batcher.flush()
    batcher.close()
    assert found == [0, 1, 2]


def test_a_model_that_fails_fails_the_scan(make_model: Callable[..., Path]) -> None:
    model = load_model(make_model(bias=float("nan")), Device("cpu"), threads=2, parallel=2)
    batcher = Batcher(Detector(model, 2), lambda *of_window: None, lambda: None)
    with pytest.raises(ModelError, match="not numbers"):
        for index in range(9):
            batcher.add(0, index, image_of(0, index))
        batcher.flush()
    batcher.close()
