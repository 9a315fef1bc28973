"""The ONNX Runtime session: loads a model with its contract and turns images into logits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from sonicscan.errors import DeviceError, ModelError
from sonicscan.model.bundled import check_bundled
from sonicscan.model.cuda import CUDA, captured_stderr, cuda_missing
from sonicscan.model.protobuf import MalformedError, keeps_values_elsewhere
from sonicscan.model.running import LOAD_LIMIT_S, OverTimeError, Runs, apart, batch_limit_s
from sonicscan.model.trust import ANY, Trust
from sonicscan.spec import INPUT_NAME, MAP_SIZE, METADATA_KEY, OUTPUT_NAMES, ModelSpec

Float32 = npt.NDArray[np.float32]

MAX_MODEL_BYTES = 2 << 30  # what a single ONNX file can hold
_CPU = "CPUExecutionProvider"
_OUT_OF_MEMORY = ("failed to allocate memory", "out of memory", "bad_alloc", "bfcarena", "bad allocation")
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


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        path: the file.
        digest: SHA-256 of its bytes, hex.
        spec: its contract.
        session: input `spectrogram`, outputs `logits` and `class_maps`.
        device: where the session really runs.
        parallel: batches to run at once.
        note: why it is not the GPU, where `auto` was asked for; empty otherwise.
    """

    path: Path
    digest: str
    spec: ModelSpec
    session: ort.InferenceSession
    device: Device
    parallel: int = 1
    note: str = ""

    def outputs(self, names: Sequence[str], images: Float32) -> list[Any]:
        """Returns the model's outputs for a batch; a signal ends the run.

        Args:
            names: of the outputs.
            images: float32 [batch, 3, n_mels, n_frames].

        Raises:
            ModelError: it fails, or exceeds the time limit of a batch.
        """
        limit_s = batch_limit_s(len(images))
        runs = Runs()

        def run() -> list[Any]:
            with runs.limited(limit_s) as options:
                found: list[Any] = self.session.run(list(names), {INPUT_NAME: images}, options)
            return found

        try:
            return apart(run, runs.stop, limit_s + 1.0)
        except OverTimeError as error:
            raise self.over_time(len(images)) from error
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            raise ModelError(f"{self.path} fails while it runs ({_first_line(error)}).") from error

    def over_time(self, windows: int) -> ModelError:
        """The error of a batch that was ended."""
        return ModelError(
            f"{self.path} took more than {batch_limit_s(windows):g} s for {windows} windows and was ended; "
            "use another model or a smaller batch."
        )


