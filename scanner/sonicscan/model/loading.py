"""Loads a model: checks who made the file, opens a session, and compares the model with its contract."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from sonicscan.arrays import Float32
from sonicscan.errors import DeviceError, ModelError
from sonicscan.model.bundled import check_bundled
from sonicscan.model.cuda import cuda_missing
from sonicscan.model.protobuf import MalformedError, keeps_values_elsewhere
from sonicscan.model.running import OverTimeError, Runs, apart, batch_limit_s
from sonicscan.model.sessions import CPU, Device, open_cuda_session, open_session
from sonicscan.model.trust import ANY, Trust
from sonicscan.spec import INPUT_NAME, MAP_SIZE, METADATA_KEY, OUTPUT_NAMES, ModelSpec
from sonicscan.text import first_line

MAX_MODEL_BYTES = 2 << 30  # what a single ONNX file can hold
LARGEST_OUTPUT = 1e30  # margins of larger logits, over the smallest temperature, do not fit the report's float


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
        note: why the device is not a GPU, if `auto` was asked for; empty otherwise.
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
            raise ModelError(f"{self.path} fails while it runs ({first_line(error)}).") from error

    def checked(self, output: str, values: Float32, windows: int) -> Float32:
        """An output for a batch, if it has the contract's shape and a report can hold its numbers.

        Args:
            output: `logits` or `class_maps`.
            values: of that output.
            windows: images in the batch.

        Raises:
            ModelError: it does not.
        """
        shape = (windows, len(self.spec.classes), *((MAP_SIZE, MAP_SIZE) if output == OUTPUT_NAMES[1] else ()))
        if values.shape != shape:
            raise ModelError(f"{self.path} gives `{output}` of shape {values.shape} instead of {shape}; it is broken.")
        if not (np.abs(values) <= LARGEST_OUTPUT).all():  # NaN is not less than anything
            raise ModelError(
                f"{self.path} gives scores that are not numbers (NaN or infinite), or far too large; it is broken."
            )
        return values

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
        parallel: batches that share the threads on the CPU. One thread for each batch scans faster than all threads on
            one batch. Threads that share a batch wait for each other after every layer, and longest when a decoder uses
            one of the CPUs.
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
        session, note = open_cuda_session(blob, path, device, threads)
        if session is None and device.kind == "cuda":
            raise DeviceError(f"--device {device} does not start: {note}")
    if session is None:
        each = max(1, threads // parallel) if threads else 0
        session, running = open_session(blob, path, [CPU], each), Device("cpu")
    else:
        running, parallel = Device("cuda", device.index), 1
    try:
        contract = _contract(session, path)
    except UnicodeDecodeError as error:  # ONNX Runtime converts names and metadata to text, whatever their bytes are
        raise ModelError(f"{path} holds names or metadata that are not UTF-8; it is damaged.") from error
    return Model(path, digest, contract, session, running, parallel, note)


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
            raise ModelError(f"{path} has no `{name}`, which the contract requires.")
        if node.type != "tensor(float)" or list(node.shape[1:]) != shape or isinstance(node.shape[0], int):
            raise ModelError(
                f"{path} has `{name}` of {node.type} {node.shape}; "
                f"the contract is tensor(float) [batch, {', '.join(map(str, shape))}]."
            )
    return spec
