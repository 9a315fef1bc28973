"""One export, from checkpoint to file: convert, verify, calibrate again, and only then write."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

import sonicscan
from sonicscan.arrays import Float32
from sonicscan.errors import InputError, ModelError
from sonicscan.spec import ModelSpec
from sonicscan_export import attention, calibrate, data, onnxfile, precision, verify
from sonicscan_export.graph import layer_names, narrow_indices, to_onnx
from sonicscan_export.int4 import in_four_bits
from sonicscan_export.int8 import GraphQuantiser, Quantiser
from sonicscan_export.int8_linear import LinearQuantiser
from sonicscan_export.networks import Network
from sonicscan_export.precision import INT8_ARITHMETIC, Precision
from sonicscan_export.targets import check_target
from sonicscan_train.nets.backbones import DetectorNet

Say = Callable[[str], None]
MAX_DRIFT: dict[Precision, float] = {
    "fp32": 1e-3,
    "half-weights": 0.005,
    "byte-weights": 0.02,
    "fp16": 0.01,
    "int8": 0.05,
    "int4": 0.05,
}
_EXACT = ("fp32", "half-weights")  # their scores are equal but for rounding
_TOOLS = ("torch", "timm", "onnx", "onnxscript", "numpy")


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: the file.
        digest: its SHA-256.
        size: bytes.
        facts: of its graph.
        spec: its contract, verification included.
    """

    path: Path
    digest: str
    size: int
    facts: onnxfile.GraphFacts
    spec: ModelSpec


def export(
    network: Network,
    out: Path,
    wanted: Precision = "fp32",
    data_path: Path | None = None,
    max_drift: float | None = None,
    say: Say = lambda message: None,
) -> Exported:
    """Convert a network and write it as one ONNX file.

    Args:
        network: what to export.
        out: the file; it appears whole, after verification, or not at all.
        wanted: the precision of its weights and arithmetic.
        data_path: manifest of tracks for ranges, verification and calibration.
        max_drift: of margins, as a share of their range; None for the precision's own.
        say: gets a sentence for each step.

    Raises:
        InputError: options that make no sense, or data that do not suffice.
        ModelError: a network that cannot be exported, or a file that fails verification.
    """
    check_target(out)
    _check_scored_as(network.scored_as, wanted)
    allowed = MAX_DRIFT[wanted] if max_drift is None else max_drift
    calibration_data = _data(network, wanted, data_path)
    audio = network.spec.audio
    n_ranging = data.RANGING_WINDOWS if wanted in INT8_ARITHMETIC else 0
    if calibration_data is None:
        windows = data.synthetic_windows(audio, data.VERIFYING_WINDOWS)
        ranging = windows
    else:
        found = data.real_windows(
            calibration_data.ranging, audio, n_ranging + data.VERIFYING_WINDOWS, calibration_data.name
        )
        ranging, windows = _parted(found, n_ranging)
    say(f"exporting {network.spec.architecture}.")
    full = float32_graph(network.detector, wanted)
    reference = verify.reference_outputs(network.detector, windows.images)
    provenance: dict[str, Any] = {
        **network.spec.provenance,
        **network.origin,
        "precision": wanted,
        "audio_digest": audio.digest,
        "exporter": {name: importlib.metadata.version(name) for name in _TOOLS} | {"onnxruntime": _runtime()},
    }
    spec = dataclasses.replace(network.spec, tool_version=sonicscan.__version__)
    with tempfile.TemporaryDirectory(prefix="sonicscan-export-") as name:
        folder = Path(name)
        full_path = _saved(full, spec, folder / "fp32.onnx")
        model, conversion = _converted(network, full, full_path, wanted, ranging, windows, reference, allowed, say)
        provenance |= conversion
        narrow_indices(model)
        path = _saved(model, spec, folder / "converted.onnx")
        checks = _verified(path, reference, windows, wanted, allowed, say)
        provenance["verification"] = checks
        # The scores of cross-fitted members were taken in this precision already.
        calibrated = spec.calibration.n > 0 and network.scored_as is None
        if wanted != "fp32" and calibration_data is not None and calibrated:
            rescored = calibrate.rescore(
                verify.load_for_cpu(full_path), verify.load_for_cpu(path), calibration_data, say
            )
            spec = rescored.spec
            checks["tracks"] = rescored.facts
            _tell_tracks(rescored.facts, say)
            problem = calibrate.too_far(rescored.facts)
            if problem:
                raise ModelError(f"the {wanted} model fails verification: {problem}.")
    facts = onnxfile.facts(model)
    provenance["graph"] = dataclasses.asdict(facts)
    spec = dataclasses.replace(spec, provenance=provenance)
    final = onnxfile.with_spec(model, spec)
    digest = onnxfile.write(final, out)
    return Exported(out, digest, out.stat().st_size, facts, spec)


