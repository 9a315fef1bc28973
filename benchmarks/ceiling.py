"""The limit of a model's speed: the rate at which this processor multiplies matrices.

    python benchmarks/ceiling.py [--backbone swin|lambda] [--rounds N]

Prints the rate of ONNX Runtime's matrix products on the model, and numpy's on large square matrices. Then it prints how
many windows a second the model could do if all other operations were free.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from material import exported
from paired import parser

from sonicscan.machine import usable_cpus

BATCH, SIZE = 4, 2048
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "Conv", "FusedConv", "Attention")  # the last has a softmax between two


def numpy_rate(rounds: int) -> float:
    """FLOP/s of a product of two matrices."""
    matrix = np.random.default_rng(0).standard_normal((SIZE, SIZE), dtype=np.float32)
    matrix @ matrix
    began = time.perf_counter()
    for _ in range(rounds):
        matrix @ matrix
    return rounds * 2 * SIZE**3 / (time.perf_counter() - began)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--backbone", default="swin", choices=("swin", "lambda"))
    options = arguments.parse_args()
    rounds = options.rounds or 5
    network, model = exported(options, options.backbone)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = usable_cpus()
    session_options.enable_profiling = True
    session_options.profile_file_prefix = str(options.work / "profile")
    session = onnxruntime.InferenceSession(model, session_options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).standard_normal((BATCH, 3, 256, 256), dtype=np.float32)
    for _ in range(rounds):
        session.run(["logits"], {"spectrogram": images})
    profile = Path(session.end_profiling())
    took: Counter[str] = Counter()
    for event in json.loads(profile.read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            took[event["args"]["op_name"]] += event["dur"]
    profile.unlink()
    flop = flops_of(network)
    all_s = sum(took.values()) / 1e6 / (rounds * BATCH)
    products_s = sum(took[name] for name in PRODUCTS) / 1e6 / (rounds * BATCH)
    peak = numpy_rate(rounds)
    print(f"{options.backbone}: {flop / 1e9:.1f} GFLOP a window, {1 / all_s:.1f} windows/s in ONNX Runtime")
    print(f"its products: {products_s / all_s:.0%} of the time, at {flop / products_s / 1e9:.0f} GFLOP/s")
    print(f"numpy: {peak / 1e9:.0f} GFLOP/s; at that rate, with all else free, {peak / flop:.1f} windows/s")


def flops_of(network: Callable[..., object]) -> float:
    """FLOP of one window, counted by PyTorch."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 256, 256))
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main()
