"""Int8 graphs whose largest weights are stored in 4 bits.

A 1 x 1 convolution with many inputs averages the rounding errors of its weights, so it tolerates coarse ones. The
arithmetic stays in int8: ONNX Runtime widens the weights once, when it loads the graph. The file is smaller and not
slower. ONNX has int4 since opset 21.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from sonicscan.arrays import Float32
from sonicscan.errors import ModelError

_OPSET, _IR_VERSION = 21, 10
_LARGE = 1 << 19  # weights of a convolution that is stored in 4 bits
_LEVELS = 7  # on each side of zero
_CLIPPED = np.linspace(0.4, 1.0, 25)  # shares of the largest weight that are tried as the range


def in_four_bits(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """An int8 graph with the weights of its large 1 x 1 convolutions in 4 bits.

    Args:
        model: QuantizeLinear/DequantizeLinear pairs around float operators, one weight scale for each output.

    Returns:
        The graph, and the names of the weights.

    Raises:
        ModelError: no convolution is large enough.
    """
    small = onnx.ModelProto()
    small.CopyFrom(model)
    graph = small.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    widened = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    casts: list[onnx.NodeProto] = []
    for node in graph.node:
        weights = widened.get(node.input[1]) if node.op_type == "Conv" else None
        if weights is None or not _is_large(constants[weights.input[0]]):
            continue
        name, scale_name = weights.input[0], weights.input[1]
        old_scale = numpy_helper.to_array(constants[scale_name])
        stored, scale = rounded(numpy_helper.to_array(constants[name]), old_scale)
        constants[name].CopyFrom(numpy_helper.from_array(stored.astype(ml_dtypes.int4), f"{name}.int4"))
        casts.append(helper.make_node("Cast", [f"{name}.int4"], [name], f"{name}/widen", to=onnx.TensorProto.INT8))
        constants[scale_name].CopyFrom(numpy_helper.from_array(scale, scale_name))
        if len(node.input) > 2 and node.input[2] in widened:
            _rescale_bias(widened[node.input[2]], constants, scale / old_scale)
    if not casts:
        raise ModelError(f"no 1 x 1 convolution has {_LARGE:,} weights, so int4 would save nothing; use int8.")
    names = [cast.output[0].removesuffix("_quantized") for cast in casts]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    small.ir_version = max(small.ir_version, _IR_VERSION)
    for entry in small.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, _OPSET)
    onnx.checker.check_model(small, full_check=True)
    return small, names


def rounded(weights: npt.NDArray[np.int8], scale: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    """Weights int8 [outputs, ...] in units of `scale` [outputs] as -7 to 7 in units of a new scale.

    Of several ranges, each output takes the one that gives the least squared error.
    """
    values = weights.reshape(len(weights), -1) * scale[:, None]
    largest = np.maximum(np.abs(values).max(axis=1), np.finfo(np.float32).tiny * _LEVELS)
    tried = [(largest * share / _LEVELS).astype(np.float32)[:, None] for share in _CLIPPED]
    steps = [np.clip(np.round(values / one), -_LEVELS, _LEVELS) for one in tried]
    errors = [((step * one - values) ** 2).sum(axis=1) for one, step in zip(tried, steps, strict=True)]
    best = np.argmin(errors, axis=0)
    rows = np.arange(len(values))
    return np.stack(steps)[best, rows].astype(np.int8).reshape(weights.shape), np.stack(tried)[best, rows, 0]


def _is_large(tensor: onnx.TensorProto) -> bool:
    return len(tensor.dims) == 4 and tuple(tensor.dims[2:]) == (1, 1) and int(np.prod(tensor.dims)) >= _LARGE


def _rescale_bias(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], ratio: Float32) -> None:
    """The bias counts in units of the product of both scales, of which one changed by `ratio` [outputs]."""
    name, scale_name = node.input[0], node.input[1]
    bias = numpy_helper.to_array(constants[name]).astype(np.float64)
    scale = numpy_helper.to_array(constants[scale_name])
    constants[name].CopyFrom(numpy_helper.from_array(np.round(bias / ratio).astype(np.int32), name))
    constants[scale_name].CopyFrom(numpy_helper.from_array((scale * ratio).astype(np.float32), scale_name))
