"""Static quantisation to int8, in standard operators: ranges of activations come from real windows.

Weights are symmetric, per output channel, and have 7 bits. CPUs with AVX2 and without VNNI add pairs of products in 16
bits. With 8-bit weights these sums overflow silently, and scores would differ between machines.
"""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from sonicscan.arrays import Float32
from sonicscan.errors import ModelError
from sonicscan.spec import INPUT_NAME
from sonicscan_export.data import as_batch
from sonicscan_export.graph import WEIGHTY, early_layers, has_depthwise, head_nodes, sort_nodes

RANGING_BATCH = 2  # while ranges are taken, all activations of a batch are in memory
# The operators that ONNX Runtime computes in int8 on the CPU, and those that would stand between two of them.
_QUANTISED = (*WEIGHTY, "Add", "Mul", "AveragePool", "MaxPool", "Relu", "Clip", "Concat", "Split")


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


class Quantiser(ABC):
    """Makes int8 versions of one graph; activations are ranged once.

    Attributes:
        model: the float32 graph.
        fixed: the layers that always stay in float32.
    """

    model: onnx.ModelProto
    fixed: tuple[str, ...] = ()

    @property
    @abstractmethod
    def layers(self) -> list[str]:
        """Names of the convolutions and matrix products that can be quantised."""

    @abstractmethod
    def quantise(self, kept: Sequence[str] = ()) -> onnx.ModelProto:
        """The int8 graph, with the layers `kept` in float32."""

    def keeping(self, kept: Sequence[str], measure: Callable[[onnx.ModelProto], float]) -> Quantised:
        """The int8 graph with exactly the layers `kept` in float32, the fixed ones among them.

        Args:
            kept: names of nodes.
            measure: as for `within`.
        """
        model = self.quantise(kept)
        return Quantised(model, tuple(kept), measure(model))

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
            return Quantised(model, self.fixed, drift)
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
                return Quantised(model, (*self.fixed, *worst[:n]), drift)
            n *= 2
        raise ModelError(
            f"int8 drifts by {drift:.2%} even with {n // 2} of {len(layers)} layers in float32, "
            f"and --max-drift allows {max_drift:.2%}; use fp16 or fp32."
        )


class GraphQuantiser(Quantiser):
    """Int8 by ONNX Runtime's own quantiser: convolutions, matrix products and what stands between two of them.

    In networks with depthwise convolutions the first two layers stay in float32. A depthwise convolution does not
    average over channels, so the rounding of its weights reaches all later layers. The two layers cost little time.

    Args:
        model: the float32 graph.
        images: float32 [n, n_mels, n_frames], real windows.
    """

    def __init__(self, model: onnx.ModelProto, images: Float32) -> None:
        self.model = model
        self._head = head_nodes(model)
        self.fixed = tuple(early_layers(model)) if has_depthwise(model) else ()
        self._ranges = self._measure_ranges(images)

    @property
    def layers(self) -> list[str]:
        fixed = {*self._head, *self.fixed}
        return [n.name for n in self.model.graph.node if n.op_type in WEIGHTY and n.name not in fixed]

    def quantise(self, kept: Sequence[str] = ()) -> onnx.ModelProto:
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[*self._head, *self.fixed, *kept],
            op_types_to_quantize=list(_QUANTISED),
            # Per-channel scales of a matrix product run along its output axis.
            extra_options={"QDQOpTypePerChannelSupportToAxis": {"MatMul": 1}},
        )
        quantizer.quantize_model()
        model = sort_nodes(quantizer.model.model)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _measure_ranges(self, images: Float32) -> Any:
        """Smallest and largest value of each tensor over the windows."""
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self._batches: Iterator[Float32] = (
                    as_batch(images[k : k + RANGING_BATCH]) for k in range(0, len(images), RANGING_BATCH)
                )

            def get_next(self) -> dict[str, Float32] | None:
                batch = next(self._batches, None)
                return None if batch is None else {INPUT_NAME: batch}

        with tempfile.TemporaryDirectory(prefix="sonicscan-export-") as folder:
            source = Path(folder) / "model.onnx"
            onnx.save_model(self.model, source)
            calibrator = create_calibrator(
                source,
                list(_QUANTISED),
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
            )
            calibrator.collect_data(Reader())
            return calibrator.compute_data()
