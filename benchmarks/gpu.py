"""All figures of one GPU in one run of about ten minutes, into one JSON file; the table of docs/performance.md.

    python benchmarks/gpu.py [--device cuda|cpu] [--json FILE] [--write FILE] [--library FOLDER] [--minutes M]
    python benchmarks/gpu.py --read FILE --write docs/performance.md

Exports Lambda and Swin in fp32 and fp16 (random weights), takes the default model as it ships, and checks each against
the CPU. Measures windows a second from memory, whole scans, and the time to the first row. Each step is a separate
process. If a step fails or takes too long, the results have a note, and the other steps run. `--device cpu --quick`
tries every step, without Swin: on a CPU its export and its steps take longer than all others together.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from bench import placed
from gpu_model import ModelFigures, Rate
from gpu_scan import ScanFigures
from material import add_folders, exported
from paired import machine, parser

from sonicscan.machine import usable_cpus
from sonicscan.model.bundled import DEFAULT, chosen_model
from sonicscan_export import onnxfile
from sonicscan_export.precision import to_half

HERE = Path(__file__).parent
BEGIN, END = "<!-- gpu: begin -->", "<!-- gpu: end -->"
BACKBONES = ("lambda", "swin")


@dataclass
class Figures:
    """All that one run found; `failed` has a sentence for each step without a result."""

    machine: str
    gpu: str
    models: list[ModelFigures] = field(default_factory=list)
    scans: list[ScanFigures] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def gpu_name() -> str:
    """Name, memory and driver of the GPU."""
    if shutil.which("nvidia-smi") is None:
        return "no GPU"
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return (done.stdout.strip().splitlines() or ["no GPU"])[0]


def models(options: argparse.Namespace, backbones: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Files by backbone and precision; made once. The default model is measured as it ships, in int8."""
    found: dict[str, dict[str, Path]] = {}
    for backbone in backbones:
        print(f"{backbone} is exported", flush=True)
        full, half = exported(options, backbone)[1], options.work / f"{backbone}-fp16.onnx"
        if not half.is_file():
            model = onnxfile.read(full)
            onnxfile.write(onnxfile.with_spec(to_half(model), onnxfile.read_spec(model, full)), half)
        found[backbone] = {"fp32": full, "fp16": half}
    return found | {DEFAULT: {"int8": chosen_model(None)}}


class Steps:
    """Runs the programs of the steps until the time is over."""

    def __init__(self, options: argparse.Namespace, figures: Figures) -> None:
        self._options = options
        self._figures = figures
        self._ends = time.monotonic() + 60 * options.minutes

    def run(self, name: str, *arguments: object) -> bytes | None:
        """The JSON that a step left; None, and a note, where it left none."""
        left = self._ends - time.monotonic()
        what = " ".join(Path(str(value)).name for value in (name, *arguments))
        results = self._options.work / "step.json"
        results.unlink(missing_ok=True)
        command = [sys.executable, str(HERE / f"{name}.py"), *map(str, arguments), "--device", self._options.device]
        command += ["--work", str(self._options.work), "--json", str(results)]
        print(f"\n{what}", flush=True)
        why = "no time was left"
        if left > 0:
            try:
                done = subprocess.run(command, check=False, timeout=left)
                why = f"it ended with exit code {done.returncode}"
            except subprocess.TimeoutExpired:
                why = "the time was over"
        if results.exists():
            return bytes(results.read_bytes())
        self._figures.failed.append(f"{what}: {why}.")
        return None


