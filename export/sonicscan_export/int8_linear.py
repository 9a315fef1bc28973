"""Int8 for transformers: the linear layers alone; attention, norms and activations stay in float32.

ONNX Runtime runs such a layer as one kernel. It multiplies uint8 activations by int8 weights, adds the bias and gives
float32. Softmax, norms and Gelu have no int8 kernels. To quantise them would only add conversions.

Activations have one range each, measured on real windows. Ranges taken while a model runs (DynamicQuantizeLinear) are
those of a batch, so a window's score would depend on the other windows of its batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from sonicscan.arrays import Float32
from sonicscan.spec import INPUT_NAME
from sonicscan_export.data import as_batch
from sonicscan_export.graph import drop_unused_values
from sonicscan_export.int8 import RANGING_BATCH, Quantiser

_WEIGHT_LEVELS = 64  # on each side of zero
_ACTIVATION_LEVELS = 255
_LARGEST_BIAS = 2.0**30  # of int32
_DAMPING = 0.01  # added to variances, as a share of their mean
_BLOCK = 128  # inputs whose errors reach the later ones together


@dataclass(frozen=True)
class _Layer:
    """A product with constant weights float32 [inputs, outputs], and the bias behind it, if any.

    Attributes:
        name: of the MatMul node.
        shape: of the output; None for the axis that varies.
    """

    name: str
    source: str
    result: str
    weights: Float32
    bias: Float32
    bias_node: str | None
    shape: tuple[int | None, ...]


@dataclass
class _Activation:
    """What was seen of the input of a layer.

    Attributes:
        low, high: smallest and largest value, zero included.
        origin: mean of each channel in the first batch.
        total: sum of each channel, from the origin.
        products: sums of products of each two channels, from the origin.
        rows: how many vectors.
    """

    low: float = 0.0
    high: float = 0.0
    origin: Float32 | float = 0.0
    total: npt.NDArray[np.float64] | float = 0.0
    products: npt.NDArray[np.float64] | float = 0.0
    rows: int = 0

    def add(self, values: Float32) -> None:
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        if not self.rows:
            self.origin = values.mean(axis=0)
            self.products = np.zeros((values.shape[1],) * 2)
        # From the origin the sums are small, so float32 is exact enough, and twice as fast as float64.
        moved = values - self.origin
        self.total += moved.sum(axis=0, dtype=np.float64)
        self.products += moved.T @ moved
        self.rows += len(values)

    @property
    def scale(self) -> np.float32:
        return np.float32(max(self.high - self.low, 1e-12) / _ACTIVATION_LEVELS)

    @property
    def zero(self) -> np.uint8:
        return np.uint8(round(-self.low / float(self.scale)))

    @property
    def mean(self) -> Float32:
        return np.asarray(self.origin + self.total / self.rows, dtype=np.float32)

    @property
    def covariance(self) -> npt.NDArray[np.float64]:
        mean = np.asarray(self.total) / self.rows
        return np.asarray(self.products) / self.rows - np.outer(mean, mean)


class LinearQuantiser(Quantiser):
    """Turns products with constant weights into int8 `Gemm`s.

    Weights are rounded so that the outputs change least on the windows. The mean error that is left is subtracted from
    the bias: (W - W') times the mean input.

    Args:
        model: the float32 graph, with shapes of its values.
        images: float32 [n, n_mels, n_frames], real windows.
    """

    def __init__(self, model: onnx.ModelProto, images: Float32) -> None:
        self.model = model
        self._layers = {layer.name: layer for layer in _linear_layers(model)}
        self._activations = _measure(model, {layer.source for layer in self._layers.values()}, images)
        self._made: dict[str, tuple[npt.NDArray[np.int8], Float32]] = {}

    @property
    def layers(self) -> list[str]:
        return list(self._layers)

    def quantise(self, kept: Sequence[str] = ()) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        chosen = {name: layer for name, layer in self._layers.items() if name not in kept}
        biases = {layer.bias_node for layer in chosen.values()}
        ready: set[str] = set()
        nodes: list[onnx.NodeProto] = []
        for node in self.model.graph.node:
            if node.name in chosen:
                layer = chosen[node.name]
                if layer.source not in ready:
                    nodes += self._quantised_input(graph, layer)
                    ready.add(layer.source)
                nodes += self._product(graph, layer)
            elif node.name not in biases:
                nodes.append(node)
        del graph.node[:]
        graph.node.extend(nodes)
        drop_unused_values(model)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _quantised_input(self, graph: onnx.GraphProto, layer: _Layer) -> list[onnx.NodeProto]:
        name, seen = layer.source, self._activations[layer.source]
        rows = np.array([-1, len(layer.weights)])
        _store(graph, name, {"rows": rows, "scale": seen.scale, "zero": seen.zero})
        parameters = [f"{name}.scale", f"{name}.zero"]
        return [
            helper.make_node("Reshape", [name, f"{name}.rows"], [f"{name}.flat"], f"{name}/flat"),
            helper.make_node("QuantizeLinear", [f"{name}.flat", *parameters], [f"{name}.int8"], f"{name}/q"),
            helper.make_node("DequantizeLinear", [f"{name}.int8", *parameters], [f"{name}.back"], f"{name}/dq"),
        ]

    def _weights(self, layer: _Layer) -> tuple[npt.NDArray[np.int8], Float32]:
        """The weights in int8 and the scale of each output; rounded once, however often the graph is made."""
        if layer.name not in self._made:
            seen = self._activations[layer.source]
            scale = np.abs(layer.weights).max(axis=0) / np.float32(_WEIGHT_LEVELS)
            # Weights of zero need a scale, too; and the bias must fit into int32 on the product of both scales.
            scale = np.maximum(scale, np.abs(layer.bias) / (np.float32(_LARGEST_BIAS) * seen.scale) + np.float32(1e-12))
            self._made[layer.name] = (_rounded(layer.weights, scale, seen.covariance), scale)
        return self._made[layer.name]

    def _product(self, graph: onnx.GraphProto, layer: _Layer) -> list[onnx.NodeProto]:
        name, seen = layer.name, self._activations[layer.source]
        weights, scale = self._weights(layer)
        bias = layer.bias + seen.mean @ (layer.weights - weights * scale)
        sums = scale * seen.scale
        no_zero = np.zeros(len(scale), np.int8)
        shape = np.array([-1 if size is None else size for size in layer.shape])
        rounded = np.round(bias / sums).astype(np.int32)
        _store(graph, name, {"w": weights, "w.scale": scale, "w.zero": no_zero, "shape": shape})
        _store(graph, name, {"b": rounded, "b.scale": sums, "b.zero": no_zero.astype(np.int32)})
        parameters = {part: [f"{name}.{part}", f"{name}.{part}.scale", f"{name}.{part}.zero"] for part in "wb"}
        inputs = [f"{layer.source}.back", f"{name}.w.back", f"{name}.b.back"]
        return [
            helper.make_node("DequantizeLinear", parameters["w"], [inputs[1]], f"{name}/w", axis=1),
            helper.make_node("DequantizeLinear", parameters["b"], [inputs[2]], f"{name}/b", axis=0),
            helper.make_node("Gemm", inputs, [f"{name}.rows"], name),
            helper.make_node("Reshape", [f"{name}.rows", f"{name}.shape"], [layer.result], f"{name}/shape"),
        ]


def _rounded(weights: Float32, scale: Float32, covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """Weights [inputs, outputs] in units of `scale` [outputs], rounded one input after the other.

    The weights of later inputs that correlate with an input are changed to compensate its rounding error (GPTQ: Frantar
    et al., 2022, algorithm 1). `covariance` of the inputs is [inputs, inputs].
    """
    n = len(weights)
    damped = covariance + np.eye(n) * max(_DAMPING * float(np.trace(covariance)) / n, 1e-12)
    factors = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    left = weights / scale
    found = np.empty(weights.shape, np.int8)
    for start in range(0, n, _BLOCK):
        end = min(start + _BLOCK, n)
        errors = np.empty((end - start, weights.shape[1]), np.float32)
        for k in range(start, end):
            found[k] = np.clip(np.round(left[k]), -_WEIGHT_LEVELS, _WEIGHT_LEVELS)
            errors[k - start] = (left[k] - found[k]) / factors[k, k]
            left[k + 1 : end] -= np.outer(factors[k, k + 1 : end], errors[k - start])
        left[end:] -= factors[start:end, end:].T @ errors
    return found


def _linear_layers(model: onnx.ModelProto) -> list[_Layer]:
    """Products of a value of which at most one axis varies with a constant matrix."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.value_info, *graph.output)}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in constants:
            continue
        weights, result = numpy_helper.to_array(constants[node.input[1]]), node.output[0]
        shape = tuple(d.dim_value or None for d in shapes.get(result, ()))
        if weights.ndim != 2 or shape.count(None) > 1 or not shape:
            continue
        bias, bias_node = np.zeros(weights.shape[1], np.float32), None
        users = readers.get(result, [])
        if len(users) == 1 and users[0].op_type == "Add":
            (other,) = (name for name in users[0].input if name != result)
            if other in constants and list(constants[other].dims) == [weights.shape[1]]:
                bias, bias_node = numpy_helper.to_array(constants[other]), users[0].name
                result = users[0].output[0]
        found.append(_Layer(node.name, node.input[0], result, weights, bias, bias_node, shape))
    return found


def _measure(model: onnx.ModelProto, names: set[str], images: Float32) -> dict[str, _Activation]:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    order = sorted(names)
    watched.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in order)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    found = {name: _Activation() for name in order}
    for start in range(0, len(images), RANGING_BATCH):
        batch = as_batch(images[start : start + RANGING_BATCH])
        for name, values in zip(order, session.run(order, {INPUT_NAME: batch}), strict=True):
            found[name].add(values.reshape(-1, values.shape[-1]))
    return found


def _store(graph: onnx.GraphProto, name: str, constants: Mapping[str, npt.ArrayLike]) -> None:
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), f"{name}.{part}") for part, v in constants.items())
