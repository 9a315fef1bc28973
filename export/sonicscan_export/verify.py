"""Compares the outputs of the ONNX file with those of the network. Every export does this and stores the result in the
file. The reference is the PyTorch network in float32. The file runs in ONNX Runtime through the scanner's own loader,
as in a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sonicscan.arrays import Float32
from sonicscan.errors import DeviceError, ModelError
from sonicscan.machine import usable_cpus
from sonicscan.model.loading import Model, load_model
from sonicscan.model.sessions import Device
from sonicscan.scoring.aggregate import score_of, window_margins
from sonicscan.spec import INPUT_NAME, OUTPUT_NAMES, ModelSpec
from sonicscan_export.data import WindowSet, as_batch
from sonicscan_export.tables import thresholds_of
from sonicscan_train.nets.backbones import DetectorNet

BATCHES = (1, 7, 32)
FP32_TOLERANCE = 1e-4
CUDA_TOLERANCE = 1e-2  # of drift: GPUs multiply float32 in TF32, with 10 bits of mantissa
SUM_TOLERANCE = 1e-5
_TORCH_BATCH = 8


@dataclass(frozen=True)
class Outputs:
    """`logits` float32 [n, classes] and `class_maps` float32 [n, classes, 8, 8] of the same windows."""

    logits: Float32
    maps: Float32


@dataclass(frozen=True)
class Comparison:
    """A run of the file beside the reference.

    Attributes:
        batch: windows at a time.
        logits: largest error of a logit, over the largest magnitude of a reference logit.
        maps: the same of class maps.
        sum: largest difference of a logit from the mean of its map, over the same magnitude of logits.
    """

    batch: int
    logits: float
    maps: float
    sum: float


@dataclass(frozen=True)
class Verification:
    """The outcome on one execution provider.

    Attributes:
        device: `cpu` or `cuda:N`.
        comparisons: by batch size.
        drift: root mean square change of the window margins, over the range of the reference margins.
        agreement: share of windows on the same side of the threshold as the reference.
        threshold: that threshold, a score.
    """

    device: str
    comparisons: tuple[Comparison, ...]
    drift: float
    agreement: float
    threshold: float

    @property
    def worst_logits(self) -> float:
        """Largest relative error of a logit over all batch sizes."""
        return max(c.logits for c in self.comparisons)

    @property
    def worst_maps(self) -> float:
        """Largest relative error of a class map over all batch sizes."""
        return max(c.maps for c in self.comparisons)

    def to_json(self) -> dict[str, Any]:
        """For the file's provenance."""
        return asdict(self)


def reference_outputs(detector: DetectorNet, images: Float32) -> Outputs:
    """The outputs of the PyTorch network for images float32 [n, n_mels, n_frames]."""
    logits, maps = [], []
    detector.eval()
    with torch.inference_mode():
        for start in range(0, len(images), _TORCH_BATCH):
            features = detector.features(torch.from_numpy(as_batch(images[start : start + _TORCH_BATCH])))
            logits.append(detector.classify(features).numpy())
            maps.append(detector.localise(features).numpy())
    return Outputs(np.concatenate(logits), np.concatenate(maps))


def load_for_cpu(path: Path) -> Model:
    """The file as the scanner loads it, on the CPU, with all the processors this process may use."""
    return load_model(path, Device("cpu"), usable_cpus())


def run(model: Model, images: Float32, batch: int) -> Outputs:
    """The outputs of the file for images, `batch` at a time."""
    parts = [
        model.session.run(list(OUTPUT_NAMES), {INPUT_NAME: as_batch(images[start : start + batch])})
        for start in range(0, len(images), batch)
    ]
    return Outputs(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def verify(model: Model, reference: Outputs, windows: WindowSet) -> Verification:
    """Compare a loaded file with the reference, in batches of 1, 7 and 32 that together take all windows.

    Raises:
        ModelError: an output that is not finite.
    """
    logits_scale = _scale(reference.logits)
    maps_scale = _scale(reference.maps)
    comparisons = []
    found = []
    start = 0
    for batch in BATCHES:
        part = slice(start, start + batch)
        start += batch
        outputs = run(model, windows.images[part], batch)
        if not (np.isfinite(outputs.logits).all() and np.isfinite(outputs.maps).all()):
            raise ModelError(f"the converted model gives numbers that are not finite on {model.device}.")
        found.append(outputs.logits)
        comparisons.append(
            Comparison(
                batch=batch,
                logits=_largest(outputs.logits, reference.logits[part]) / logits_scale,
                maps=_largest(outputs.maps, reference.maps[part]) / maps_scale,
                sum=_largest(outputs.maps.mean(axis=(2, 3), dtype=np.float64), outputs.logits) / logits_scale,
            )
        )
    threshold = thresholds_of(model.spec).flagged
    return Verification(
        device=str(model.device),
        comparisons=tuple(comparisons),
        drift=drift(reference.logits, np.concatenate(found)),
        agreement=_agreement(reference.logits, np.concatenate(found), model.spec, threshold),
        threshold=threshold,
    )


def check(verification: Verification, precision: str, max_drift: float) -> None:
    """Raises an error unless the file's outputs are within the tolerance of its precision.

    Raises:
        ModelError: an error over tolerance; the message says which.
    """
    where = f"the {precision} model on {verification.device}"
    worst = max(c.sum for c in verification.comparisons)
    if worst > SUM_TOLERANCE:
        raise ModelError(f"{where} fails verification: maps add up to logits only within {worst:.1e} of their scale.")
    exact = precision == "fp32" and verification.device == "cpu"
    for name, error in (("logits", verification.worst_logits), ("class maps", verification.worst_maps)):
        if exact and error > FP32_TOLERANCE:
            raise ModelError(
                f"{where} fails verification: {name} differ from PyTorch's by {error:.1e} of their scale, "
                f"and {FP32_TOLERANCE:.0e} is allowed."
            )
    allowed = max_drift if verification.device == "cpu" else max(max_drift, CUDA_TOLERANCE)
    if verification.drift > allowed:
        raise ModelError(
            f"{where} fails verification: margins drift by {verification.drift:.2%} of their range, "
            f"and {allowed:.2%} is allowed (--max-drift)."
        )


def verify_on_cuda(path: Path, reference: Outputs, windows: WindowSet) -> tuple[Verification | None, str]:
    """The same comparison on a GPU, or None and the reason why there was none."""
    try:
        model = load_model(path, Device("cuda"))
    except DeviceError as error:
        return None, str(error)
    return verify(model, reference, windows), ""


def drift(reference: npt.ArrayLike, logits: npt.ArrayLike) -> float:
    """Root mean square change of the margins, over the range of the reference's; both [windows, classes]."""
    before, after = window_margins(reference, 1.0), window_margins(logits, 1.0)
    change = float(np.sqrt(np.mean((after - before) ** 2)))
    return change / max(float(np.ptp(before)), 1e-9)


def agreement(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Share of verdicts that are the same."""
    return float(np.mean(np.asarray(before) == np.asarray(after)))


def _agreement(reference: Float32, logits: Float32, spec: ModelSpec, threshold: float) -> float:
    verdicts = [
        [score_of(float(m)) >= threshold for m in window_margins(values, spec.temperature, spec.offset)]
        for values in (reference, logits)
    ]
    return agreement(verdicts[0], verdicts[1])


def _largest(values: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    return float(np.max(np.abs(np.asarray(values, dtype=np.float64) - np.asarray(reference, dtype=np.float64))))


def _scale(values: Float32) -> float:
    return max(float(np.abs(values).max()), 1e-9)
