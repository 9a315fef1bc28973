"""Size, nodes, error and speed of exported models in each precision; the speeds are measured in one run, in turns.

python benchmarks/export_table.py MANIFEST [--checkpoint FOLDER] [--rounds N] [--max-drift D] [BACKBONE]...

Without a checkpoint the backbones have random weights: errors are then those of arithmetic, and say little about
verdicts. Prints rows of the table in docs/export.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import tempfile
import time
from pathlib import Path

import onnx
import onnxruntime
import torch
from paired import processor

from sonicscan.arrays import Float32
from sonicscan.machine import usable_cpus
from sonicscan.model.loading import Model
from sonicscan_export import data, onnxfile, verify
from sonicscan_export.convert import MAX_DRIFT, float32_graph, int8_quantiser
from sonicscan_export.graph import narrow_indices
from sonicscan_export.networks import Network, from_checkpoint, untrained
from sonicscan_export.precision import Precision, to_half

BATCH = 8


def seconds(model: Model, images: Float32) -> float:
    began = time.perf_counter()
    verify.run(model, images, BATCH)
    return time.perf_counter() - began


def measure(network: Network, manifest: Path, rounds: int, max_drift: float) -> None:
    found = data.read_calibration_data(manifest)
    n = data.RANGING_WINDOWS
    windows = data.real_windows(found.ranging, network.spec.audio, n + data.VERIFYING_WINDOWS, manifest.name)
    checking = data.WindowSet(windows.images[n:], windows.what, real=True)
    reference = verify.reference_outputs(network.detector, checking.images)
    full = float32_graph(network.detector, "fp32")
    with tempfile.TemporaryDirectory() as folder:

        def load(graph: onnx.ModelProto, name: str) -> Model:
            path = Path(folder) / f"{name}.onnx"
            onnxfile.write(onnxfile.with_spec(graph, network.spec), path)
            return verify.load_for_cpu(path)

        def drift(graph: onnx.ModelProto) -> float:
            return verify.drift(reference.logits, verify.run(load(graph, "try"), checking.images, BATCH).logits)

        int8 = int8_quantiser(network.detector, full, windows.images[:n]).within(max_drift, drift, print)
        graphs: dict[Precision, onnx.ModelProto] = {
            "fp32": full,
            "fp16": to_half(float32_graph(network.detector, "fp16")),
            "int8": int8.model,
        }
        for graph in graphs.values():
            narrow_indices(graph)
        models = {precision: load(graphs[precision], precision) for precision in graphs}
        times: dict[Precision, list[float]] = {precision: [] for precision in graphs}
        for k in range(rounds + 1):
            for precision in graphs:
                elapsed = seconds(models[precision], checking.images[:BATCH])
                if k:  # the first round warms up
                    times[precision].append(elapsed)
        for precision in graphs:
            outcome = verify.verify(models[precision], reference, checking)
            ratios = [full_s / own_s for full_s, own_s in zip(times["fp32"], times[precision], strict=True)]
            cells = [
                network.spec.architecture,
                precision,
                f"{models[precision].path.stat().st_size / 1e6:.1f}",
                f"{len(graphs[precision].graph.node)}",
                f"{outcome.worst_logits:.1e}",
                f"{outcome.worst_maps:.1e}",
                f"{outcome.drift:.3%}",
                f"{BATCH / statistics.median(times[precision]):.1f}",
                f"{statistics.median(ratios):.2f}",
                f"{len(int8.kept) if precision == 'int8' else 0}",
            ]
            print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("backbones", nargs="*", default=[])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-drift", type=float, default=MAX_DRIFT["int8"], help="of int8, as a share")
    options = parser.parse_args()
    today = datetime.datetime.now(datetime.UTC).date()
    print(
        f"{today}, {processor()}, {usable_cpus()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, onnx {onnx.__version__}, "
        f"onnxruntime {onnxruntime.__version__}; batch {BATCH}, {options.rounds} rounds in turns"
    )
    networks = [from_checkpoint(options.checkpoint)] if options.checkpoint else []
    names = options.backbones or ([] if networks else ["lambda", "swin"])
    for network in [*networks, *(untrained(name, "none", 0, ("human", "ai")) for name in names)]:
        measure(network, options.manifest, options.rounds, options.max_drift)


if __name__ == "__main__":
    main()