def _data(network: Network, wanted: Precision, path: Path | None) -> data.CalibrationData | None:
    if path is not None:
        return data.read_calibration_data(path)
    if wanted in INT8_ARITHMETIC:
        raise InputError(f"{wanted} takes the ranges of activations from real sound: give --calibration-data MANIFEST.")
    # Members that were cross-fitted have scores of this precision; for fp16, overflow must be looked for in real sound.
    changes = wanted == "fp16" or (wanted not in _EXACT and network.scored_as is None)
    if changes and network.spec.calibration.n:
        raise InputError(
            f"{wanted} changes scores, so the model's thresholds must be measured again: "
            "give --calibration-data MANIFEST."
        )
    return None


def _check_scored_as(scored_as: str | None, wanted: Precision) -> None:
    if scored_as is None or scored_as == wanted or (scored_as in _EXACT and wanted in _EXACT):
        return
    raise InputError(
        f"cross-fitting scored the members as {scored_as}, and {wanted} gives other scores: "
        f"use --precision {scored_as}, or cross-fit members that were exported as {wanted}."
    )


def _parted(windows: data.WindowSet, n: int) -> tuple[data.WindowSet, data.WindowSet]:
    """The first `n` windows and the rest: ranges are not verified on what they were taken from."""
    rest = windows.images[n:]
    what = f"{len(rest)} of {windows.what}" if n else windows.what
    return (
        dataclasses.replace(windows, images=windows.images[:n]),
        dataclasses.replace(windows, images=rest, what=what),
    )


