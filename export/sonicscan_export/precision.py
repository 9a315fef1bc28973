"""The precisions of an export, and graphs with smaller weights or in float16; int8 and int4 have their own modules."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sonicscan.arrays import Float32
from sonicscan.spec import OUTPUT_NAMES
from sonicscan_export.data import as_batch
from sonicscan_export.graph import drop_unused_values, head_nodes, sort_nodes
from sonicscan_train.nets.backbones import DetectorNet

Precision = Literal["fp32", "half-weights", "byte-weights", "fp16", "int8", "int4"]
INT8_ARITHMETIC: tuple[Precision, ...] = ("int8", "int4")

# Half of the float16 range: other windows may give larger activations than the measured ones.
LARGEST_ACTIVATION = 32752.0
_HOOKED_BATCH = 2  # windows at a time while activations are watched
_SMALL = 1024  # numbers under which a tensor stays in float32


def store_small(model: onnx.ModelProto, in_bytes: bool = False) -> onnx.ModelProto:
    """The graph with large weights stored in fewer bits; the arithmetic stays in float32.

    ONNX Runtime folds constants when it loads the graph, so the file is smaller and not slower.

    Args:
        model: in float32.
        in_bytes: weights of 1x1 convolutions are stored in int8 with a scale for each output channel; all other
            large weights are stored in float16.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    scales: list[onnx.TensorProto] = []
    for weights in copy.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < _SMALL:
            continue
        name = weights.name
        if in_bytes and values.ndim == 4 and values.shape[2:] == (1, 1):
            scale = np.abs(values).max(axis=(1, 2, 3), keepdims=True) / np.float32(127)
            scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
            stored = np.round(values / scale).astype(np.int8)
            scales.append(onnx.numpy_helper.from_array(scale, f"{name}.scale"))
            nodes.append(onnx.helper.make_node("Cast", [f"{name}.stored"], [f"{name}.cast"], to=onnx.TensorProto.FLOAT))
            nodes.append(onnx.helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name]))
        else:
            stored = values.astype(np.float16)
            nodes.append(onnx.helper.make_node("Cast", [f"{name}.stored"], [name], to=onnx.TensorProto.FLOAT))
        weights.CopyFrom(onnx.numpy_helper.from_array(stored, f"{name}.stored"))
    copy.graph.initializer.extend(scales)
    nodes += copy.graph.node
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in float16, with float32 inputs and outputs; the head, which costs nothing, stays in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with warnings.catch_warnings():
        # The converter warns about each weight too small for float16; verification measures their effect.
        warnings.filterwarnings("ignore", message="the float32 number .* will be truncated")
        half: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True, node_block_list=head_nodes(model))
    _restore_head(half, model)
    half = sort_nodes(half)
    onnx.checker.check_model(half, full_check=True)
    return half


def largest_activation(detector: DetectorNet, images: Float32) -> float:
    """The largest magnitude that any layer gives on these windows, float32 [n, n_mels, n_frames].

    A CPU computes float16 graphs in float32, so it does not show an overflow that would occur on a GPU.
    """
    largest = 0.0

    def watch(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal largest
        if isinstance(output, Tensor) and output.is_floating_point():
            largest = max(largest, float(output.abs().max()))

    hooks = [module.register_forward_hook(watch) for module in detector.modules() if not any(module.children())]
    try:
        with torch.inference_mode():
            for start in range(0, len(images), _HOOKED_BATCH):
                detector(torch.from_numpy(as_batch(images[start : start + _HOOKED_BATCH])))
    finally:
        for hook in hooks:
            hook.remove()
    return largest


def _restore_head(half: onnx.ModelProto, full: onnx.ModelProto) -> None:
    """Removes the rounding to float16 that the converter adds behind each node of the head. The mean over cells must
    read the output maps themselves, or the maps would no longer add up to the logits.
    """
    heads = {node.name: node for node in full.graph.node if node.name in head_nodes(full)}
    for node in half.graph.node:
        if node.name in heads:
            original = heads[node.name]
            node.output[:] = original.output
            for i, name in enumerate(original.input):
                if name in OUTPUT_NAMES:
                    node.input[i] = name
    nodes = list(half.graph.node)
    while True:
        made = {name for node in nodes for name in node.output}
        made |= {value.name for value in (*half.graph.input, *half.graph.initializer)}
        kept = [node for node in nodes if node.op_type != "Cast" or node.input[0] in made]
        if len(kept) == len(nodes):
            break
        nodes = kept
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    drop_unused_values(half)
