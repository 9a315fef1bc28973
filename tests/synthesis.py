"""Sound that is synthesised and models that are built on the fly, for the tests to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from sonicscan.spec import METADATA_KEY, Calibration, ModelSpec

Float32 = npt.NDArray[np.float32]

TINY_SPEC = ModelSpec(architecture="tiny")


def music(seconds: float, sample_rate: int = 44100, channels: int = 2, seed: int = 0) -> Float32:
    """A few decaying harmonic notes over faint noise; float32 [n, channels], peak about 0.25."""
    random = np.random.default_rng(seed)
    n = round(seconds * sample_rate)
    sound = 0.003 * random.standard_normal((n, channels))
    time = np.arange(sample_rate) / sample_rate
    for start in range(0, n, round(0.4 * sample_rate)):
        pitch = 110.0 * 2.0 ** (random.integers(0, 25) / 12)
        here = time[: n - start]
        note = np.exp(-3.0 * here) * sum(np.sin(2 * np.pi * pitch * k * here) / k for k in range(1, 9))
        sound[start : start + len(here)] += np.outer(note, 0.12 * random.uniform(0.5, 1.0, channels))
    return sound.astype(np.float32)


def write_model(
    path: Path,
    spec: ModelSpec = TINY_SPEC,
    *,
    gain: float = 20.0,
    bias: float = -8.0,
    metadata: dict[str, str] | None = None,
    image: Sequence[int | str] = (3, 256, 256),
    logits_name: str = "logits",
) -> Path:
    """A real ONNX model that meets the contract: it pools what lies above the mean in 8 x 8 cells.

    Args:
        path: where to write it.
        spec: stored in its metadata, unless `metadata` is given instead.
        gain, bias: the margin of class 1 is about `gain * mean(relu(image)) + bias`; each further
            class has one less than the one before it.
        image: shape of the input behind the batch axis.
        logits_name: name of the first output.
    """
    classes = len(spec.classes)
    weights = np.zeros((classes, int(image[0]), 1, 1), dtype=np.float32)
    weights[1:, 0] = gain
    offsets = np.array([0.0, *(bias - k for k in range(classes - 1))], dtype=np.float32)
    nodes = [
        helper.make_node("Relu", ["spectrogram"], ["above"]),
        helper.make_node("AveragePool", ["above"], ["cells"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Conv", ["cells", "weights", "offsets"], ["class_maps"]),
        helper.make_node("ReduceMean", ["class_maps", "axes"], [logits_name], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("spectrogram", TensorProto.FLOAT, ["batch", *image])],
        [
            helper.make_tensor_value_info(logits_name, TensorProto.FLOAT, ["batch", classes]),
            helper.make_tensor_value_info("class_maps", TensorProto.FLOAT, ["batch", classes, 8, 8]),
        ],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(offsets, "offsets"),
            onnx.numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    for key, value in ({METADATA_KEY: spec.to_json()} if metadata is None else metadata).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def calibrated(spec: ModelSpec = TINY_SPEC, n: int = 400) -> ModelSpec:
    """`spec` with `n` calibration scores spread evenly over 0.02..0.4."""
    return replace(spec, calibration=Calibration.of(np.linspace(0.02, 0.4, n).tolist(), "synthetic"))
