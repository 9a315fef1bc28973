"""Fixtures; no test needs a file from outside."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

# Several test files run at a time, so threads that wait for each other cost more than they gain. It precedes torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from synthesis import calibrated, music, write_model

from sonicscan.cli.demo import write_sound

# The files that take longest, longest first: a long file that starts last would leave the other process idle.
_LONGEST = (
    "test_faults.py", "test_onnx.py", "test_ray.py", "test_commands.py", "test_page.py", "test_strange_files.py",
    "test_precision.py", "test_fit.py", "test_remote.py", "test_scan_command.py", "test_parts.py", "test_evaluate.py",
)  # fmt: skip


def pytest_configure() -> None:
    """Let Ctrl-C end programs. Shells start background jobs with SIGINT ignored, and child processes inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; the order within a file stays."""
    rank = {name: k for k, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uncalibrated model with the contract."""
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def calibrated_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with 400 calibration tracks."""
    return write_model(tmp_path_factory.mktemp("model") / "calibrated.onnx", calibrated())


@pytest.fixture(scope="session")
def small_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six good files in four formats and two folders."""
    root = tmp_path_factory.mktemp("library")
    (root / "a").mkdir()
    (root / "b").mkdir()
    for k, (name, seconds) in enumerate(
        [("a/1.wav", 12.0), ("a/2.flac", 7.5), ("a/3.mp3", 31.0), ("b/4.ogg", 3.0), ("b/5.wav", 5.0), ("b/6.opus", 9.0)]
    ):
        rate = 48000 if name.endswith("opus") else 44100
        write_sound(root / name, music(seconds, rate, channels=1 + k % 2, seed=k), rate)
    return root


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """`write_model` into the test's own folder."""
    return lambda *args, **kwargs: write_model(tmp_path / "model.onnx", *args, **kwargs)