def measure(options: argparse.Namespace) -> Figures:
    figures = Figures(machine(), gpu_name() if options.device != "cpu" else "no GPU: tried on the CPU")
    steps = Steps(options, figures)
    backbones = BACKBONES[:1] if options.quick else BACKBONES
    files = models(options, backbones)
    batches = "1,4" if options.quick else "16,32,64,128,256"
    rounds = ("--rounds", 1) if options.quick else ()
    checked = ("--windows", 16) if options.quick else ()
    folder = ("--library", options.library) if options.library else ()

    def model(backbone: str, precision: str, *more: object) -> None:
        reference = files[backbone].get("fp32", files[backbone][precision])
        arguments = (files[backbone][precision], reference, *rounds, *more)
        if content := steps.run("gpu_model", *arguments):
            figures.models.append(msgspec.json.decode(content, type=ModelFigures))

    def scan(backbone: str, precision: str, tracks: int, workers: int = 0) -> None:
        n = 8 if options.quick else tracks
        arguments = (files[backbone][precision], "--tracks", n, "--workers", workers or usable_cpus(), *folder)
        if content := steps.run("gpu_scan", *arguments, *rounds):
            figures.scans.append(msgspec.json.decode(content, type=ScanFigures))
        if options.json is not None:  # what a run that is cut off has found so far
            save(figures, options.json)

    for backbone, precisions in files.items():
        for precision in precisions:
            model(backbone, precision, "--batches", batches, *checked, *folder)
    scan("lambda", "fp16", 5000)
    scan(DEFAULT, "int8", 5000)
    if not options.quick:
        scan("lambda", "fp32", 2000)
        scan("swin", "fp16", 2000)
        for workers in (usable_cpus() // 4, usable_cpus() // 2):  # where decoding is the limit
            scan("lambda", "fp16", 1000, max(1, workers))
    for backbone in backbones:
        model(backbone, "fp16", "--tensorrt", "--batches", "4" if options.quick else "64")
    return figures


def save(figures: Figures, path: Path) -> None:
    path.write_text(json.dumps(dataclasses.asdict(figures), indent=1) + "\n", encoding="utf-8")


def table(figures: Figures) -> str:
    """The figures as Markdown."""
    rows = [f"{figures.machine}.", ""]
    rows += [
        "| model | margins drift | equal verdicts | best windows/s | at batch | of it, by way |",
        "|---|---|---|---|---|---|",
    ]
    for model in figures.models:
        if best := _best(model.rates):
            by_way = {way: _best([r for r in model.rates if r.way == way]) for way in (r.way for r in model.rates)}
            compared = ["", ""]
            if model.drift is not None and model.agreement is not None:
                compared = [f"{model.drift:.2%}", f"{model.agreement:.1%}"]
            cells = [model.model, *compared, f"{best.windows_s:.0f}", str(best.batch)]
            cells.append(", ".join(f"{way} {rate.windows_s:.0f}" for way, rate in by_way.items() if rate))
            rows.append(f"| {' | '.join(cells)} |")
    rows += ["", "| scan | tracks | workers | tracks/s | windows/s | GPU in use | cores in use | limit | first row |"]
    rows.append("|---|---|---|---|---|---|---|---|---|")
    for scan in figures.scans:
        gpu = "not measured" if scan.gpu_share is None else f"{scan.gpu_share:.0%}"
        rates = f"{scan.tracks_s:.1f} | {scan.windows_s:.0f} | {gpu} | {scan.cores_share:.0%} | {scan.bottleneck}"
        rows.append(f"| {scan.model} | {scan.tracks} | {scan.workers} | {rates} | {scan.first_row_s:.1f} s |")
    failed = dict.fromkeys(f"{r.way}: {r.why}" for model in figures.models for r in model.rates if r.why)
    rows += ["", *(f"- Not measured: {text}" for text in [*failed, *figures.failed])]
    return "\n".join(rows).rstrip()


def _best(rates: Sequence[Rate]) -> Rate | None:
    return max((rate for rate in rates if rate.windows_s), key=lambda rate: rate.windows_s or 0.0, default=None)


def main() -> None:
    arguments = parser(__doc__)
    add_folders(arguments, "library")
    arguments.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try it all")
    arguments.add_argument("--quick", action="store_true", help="little of everything: shows that it works")
    arguments.add_argument("--minutes", type=float, default=9.0, help="no step takes longer than this")
    arguments.add_argument("--read", type=Path, help="JSON of an earlier run, instead of measuring")
    arguments.add_argument("--write", type=Path, help="a Markdown file with the table's markers")
    options = arguments.parse_args()
    if options.device != "cpu" and options.read is None and gpu_name() == "no GPU":
        raise SystemExit("there is no GPU here (nvidia-smi finds none); --device cpu --quick tries it on the CPU.")
    options.work.mkdir(parents=True, exist_ok=True)
    figures = measure(options) if options.read is None else msgspec.json.decode(options.read.read_bytes(), type=Figures)
    if options.json is not None:
        save(figures, options.json)
    text = table(figures)
    print(f"\n{text}")
    if options.write is not None:
        before = options.write.read_text(encoding="utf-8")
        options.write.write_text(placed(before, figures.gpu, text, (BEGIN, END)), encoding="utf-8")
        print(f"The table is in {options.write}.")


if __name__ == "__main__":
    main()
