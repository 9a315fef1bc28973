"""ONNX Runtime sessions: their devices, how they are opened, and how their errors are distinguished."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from sonicscan.errors import DeviceError, ModelError
from sonicscan.model.cuda import CUDA, captured_stderr
from sonicscan.model.running import LOAD_LIMIT_S, OverTimeError, apart
from sonicscan.text import first_line

CPU = "CPUExecutionProvider"
_OUT_OF_MEMORY = ("failed to allocate memory", "out of memory", "bad_alloc", "bfcarena", "bad allocation")
_OF_CUDA = ("cuda", "cudnn", "cublas")
_QUIET = 4  # ONNX Runtime's severity "fatal"


@dataclass(frozen=True)
class Device:
    """Where the model runs: `cpu`, or `cuda` with the number of the GPU."""

    kind: str = "auto"
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> Device:
        """From the command line's `auto`, `cpu`, `cuda` or `cuda:N`."""
        kind, colon, index = text.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (colon and (kind != "cuda" or not index.isdecimal())):
            raise DeviceError(f"--device takes auto, cpu, cuda or cuda:N, not {text!r}.")
        return cls(kind, int(index or 0))

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind


def open_session(blob: bytes, path: Path, providers: list[object], threads: int) -> ort.InferenceSession:
    ort.set_default_logger_severity(_QUIET)
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads
    # Threads that spin between batches would leave the workers less processor time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    cancel = getattr(options, "set_load_cancellation_flag", lambda _: None)  # older versions load to their end
    try:
        return apart(
            # Its own fallback prints the error, with text of the model, on standard output.
            lambda: ort.InferenceSession(blob, options, providers=providers, enable_fallback=0),
            lambda: cancel(True),
            LOAD_LIMIT_S,
        )
    except OverTimeError as error:
        raise ModelError(f"{path} took more than {LOAD_LIMIT_S:g} s to load; use another model.") from error
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        if is_out_of_memory(error):
            raise DeviceError(f"there is not enough memory to load {path}.") from error
        raise ModelError(f"{path} is not a model that ONNX Runtime can run ({first_line(error)}).") from error


def open_cuda_session(blob: bytes, path: Path, device: Device, threads: int) -> tuple[ort.InferenceSession | None, str]:
    """Returns a session that really runs on the GPU, or None and the message of ONNX Runtime."""
    with captured_stderr() as said:
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        cuda = (CUDA, {"device_id": device.index, "cudnn_conv_algo_search": "EXHAUSTIVE"})
        try:
            session = open_session(blob, path, [cuda, CPU], threads)
        except ModelError as error:
            if any(word in str(error).lower() for word in _OF_CUDA):
                return None, str(error)
            raise
    # Without CUDA, ONNX Runtime prints an error and falls back: only the session's providers show it.
    if session.get_providers()[0] == CUDA:
        return session, ""
    reasons = [line for line in said() if "rror" in line] or ["ONNX Runtime fell back to the CPU without a reason."]
    return None, reasons[0].strip()


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)
