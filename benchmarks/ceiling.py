"""The limit of a model's speed: the rate at which ONNX Runtime multiplies large matrices on this processor.

    python benchmarks/ceiling.py [--backbone swin|lambda] [--int8] [--rounds N]

Prints the rate of ONNX Runtime's matrix products on the model, and of a product of two large square matrices. Then it
prints how many windows a second the model could do at the second rate if all other operations were free.

With `--int8` it prints how much faster than fp32 the int8 file is, and the time of its operators. Then it prints how
much faster it would be if its int8 products had the rate of large ones. All other operators stay as they are.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from material import exported
from onnx import TensorProto, helper, numpy_helper
from paired import parser

from sonicscan.machine import usable_cpus

BATCH, SIZE = 4, 2048
OPSET, IR_VERSION = 20, 10
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "Conv", "FusedConv", "Attention")  # the last has a softmax between two
INT8_PRODUCTS = ("QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "QLinearConv")


def on_all_cpus() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    return options


def product_rate(rounds: int, *, int8: bool = False) -> float:
    """FLOP/s of a product of two large matrices in ONNX Runtime, on all CPUs; in int8, operations per second."""
    rng = np.random.default_rng(0)
    if int8:
        left, right = rng.integers(0, 255, (SIZE, SIZE), np.uint8), rng.integers(-64, 64, (SIZE, SIZE), np.int8)
    else:
        left, right = (rng.standard_normal((SIZE, SIZE), np.float32) for _ in range(2))
    given, made = (TensorProto.UINT8, TensorProto.INT32) if int8 else (TensorProto.FLOAT, TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger" if int8 else "MatMul", ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", given, left.shape)],
        [helper.make_tensor_value_info("product", made, left.shape)],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), on_all_cpus(), providers=["CPUExecutionProvider"])
    took = []
    for _ in range(1 + rounds):
        began = time.perf_counter()
        session.run(None, {"left": left})
        took.append(time.perf_counter() - began)
    return 2 * SIZE**3 / min(took)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--backbone", default="swin", choices=("swin", "lambda"))
    arguments.add_argument("--int8", action="store_true")
    options = arguments.parse_args()
    rounds = options.rounds or 5
    network, model = exported(options, options.backbone)
    took = operator_times(model, options.work, rounds)
    linear, others = flops_of(network)
    flop = linear + others
    peak = product_rate(rounds)
    all_s, products_s = sum(took.values()), sum(took[name] for name in PRODUCTS)
    print(f"{options.backbone}: {flop / 1e9:.1f} GFLOP a window, {1 / all_s:.1f} windows/s in ONNX Runtime")
    print(f"its products: {products_s / all_s:.0%} of the time, at {flop / products_s / 1e9:.0f} GFLOP/s")
    print(f"large products: {peak / 1e9:.0f} GFLOP/s; so, with all else free, {peak / flop:.1f} windows/s")
    if options.int8:
        small = operator_times(exported(options, options.backbone, "int8")[1], options.work, rounds)
        tell_int8(small, all_s, linear / product_rate(rounds, int8=True))


def tell_int8(took: Mapping[str, float], fp32_s: float, least_s: float) -> None:
    """Prints the figures of an int8 file.

    Args:
        took: seconds a window, by operator.
        fp32_s: seconds a window in fp32.
        least_s: seconds a window of the int8 products at the rate of large ones.
    """
    all_s = sum(took.values())
    products_s = sum(seconds for name, seconds in took.items() if name in INT8_PRODUCTS)
    rest = sorted(((seconds, name) for name, seconds in took.items() if name not in INT8_PRODUCTS), reverse=True)
    print(f"in int8: {1e3 * all_s:.0f} ms a window, {fp32_s / all_s:.2f} times as fast as fp32")
    print(f"its int8 products: {1e3 * products_s:.1f} ms, and {1e3 * least_s:.1f} ms at the rate of large ones")
    print(f"all others {1e3 * (all_s - products_s):.1f} ms: " + ", ".join(f"{n} {1e3 * s:.1f}" for s, n in rest[:6]))
    print(f"limit: {fp32_s / (all_s - products_s + least_s):.2f} times as fast as fp32")


def operator_times(model: Path, folder: Path, rounds: int) -> Counter[str]:
    """Seconds a window in ONNX Runtime, by operator, on all CPUs."""
    session_options = on_all_cpus()
    session_options.enable_profiling = True
    session_options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(model, session_options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).standard_normal((BATCH, 3, 256, 256), dtype=np.float32)
    for _ in range(rounds):
        session.run(["logits"], {"spectrogram": images})
    profile = Path(session.end_profiling())
    took: Counter[str] = Counter()
    for event in json.loads(profile.read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            took[event["args"]["op_name"]] += event["dur"] / 1e6 / (rounds * BATCH)
    profile.unlink()
    return took


def flops_of(network: Any) -> tuple[float, float]:
    """FLOP of one window, counted by PyTorch: those of linear layers and convolutions, and those of other products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 256, 256))
    counts = {str(operator): float(flop) for operator, flop in counter.get_flop_counts()["Global"].items()}
    others = sum(flop for operator, flop in counts.items() if "bmm" in operator or "attention" in operator)
    return sum(counts.values()) - others, others


if __name__ == "__main__":
    main()
