"""Weights in 4 bits: the file is smaller, the arithmetic is that of int8, and little changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from sonicscan.arrays import Float32
from sonicscan.errors import ModelError
from sonicscan_export import data, int8
from sonicscan_export.int4 import in_four_bits, rounded

LARGE, MIDDLE = (1024, 512, 1, 1), (512, 256, 1, 1)  # one has 2^19 weights, the other has fewer


@pytest.fixture(scope="module")
def images() -> Float32:
    return np.random.default_rng(1).normal(size=(8, 256, 256)).astype(np.float32)


@pytest.fixture(scope="module")
def in_bytes(images: Float32) -> onnx.ModelProto:
    """A network with a large and a smaller 1 x 1 convolution, in int8."""
    rng = np.random.default_rng(0)
    shapes = {"first": (256, 3, 8, 8), "middle": MIDDLE, "large": LARGE, "head": (2, 1024, 1, 1)}
    parameters, nodes, name = [], [], "spectrogram"
    for layer, shape in shapes.items():
        spread = 1.4 / np.sqrt(np.prod(shape[1:]))
        parameters.append(numpy_helper.from_array(rng.normal(0, spread, shape).astype(np.float32), f"{layer}.weight"))
        parameters.append(numpy_helper.from_array(rng.normal(0, 0.2, shape[0]).astype(np.float32), f"{layer}.bias"))
        result = "class_maps" if layer == "head" else layer
        strides = [32, 32] if layer == "first" else [1, 1]
        inputs = [name, f"{layer}.weight", f"{layer}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [result], f"/{layer}", strides=strides))
        if layer != "head":
            nodes.append(helper.make_node("Relu", [result], [f"{layer}.relu"], f"/{layer}/relu"))
            name = f"{layer}.relu"
    parameters.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    nodes.append(helper.make_node("ReduceMean", ["class_maps", "axes"], ["logits"], "/mean", keepdims=0))
    kind, value = onnx.TensorProto.FLOAT, helper.make_tensor_value_info
    outputs = [value("class_maps", kind, ["n", 2, 8, 8]), value("logits", kind, ["n", 2])]
    graph = helper.make_graph(nodes, "g", [value("spectrogram", kind, ["n", 3, 256, 256])], outputs, parameters)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return int8.GraphQuantiser(model, images).quantise()


def test_large_weights_take_half_a_byte_and_the_maps_hardly_change(
    in_bytes: onnx.ModelProto, images: Float32, tmp_path: Path
) -> None:
    small, names = in_four_bits(in_bytes)
    assert names == ["large.weight"]
    saved = in_bytes.ByteSize() - small.ByteSize()
    assert saved == pytest.approx(np.prod(LARGE) / 2, rel=0.01)
    sessions = []
    for k, model in enumerate((in_bytes, small)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{k}.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        sessions.append(
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        )
    before, after = (s.run(["class_maps"], {"spectrogram": data.as_batch(images)})[0] for s in sessions)
    change = np.sqrt(np.mean((after - before) ** 2)) / np.std(before)
    assert 0 < change < 0.15
    # One kernel for each convolution, as in int8: the weights were widened once, when the file was loaded.
    kinds = [[node.op_type for node in onnx.load(tmp_path / f"{k}.onnx").graph.node] for k in range(2)]
    assert kinds[0] == kinds[1] and kinds[1].count("QLinearConv") == 3


def test_a_network_without_large_convolutions_is_refused(in_bytes: onnx.ModelProto) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(in_bytes)
    for node in model.graph.node:
        if node.name == "/large":
            node.op_type = "ConvInteger"  # anything but a convolution
    with pytest.raises(ModelError, match="int4 would save nothing; use int8"):
        in_four_bits(model)


def test_each_output_is_rounded_on_the_scale_with_the_least_error() -> None:
    rng = np.random.default_rng(0)
    weights = np.clip(np.round(rng.normal(0, 16, (50, 400, 1, 1))), -64, 64).astype(np.int8)
    weights[7] = 0
    weights[9, 1:] = 0  # a single weight
    scale = rng.uniform(0.001, 0.1, 50).astype(np.float32)
    stored, found = rounded(weights, scale)
    assert stored.shape == weights.shape and stored.dtype == np.int8 and np.abs(stored).max() == 7
    values, back = (w.reshape(50, -1) * s[:, None] for w, s in ((weights, scale), (stored, found)))
    assert not back[7].any() and np.isfinite(found).all() and (found > 0).all()
    assert np.allclose(back[9], values[9], rtol=1e-5)
    naive = np.abs(values).max(axis=1, keepdims=True) / 7
    plain = np.round(values / np.where(naive > 0, naive, 1)) * naive
    error, plain_error = (((v - values) ** 2).sum(axis=1) for v in (back, plain))
    assert (error <= plain_error * (1 + 1e-5) + 1e-12).all() and error.sum() < 0.8 * plain_error.sum()
