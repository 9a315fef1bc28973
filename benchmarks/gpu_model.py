"""One model on one device: whether it agrees with the CPU, and windows a second from memory by batch size.

    python benchmarks/gpu_model.py MODEL REFERENCE [--device cuda] [--batches 16,64] [--tensorrt]

REFERENCE is the fp32 file of the same network; ONNX Runtime runs it on the CPU. `gpu.py` calls this program.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from material import add_folders, quiet_decoders, tracks
from paired import in_turns, median, parser, wall

from sonicscan.arrays import Float32
from sonicscan.audio.images import images_of
from sonicscan.audio.windows import WindowPlan
from sonicscan.machine import usable_cpus
from sonicscan.model.cuda import CUDA
from sonicscan.model.detector import BoundSession
from sonicscan.model.loading import Model, load_model
from sonicscan.model.sessions import Device
from sonicscan.scoring.aggregate import margin_of, window_margins
from sonicscan.scoring.thresholds import certified_thresholds
from sonicscan.spec import INPUT_NAME, OUTPUT_NAMES
from sonicscan_export.data import as_batch
from sonicscan_export.verify import drift

TENSORRT = "TensorrtExecutionProvider"
CHECKED_WINDOWS = 64
TURN_S = 0.4  # how long one way of running runs in one turn
LOGITS = OUTPUT_NAMES[0]

Run = Callable[[], object]


@dataclass(frozen=True)
class Rate:
    """Windows a second of one way of running a model; None with the reason where it does not run."""

    way: str
    batch: int
    windows_s: float | None = None
    why: str = ""


@dataclass(frozen=True)
class ModelFigures:
    """What was measured of one model.

    Attributes:
        drift: root mean square change of the window margins against the CPU, over their range.
        agreement: share of windows on the same side of the threshold as on the CPU.
        threshold: a score: the model's own at 1%, or the median score of a model without calibration.
            All three are None where nothing was compared.
    """

    model: str
    device: str
    drift: float | None
    agreement: float | None
    threshold: float | None
    rates: list[Rate]


def plain(model: Model, images: Float32) -> Run:
    """`session.run`: a new device buffer for each batch."""
    return lambda: model.session.run([LOGITS], {INPUT_NAME: images})


def bound(model: Model, images: Float32) -> Run:
    """The scanner's own way: one device buffer, into which each batch is copied."""
    session = BoundSession(model.session, model.device, images.shape)
    return lambda: session.logits(images)


def resident(model: Model, images: Float32) -> Run:
    """Without copies to the device: what the model alone takes."""
    binding = model.session.io_binding()
    value = ort.OrtValue.ortvalue_from_numpy(images, model.device.kind, model.device.index)
    binding.bind_ortvalue_input(INPUT_NAME, value)
    binding.bind_output(LOGITS, "cpu")
    return lambda: model.session.run_with_iobinding(binding)


def graph(model: Model, images: Float32) -> Run:
    """A CUDA graph: all kernels of a batch are started by one call."""
    device = (model.device.kind, model.device.index)
    session = _session(model.path, (CUDA, {"device_id": model.device.index, "enable_cuda_graph": "1"}))
    value = ort.OrtValue.ortvalue_from_numpy(images, *device)
    classes = len(model.spec.classes)
    outputs = {name: (len(images), classes, *rest) for name, rest in zip(OUTPUT_NAMES, ((), (8, 8)), strict=True)}
    binding = session.io_binding()
    binding.bind_ortvalue_input(INPUT_NAME, value)
    found = {}
    for name, shape in outputs.items():
        found[name] = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, *device)
        binding.bind_ortvalue_output(name, found[name])

    def run() -> object:
        value.update_inplace(images)
        session.run_with_iobinding(binding)
        return found[LOGITS].numpy()

    return run


def tensorrt(model: Model, images: Float32) -> Run:
    """NVIDIA's own compiler, which needs libraries that no extra of sonicscan installs."""
    half = {"trt_fp16_enable": "1"} if "fp16" in model.path.stem else {}
    session = _session(model.path, (TENSORRT, {"device_id": model.device.index, **half}))
    return bound(dataclasses.replace(model, session=session), images)


WAYS = {"session.run": plain, "bound": bound, "resident": resident, "CUDA graph": graph}