def _saved(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> Path:
    onnxfile.write(onnxfile.with_spec(model, spec), path)
    return path


def _converted(
    network: Network,
    full: onnx.ModelProto,
    full_path: Path,
    wanted: Precision,
    ranging: data.WindowSet,
    windows: data.WindowSet,
    reference: verify.Outputs,
    allowed: float,
    say: Say,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph in the precision wanted, and how it came about."""
    if wanted == "fp32":
        return full, {}
    if wanted in ("half-weights", "byte-weights"):
        return precision.store_small(full, in_bytes=wanted == "byte-weights"), {}
    if wanted == "fp16":
        largest = precision.largest_activation(network.detector, windows.images)
        if largest > precision.LARGEST_ACTIVATION:
            raise ModelError(
                f"fp16 would overflow: a layer gives values up to {largest:.3g}, and {precision.LARGEST_ACTIVATION:g} "
                "leaves the least margin that is safe; use int8 or fp32."
            )
        return precision.to_half(full), {"fp16": {"largest_activation": largest, "float32_layers": ["head"]}}
    say(f"quantising on {len(ranging.images)} windows.")
    quantiser = int8_quantiser(network.detector, full, ranging.images)
    scratch = full_path.with_name("candidate.onnx")

    def measure(candidate: onnx.ModelProto) -> float:
        model = verify.load_for_cpu(_saved(candidate, network.spec, scratch))
        return verify.drift(reference.logits, verify.run(model, windows.images, 8).logits)

    names = layer_names(quantiser.model)
    if network.scored_as is None:
        quantised = quantiser.within(allowed, measure, say)
    else:
        # The members' scores count, so the mean has the arithmetic of the members.
        known = {name: node for node, name in names.items()}
        unknown = [name for name in network.float32_layers if name not in known]
        fixed = [names[node] for node in quantiser.fixed if names[node] not in network.float32_layers]
        if unknown or fixed:
            raise InputError(
                "the cross-fitted members and their mean cannot keep the same layers in float32 "
                f"({(unknown + fixed)[0]}); export and cross-fit the members again."
            )
        quantised = quantiser.keeping([known[name] for name in network.float32_layers], measure)
    facts: dict[str, Any] = {
        "layers": len(quantiser.layers),
        "float32_layers": ["head", *(names[node] for node in quantised.kept)],
        "ranging_windows": len(ranging.images),
        "weights": "symmetric, per channel, 7 bits",
    }
    if wanted == "int8":
        return quantised.model, {"int8": facts}
    model, facts["int4_layers"] = in_four_bits(quantised.model)
    return model, {"int8": facts}


def float32_graph(detector: DetectorNet, wanted: Precision) -> onnx.ModelProto:
    """A network's graph in float32, from which the precision is made.

    Window attention is one operator, which is faster on CPUs. fp16 is for GPUs and leaves it as it is, because the
    operator has not been measured there.
    """
    if wanted != "fp16" and attention.has_window_attention(detector):
        return to_onnx(attention.with_fused_attention(detector), attention.OPSET)
    return to_onnx(detector)


def int8_quantiser(detector: DetectorNet, full: onnx.ModelProto, images: Float32) -> Quantiser:
    """The quantiser that suits a network: linear layers alone beside window attention, else the whole graph.

    Args:
        detector: the network.
        full: its `float32_graph` for int8.
        images: float32 [n, n_mels, n_frames], real windows.
    """
    return LinearQuantiser(full, images) if attention.has_window_attention(detector) else GraphQuantiser(full, images)


def _verified(
    path: Path, reference: verify.Outputs, windows: data.WindowSet, wanted: Precision, allowed: float, say: Say
) -> dict[str, Any]:
    """Verify on the CPU, and on CUDA where there is one; what was found, for provenance."""
    outcome = verify.verify(verify.load_for_cpu(path), reference, windows)
    _tell(outcome, windows, say)
    verify.check(outcome, wanted, allowed)
    on_cuda, why_not = verify.verify_on_cuda(path, reference, windows)
    if on_cuda is None:
        say(f"not verified on CUDA: {why_not}")
    else:
        _tell(on_cuda, windows, say)
        verify.check(on_cuda, wanted, allowed)
    return {
        "reference": "PyTorch, float32",
        "windows": windows.what,
        "real_windows": windows.real,
        "max_drift": allowed,
        "cpu": outcome.to_json(),
        "cuda": on_cuda.to_json() if on_cuda is not None else {"skipped": why_not},
    }


def _tell(outcome: verify.Verification, windows: data.WindowSet, say: Say) -> None:
    say(f"verified on {outcome.device} against PyTorch, {windows.what}:")
    for c in outcome.comparisons:
        say(f"  batch {c.batch:2}: logits within {c.logits:.1e}, class maps within {c.maps:.1e} of their scale")
    side = f"{outcome.agreement:.1%} of windows on the same side of {outcome.threshold:.4f}"
    say(f"  margins drift by {outcome.drift:.3%} of their range; {side}")


def _tell_tracks(facts: dict[str, Any], say: Say) -> None:
    tracks = facts["human_tracks"] + facts["other_tracks"]
    say(
        f"  {tracks} tracks: {facts['agreement']:.2%} of verdicts as in fp32; scores change by "
        f"{facts['score_change_mean']:.4f} on average, {facts['score_change_max']:.4f} at most"
    )
    if facts["auc"] is not None:
        say(f"  AUC {facts['auc_fp32']:.4f} in fp32, {facts['auc']:.4f} after")


def _runtime() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)
