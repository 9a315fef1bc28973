"""Smaller versions of a graph, in standard operators and in one file: float16 weights, float16, int8."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sonicscan.arrays import Float32
from sonicscan.errors import ModelError
from sonicscan.spec import INPUT_NAME, OUTPUT_NAMES
from sonicscan_export.data import as_batch
from sonicscan_export.graph import WEIGHTY, drop_unused_values, early_layers, has_depthwise, head_nodes
from sonicscan_train.nets.backbones import DetectorNet

Precision = Literal["fp32", "half-weights", "byte-weights", "fp16", "int8"]

# Half of the float16 range: other windows may give larger activations than the measured ones.
LARGEST_ACTIVATION = 32752.0
_RANGING_BATCH = 2  # while ranges are taken, every activation of a batch is kept: Swin needs gigabytes
_SMALL = 1024  # numbers under which a tensor stays in float32
# The operators that ONNX Runtime computes in int8 on the CPU, and those that would stand between two of them.
_QUANTISED = (*WEIGHTY, "Add", "Mul", "AveragePool", "MaxPool", "Relu", "Clip", "Concat", "Split")


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
    half = _sorted(half)
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
            for start in range(0, len(images), _RANGING_BATCH):
                detector(torch.from_numpy(as_batch(images[start : start + _RANGING_BATCH])))
    finally:
        for hook in hooks:
            hook.remove()
    return largest


@dataclass(frozen=True)
class Quantised:
    """An int8 graph.

    Attributes:
        model: the graph, QuantizeLinear/DequantizeLinear pairs around float operators.
        kept: the layers that stay in float32: the first two of networks with depthwise convolutions, then the most
            harmful first.
        drift: its drift from the float32 graph, by `measure`.
    """

    model: onnx.ModelProto
    kept: tuple[str, ...]
    drift: float


class Quantiser:
    """Makes int8 versions of one graph; activations are ranged once.

    Weights are symmetric, per output channel, and have 7 bits. CPUs with AVX2 and without VNNI add pairs of products in
    16 bits. With 8-bit weights these sums overflow silently, and scores would differ between machines.

    In networks with depthwise convolutions the first two layers stay in float32. A depthwise convolution does not
    average over channels, so the rounding of its weights reaches all later layers. The two layers cost little time.

    Args:
        model: the float32 graph.
        images: float32 [n, n_mels, n_frames], real windows.
    """

    def __init__(self, model: onnx.ModelProto, images: Float32) -> None:
        self._model = model
        self._head = head_nodes(model)
        self._early = early_layers(model) if has_depthwise(model) else []
        self._ranges = self._measure_ranges(images)

    @property
    def layers(self) -> list[str]:
        """Names of the convolutions and matrix products that can be quantised."""
        fixed = {*self._head, *self._early}
        return [n.name for n in self._model.graph.node if n.op_type in WEIGHTY and n.name not in fixed]

    def quantise(self, kept: Sequence[str] = ()) -> onnx.ModelProto:
        """The int8 graph, with the layers `kept` in float32."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        copy = onnx.ModelProto()
        copy.CopyFrom(self._model)
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[*self._head, *self._early, *kept],
            op_types_to_quantize=list(_QUANTISED),
            # Per-channel scales of a matrix product run along its output axis.
            extra_options={"QDQOpTypePerChannelSupportToAxis": {"MatMul": 1}},
        )
        quantizer.quantize_model()
        model = _sorted(quantizer.model.model)
        onnx.checker.check_model(model, full_check=True)
        return model

    def within(
        self, max_drift: float, measure: Callable[[onnx.ModelProto], float], say: Callable[[str], None]
    ) -> Quantised:
        """The int8 graph with as few layers in float32 as `max_drift` allows.

        Each layer in turn is left in float32, and layers are ranked by the drift that this removes. The first 1, 2, 4,
        ... layers stay in float32 until the drift is small enough.

        Args:
            max_drift: largest allowed result of `measure`.
            measure: how far a graph is from the float32 one, at least 0.

        Raises:
            ModelError: not even half of the layers in float32 bring it under `max_drift`.
        """
        began = time.monotonic()
        model = self.quantise()
        drift = measure(model)
        took_s = time.monotonic() - began
        if drift <= max_drift:
            return Quantised(model, tuple(self._early), drift)
        layers = self.layers
        say(
            f"int8 drifts by {drift:.2%}, and {max_drift:.2%} is allowed: each of {len(layers)} layers is now tried in "
            f"float32, which takes about {max(1, round(took_s * len(layers) / 60))} min."
        )
        without = {layer: measure(self.quantise([layer])) for layer in layers}
        worst = sorted(layers, key=lambda layer: (without[layer], layer))
        n = 1
        while n <= len(layers) // 2:
            model = self.quantise(worst[:n])
            drift = measure(model)
            if drift <= max_drift:
                return Quantised(model, (*self._early, *worst[:n]), drift)
            n *= 2
        raise ModelError(
            f"int8 drifts by {drift:.2%} even with {n // 2} of {len(layers)} layers in float32, "
            f"and --max-drift allows {max_drift:.2%}; use fp16 or fp32."
        )

    def _measure_ranges(self, images: Float32) -> Any:
        """Smallest and largest value of each tensor over the windows."""
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self._batches: Iterator[Float32] = (
                    as_batch(images[k : k + _RANGING_BATCH]) for k in range(0, len(images), _RANGING_BATCH)
                )

            def get_next(self) -> dict[str, Float32] | None:
                batch = next(self._batches, None)
                return None if batch is None else {INPUT_NAME: batch}

        with tempfile.TemporaryDirectory(prefix="sonicscan-export-") as folder:
            source = Path(folder) / "model.onnx"
            onnx.save_model(self._model, source)
            calibrator = create_calibrator(
                source,
                list(_QUANTISED),
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
            )
            calibrator.collect_data(Reader())
            return calibrator.compute_data()


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


def _sorted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Sorts the nodes so that each one follows its inputs, and removes unused operator sets."""
    from onnxscript import ir

    graph = ir.from_proto(model)
    graph.graph.sort()
    used = {node.domain for node in graph.graph}
    for domain in set(graph.opset_imports) - used:
        del graph.opset_imports[domain]
    return ir.to_proto(graph)