def _session(path: Path, provider: tuple[str, dict[str, object]]) -> ort.InferenceSession:
    name = provider[0]
    if name not in ort.get_available_providers():
        raise RuntimeError(f"this onnxruntime has no {name}")
    others = [other for other in (CUDA, "CPUExecutionProvider") if other != name]
    # Its own fallback prints the error and hides it from the results.
    session = ort.InferenceSession(path, providers=[provider, *others], enable_fallback=0)
    if session.get_providers()[0] != name:
        raise RuntimeError(f"{name} does not start: its libraries or the GPU are missing")
    return session


def reason(error: Exception) -> str:
    """The first line of a message, without the place in ONNX Runtime's source where it was raised."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^/onnxruntime_src/.*?\) ", "", line)[:300].rstrip(".")


def rates(model: Model, ways: Mapping[str, Callable[[Model, Float32], Run]], batch: int, rounds: int) -> list[Rate]:
    """The rate of each way with one batch size, measured in turns."""
    images = np.random.default_rng(0).standard_normal((batch, 3, 256, 256), dtype=np.float32)
    runs: dict[str, Run] = {}
    failed: dict[str, str] = {}
    for way, build in ways.items():
        try:
            run = build(model, images)
            for _ in range(3):  # cuDNN chooses its algorithms, and a CUDA graph is captured
                run()
            runs[way] = run
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base but Exception
            failed[way] = reason(error)

    def window_s(run: Run) -> float:
        calls, taken = 0, 0.0
        while taken < TURN_S:
            taken += wall(run)
            calls += 1
        return taken / (calls * batch)

    times = in_turns(*(functools.partial(window_s, run) for run in runs.values()), rounds=rounds, warm_up=0)
    found = [Rate(way, batch, 1.0 / median(times, k)) for k, way in enumerate(runs)]
    return found + [Rate(way, batch, why=why) for way, why in failed.items()]


def checked(model: Model, reference: Path, images: Float32) -> tuple[float, float, float]:
    """Drift, agreement and threshold of `ModelFigures` on images float32 [n, 3, 256, 256]."""
    cpu = load_model(reference, Device("cpu"), usable_cpus())
    before, after = (np.concatenate([m.outputs([LOGITS], part)[0] for part in _parts(images)]) for m in (cpu, model))
    spec = cpu.spec
    margins = [window_margins(logits, spec.temperature, spec.offset) for logits in (before, after)]
    if spec.calibration.n:
        limit = margin_of(certified_thresholds(spec.calibration, 0.01).flagged)
    else:
        limit = float(np.median(margins[0]))
    same = float(np.mean((margins[0] >= limit) == (margins[1] >= limit)))
    return drift(before, after), same, float(1.0 / (1.0 + np.exp(-limit)))


def _parts(images: Float32) -> list[Float32]:
    return [images[start : start + 16] for start in range(0, len(images), 16)]


def main() -> None:
    arguments = parser(__doc__)
    add_folders(arguments, "library")
    arguments.add_argument("model", type=Path)
    arguments.add_argument("reference", type=Path)
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--batches", default="16,32,64,128,256")
    arguments.add_argument("--windows", type=int, default=CHECKED_WINDOWS, help="how many the check compares")
    arguments.add_argument("--tensorrt", action="store_true", help="TensorRT alone, and no check")
    options = arguments.parse_args()
    model = load_model(options.model, Device.parse(options.device), usable_cpus())
    off, same, threshold = None, None, None
    if not options.tensorrt:
        with quiet_decoders():
            paths = tracks(options, [180.0] * 4, [".mp3", ".ogg"])
            plan = WindowPlan(options.windows // len(paths))
            images = np.stack([image for path in paths for image in images_of(bytes(path), model.spec.audio, plan)])
        off, same, threshold = checked(model, options.reference, as_batch(images))
        print(f"{model.path.stem} on {model.device}: margins drift by {off:.2%}, {same:.1%} of verdicts equal")
    ways = {"TensorRT": tensorrt} if options.tensorrt else WAYS
    measured = []
    for batch in map(int, options.batches.split(",")):
        for rate in rates(model, ways, batch, options.rounds or 3):
            measured.append(rate)
            print(f"  {rate.way:12} batch {batch:4}: {rate.windows_s or 0.0:8.1f} windows/s {rate.why}", flush=True)
    if options.json is not None:
        figures = ModelFigures(model.path.stem, str(model.device), off, same, threshold, measured)
        options.json.write_text(json.dumps(dataclasses.asdict(figures), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
