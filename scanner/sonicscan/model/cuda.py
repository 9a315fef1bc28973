"""Checks whether CUDA can start on this machine, and captures ONNX Runtime's message if it does not."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Callable, Iterator

import onnxruntime as ort

from sonicscan.extras import how_to_install

CUDA = "CUDAExecutionProvider"


def cuda_missing() -> str:
    """Returns the reason why CUDA cannot start, before any session is tried; empty if none is known."""
    if CUDA not in ort.get_available_providers():
        return f"this onnxruntime has no CUDA provider; install onnxruntime-gpu ({how_to_install('cuda')})."
    driver = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(driver)
    except OSError:
        return f"the NVIDIA driver is missing ({driver} cannot be loaded)."
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or not count.value:
        return "the NVIDIA driver finds no GPU."
    return ""


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], list[str]]]:
    """Captures the text that C code writes to descriptor 2: ONNX Runtime reports CUDA failures only there."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)

        def lines() -> list[str]:
            file.seek(0)
            return file.read().decode("utf-8", "replace").splitlines()

        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
