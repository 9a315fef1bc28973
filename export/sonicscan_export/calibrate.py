"""Calibration scores of a converted model, and of a model at a new user's.

A threshold certifies a false-positive rate for the scores of one file. Another precision gives other scores, so
calibration is measured again on the file that will scan.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import sonicscan
from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import InputError, ReportError
from sonicscan.model.detector import Detector, Model
from sonicscan.report.metadata import ReportMetadata
from sonicscan.report.readers import read_report
from sonicscan.scoring.thresholds import CONFIDENCE, caught_at_rates, tracks_needed
from sonicscan.spec import UNKNOWN_WINDOWS, Calibration, Material, ModelSpec
from sonicscan.text import printable
from sonicscan_export import onnxfile
from sonicscan_export.data import CalibrationData
from sonicscan_export.tables import thresholds_of
from sonicscan_export.verify import agreement
from sonicscan_train.data.clips import Clip
from sonicscan_train.judge.calibration import one_clip_of_each_group
from sonicscan_train.judge.scoring import SCORING_BATCH, TrackLogits, scored, track_logits
from sonicscan_train.metrics import auc

Say = Callable[[str], None]
PLAN = WindowPlan()  # the scanner's default: what most scans will use
MIN_AGREEMENT = 0.99
# With fewer tracks than this, one track that changes sides is over one in a hundred.
_TRACKS_FOR_AGREEMENT = 100
_MAX_SKIPPED = 0.05


@dataclass(frozen=True)
class Rescored:
    """Tracks under the float32 file and the converted one.

    Attributes:
        spec: the converted model's, with its own calibration where the float32 model had one.
        facts: what changed, for provenance: track counts, agreement of verdicts, AUC of both, changes of scores.
    """

    spec: ModelSpec
    facts: dict[str, Any]


def rescore(reference: Model, converted: Model, data: CalibrationData, say: Say) -> Rescored:
    """Score the calibration tracks with both files.

    Raises:
        InputError: too many tracks cannot be read, or too few certify anything.
    """
    spec = converted.spec
    clips = [*data.human, *data.other]
    say(f"scoring {len(clips)} tracks of {data.name} with both models.")
    before, after, skipped = _score_both(reference, converted, clips)
    if skipped > _MAX_SKIPPED * len(clips):
        raise InputError(f"{skipped} of the {len(clips)} tracks of {data.name} cannot be scored; mend the manifest.")
    human = np.array([clip.label == "human" for clip, _ in before])
    old = np.array([score for _, score in before])
    new = np.array([score for _, score in after])
    # A certificate rests on independent draws, as the trainer's does: one track of each group.
    drawn = {clip.path for clip in one_clip_of_each_group([c for c, _ in before if c.label == "human"], seed=0)}
    independent = np.array([clip.path in drawn for clip, _ in before])
    if spec.calibration.n:
        what = f"{len(drawn)} tracks of {data.name}, one of each group, {PLAN} windows each"
        calibration = Calibration.of(new[independent].tolist(), what, ai_scores=new[~human].tolist(), windows=str(PLAN))
        spec = dataclasses.replace(spec, calibration=calibration, caught=caught_at_rates(calibration))
        check_enough(spec.calibration.n, 0.5, f"{data.name} has")
    # Each file is judged by its own thresholds, on the same tracks: that is how they will be used.
    old_spec = dataclasses.replace(
        spec, calibration=Calibration.of(old[independent].tolist()) if spec.calibration.n else spec.calibration
    )
    same = agreement(
        [thresholds_of(old_spec).verdict(float(s)) == "flagged" for s in old],
        [thresholds_of(spec).verdict(float(s)) == "flagged" for s in new],
    )
    changes = np.abs(new - old)
    facts: dict[str, Any] = {
        "data": data.name,
        "human_tracks": int(human.sum()),
        "other_tracks": int((~human).sum()),
        "skipped": skipped,
        "agreement": same,
        "score_change_mean": float(changes.mean()),
        "score_change_max": float(changes.max()),
        "auc_fp32": None,
        "auc": None,
    }
    if human.any() and not human.all():
        facts |= {"auc_fp32": auc(~human, old), "auc": auc(~human, new)}
    return Rescored(spec, facts)


def too_far(facts: dict[str, Any]) -> str:
    """What is wrong with a rescoring; empty where nothing is."""
    tracks = facts["human_tracks"] + facts["other_tracks"]
    if tracks >= _TRACKS_FOR_AGREEMENT and facts["agreement"] < MIN_AGREEMENT:
        return (
            f"only {facts['agreement']:.2%} of the verdicts on {tracks} tracks stay what they were in float32, "
            f"and {MIN_AGREEMENT:.0%} must; lower --max-drift, or use a higher precision"
        )
    return ""


def from_report(model_path: Path, report_path: Path, max_fpr: float) -> tuple[onnx.ModelProto, ModelSpec]:
    """A model with the calibration that a report of known-human tracks gives.

    Args:
        model_path: the model that made the report.
        report_path: a Parquet report of tracks that are all known to be by people.
        max_fpr: the false-positive rate that the tracks must be enough for.

    Raises:
        ModelError, ReportError: a file that cannot be read.
        InputError: another model's report, an untrained model, rows that are not `ok`, or too few tracks.
    """
    digest = onnxfile.digest(model_path)
    model = onnxfile.read(model_path)
    spec = onnxfile.read_spec(model, model_path)
    if spec.untrained:
        raise InputError(f"{model_path} is untrained: its scores mean nothing, and there is nothing to calibrate.")
    table = read_report(report_path)
    metadata = ReportMetadata.of(table.schema, report_path)
    if metadata.model_digest != digest:
        raise InputError(
            f"{report_path} was not made with {model_path} but with a model of digest "
            f"{(metadata.model_digest or 'unknown')[:12]}; scan the tracks with this model."
        )
    statuses = table.column("status").to_pylist()
    bad = [
        (path, status)
        for path, status in zip(table.column("path").to_pylist(), statuses, strict=True)
        if status != "ok"
    ]
    if bad:
        path, status = bad[0]
        raise InputError(
            f"{len(bad)} of {len(statuses)} rows of {report_path} are not ok, such as {printable(path)} ({status}); "
            "mend or --exclude those files and scan again with --since."
        )
    check_enough(len(statuses), max_fpr, f"{report_path} has")
    scores = table.column("score").to_pylist()
    if any(score is None or not math.isfinite(score) for score in scores):
        raise ReportError(f"{report_path} has ok rows without a score; it is damaged.")
    windows = metadata.windows or UNKNOWN_WINDOWS
    if windows in ("adaptive", UNKNOWN_WINDOWS):
        raise InputError(
            f"{report_path} was scanned with --windows {windows}, "
            "and a certificate holds for a fixed number of windows; scan the tracks again with --windows 12 or all."
        )
    what = f"{len(scores)} tracks of {report_path.name}, {windows} windows each"
    provenance = {
        **spec.provenance,
        "recalibrated": {"report": report_path.name, "tracks": len(scores), "windows": windows, "model_digest": digest},
    }
    calibration = Calibration.of(
        scores,
        what,
        # Scores of other windows are on another scale.
        ai_scores=spec.calibration.ai_scores if spec.calibration.windows == windows else (),
        windows=windows,
        material=Material.of(
            *(table.column(name).to_pylist() for name in ("codec", "sample_rate", "bandwidth_hz", "duration_s"))
        ),
    )
    return model, dataclasses.replace(
        spec,
        calibration=calibration,
        caught=caught_at_rates(calibration),
        provenance=provenance,
        tool_version=sonicscan.__version__,
    )


def check_enough(n: int, max_fpr: float, who: str) -> None:
    """Raise `InputError` unless `n` tracks certify a false-positive rate of `max_fpr`."""
    needed = tracks_needed(max_fpr)
    if n < needed:
        raise InputError(
            f"{who} {n} tracks, and a false-positive rate of {max_fpr:.3g} takes {needed} "
            f"to be certain of at {CONFIDENCE:.0%}; add tracks, or ask for a higher --max-fpr."
        )


def _score_both(
    reference: Model, converted: Model, clips: list[Clip]
) -> tuple[list[tuple[Clip, float]], list[tuple[Clip, float]], int]:
    """Scores under both models, from one decoding, and how many tracks have none."""
    detectors = [Detector(model, SCORING_BATCH) for model in (reference, converted)]
    classes = len(reference.spec.classes)
    skipped: list[str] = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        batch = np.ascontiguousarray(images.numpy())
        return torch.from_numpy(np.concatenate([d.logits(batch, len(batch)) for d in detectors], axis=1))

    before: list[tuple[Clip, float]] = []
    after: list[tuple[Clip, float]] = []
    tracks = track_logits(
        forward, clips, reference.spec.audio, PLAN, skipped=lambda clip, why: skipped.append(clip.path)
    )
    for track in tracks:
        for scores, logits in ((before, track.logits[:, :classes]), (after, track.logits[:, classes:])):
            half = TrackLogits(track.clip, logits, track.format)
            scores.append((track.clip, scored(half, converted.spec).score))
    return before, after, len(skipped)