def load_model(
    path: Path, device: Device | None = None, threads: int = 0, parallel: int = 1, trust: Trust = ANY
) -> Model:
    """Load a model and check it against the contract.

    Args:
        path: an ONNX file written by sonicscan-export.
        device: where to run it; `auto` takes CUDA if it starts.
        threads: CPU threads; 0 leaves it to ONNX Runtime.
        parallel: batches among which they are divided on the CPU. One thread for each batch scans faster than all
            threads on one batch. Threads that share a batch wait for each other after every layer, and longest when a
            decoder uses one of the CPUs.
        trust: the digest or key that the file is checked against before it is opened.

    Raises:
        ModelError: not there, damaged, not the file that is trusted, or without the contract.
        SignatureError: it is not signed by the key that is trusted.
        DeviceError: CUDA was asked for and does not start; the message says what is missing.
    """
    device = device or Device()
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ModelError(f"{path} has {size} bytes; no ONNX file has more than {MAX_MODEL_BYTES}.")
        blob = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the model {path} cannot be read: {error.strerror}.") from error
    digest = hashlib.sha256(blob).hexdigest()
    check_bundled(path, digest)
    trust.check(path, blob, digest)
    try:
        if keeps_values_elsewhere(blob):
            raise ModelError(
                f"{path} keeps weights in another file, which is never opened; export it as a single file."
            )
    except MalformedError as error:
        raise ModelError(f"{path} is not an ONNX model, or is cut short ({error}).") from error
    missing = cuda_missing() if device.kind != "cpu" else ""
    if device.kind == "cuda" and missing:
        raise DeviceError(f"--device {device} does not start: {missing}")
    session, note = None, missing
    if device.kind != "cpu" and not missing:
        session, note = _cuda_session(blob, path, device, threads)
        if session is None and device.kind == "cuda":
            raise DeviceError(f"--device {device} does not start: {note}")
    if session is None:
        each = max(1, threads // parallel) if threads else 0
        session, running = _session(blob, path, [_CPU], each), Device("cpu")
    else:
        running, parallel = Device("cuda", device.index), 1
    try:
        contract = _contract(session, path)
    except UnicodeDecodeError as error:  # ONNX Runtime converts names and metadata to text, whatever their bytes are
        raise ModelError(f"{path} holds names or metadata that are not UTF-8; it is damaged.") from error
    return Model(path, digest, contract, session, running, parallel, note)


def _session(blob: bytes, path: Path, providers: list[object], threads: int) -> ort.InferenceSession:
    ort.set_default_logger_severity(_QUIET)
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads
    # Threads that spin between batches would take the processors from the workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    cancel = getattr(options, "set_load_cancellation_flag", lambda _: None)  # older versions load to their end
    try:
        return apart(
            lambda: ort.InferenceSession(blob, options, providers=providers), lambda: cancel(True), LOAD_LIMIT_S
        )
    except OverTimeError as error:
        raise ModelError(f"{path} took more than {LOAD_LIMIT_S:g} s to load; use another model.") from error
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        if _is_out_of_memory(error):
            raise DeviceError(f"there is not enough memory to load {path}.") from error
        raise ModelError(f"{path} is not a model that ONNX Runtime can run ({_first_line(error)}).") from error


def _cuda_session(blob: bytes, path: Path, device: Device, threads: int) -> tuple[ort.InferenceSession | None, str]:
    """Returns a session that really runs on the GPU, or None and the message of ONNX Runtime."""
    with captured_stderr() as said:
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        cuda = (CUDA, {"device_id": device.index, "cudnn_conv_algo_search": "EXHAUSTIVE"})
        try:
            session = _session(blob, path, [cuda, _CPU], threads)
        except ModelError as error:
            if "CUDA" in str(error):
                return None, str(error)
            raise
    # Without CUDA, ONNX Runtime prints an error and falls back: only the session tells.
    if session.get_providers()[0] == CUDA:
        return session, ""
    reasons = [line for line in said() if "rror" in line] or ["ONNX Runtime fell back to the CPU without a reason."]
    return None, reasons[0].strip()


def _contract(session: ort.InferenceSession, path: Path) -> ModelSpec:
    """Returns the ModelSpec in the file, after checking inputs and outputs against it."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    spec = ModelSpec.from_metadata(text, path)
    image = [3, spec.audio.n_mels, spec.audio.n_frames]
    classes = len(spec.classes)
    wanted = {
        INPUT_NAME: (session.get_inputs(), image),
        OUTPUT_NAMES[0]: (session.get_outputs(), [classes]),
        OUTPUT_NAMES[1]: (session.get_outputs(), [classes, MAP_SIZE, MAP_SIZE]),
    }
    if len(session.get_inputs()) != 1:
        raise ModelError(f"{path} takes {len(session.get_inputs())} inputs; the contract is one, `{INPUT_NAME}`.")
    for name, (nodes, shape) in wanted.items():
        node = next((n for n in nodes if n.name == name), None)
        if node is None:
            raise ModelError(f"{path} has no `{name}`, which the contract asks for.")
        if node.type != "tensor(float)" or list(node.shape[1:]) != shape or isinstance(node.shape[0], int):
            raise ModelError(
                f"{path} has `{name}` of {node.type} {node.shape}; "
                f"the contract is tensor(float) [batch, {', '.join(map(str, shape))}]."
            )
    return spec


class BoundSession:
    """Runs batches of one shape from a device buffer that is allocated once; `session.run` allocates one for each
    batch. Copying and running release the interpreter lock, so the next batch is filled meanwhile.

    Args:
        session: a session that runs on `device`.
        device: `cuda`; or `cpu`, which gives no gain.
        shape: of the batches.
    """

    def __init__(self, session: ort.InferenceSession, device: Device, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._session = session
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device.kind, device.index)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT_NAME, self._input)
        self._binding.bind_output(OUTPUT_NAMES[0], "cpu")

    def logits(self, images: Float32, options: ort.RunOptions | None = None) -> Float32:
        """Logits of one batch, float32 [batch, classes]; `options` are those of the run."""
        self._input.update_inplace(images)
        self._session.run_with_iobinding(self._binding, options)
        # The array is ONNX Runtime's own memory, which the next run overwrites.
        logits: Float32 = self._binding.get_outputs()[0].numpy().copy()
        return logits


class Detector:
    """Runs fixed-size batches, and smaller ones after memory has run out.

    Args:
        model: the loaded model.
        batch_size: images at a time.

    Attributes:
        runs: the current runs; once they are stopped, this detector cannot run again.
    """

    def __init__(self, model: Model, batch_size: int) -> None:
        self.model = model
        self.runs = Runs()
        self.batch_size = batch_size
        self._bound: BoundSession | None = None

    def logits(self, images: Float32, used: int) -> Float32:
        """Logits of a batch.

        Args:
            images: float32 [batch, 3, n_mels, n_frames], padded to a fixed batch.
            used: how many of them are real.

        Returns:
            float32 [used, classes].

        Raises:
            ModelError: the model gives NaN or infinite logits.
            DeviceError: not even one image fits into the memory.
        """
        parts: list[Float32] = []
        done = 0
        while done < used:
            piece = images[done : done + self.batch_size]
            try:
                parts.append(self._run(piece))
            except OverTimeError as error:
                raise self.model.over_time(len(piece)) from error
            except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
                if not _is_out_of_memory(error):
                    raise ModelError(f"{self.model.path} fails while it runs ({_first_line(error)}).") from error
                if self.batch_size == 1:
                    raise DeviceError(
                        f"{self.model.path} does not fit into the memory of {self.model.device}, "
                        "even one window at a time."
                    ) from error
                self.batch_size = max(1, self.batch_size // 2)
                continue
            done += len(piece)
        logits = np.concatenate(parts)[:used]
        if not np.isfinite(logits).all():
            raise ModelError(f"{self.model.path} gives scores that are not numbers (NaN or infinite); it is broken.")
        return logits

    def _run(self, piece: Float32) -> Float32:
        model = self.model
        with self.runs.limited(batch_limit_s(len(piece))) as options:
            if model.device.kind == "cpu":
                logits: Float32 = model.session.run([OUTPUT_NAMES[0]], {INPUT_NAME: piece}, options)[0]
                return logits
            if self._bound is None or self._bound.shape != piece.shape:
                self._bound = None  # before the next one is made, so that there is room for it
                self._bound = BoundSession(model.session, model.device, piece.shape)
            return self._bound.logits(piece, options)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300].rstrip(".")
