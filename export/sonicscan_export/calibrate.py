"""Measures the calibration scores of a converted model.

A threshold certifies a false-positive rate for the scores of one file. Another precision gives other scores, so
calibration is measured again on the file that will scan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import InputError
from sonicscan.model.detector import Detector
from sonicscan.model.loading import Model
from sonicscan.spec import Calibration, ModelSpec
from sonicscan_export.data import CalibrationData
from sonicscan_export.recalibrate import check_enough
from sonicscan_export.tables import thresholds_of
from sonicscan_export.verify import agreement
from sonicscan_train.data.clips import Clip
from sonicscan_train.judge.calibration import calibration_of, caught_of, one_of_each_group
from sonicscan_train.judge.scoring import SCORING_BATCH, TrackLogits, scored, track_logits
from sonicscan_train.metrics import auc

Say = Callable[[str], None]
PLAN = WindowPlan()  # the scanner's default: what most scans will use
MIN_AGREEMENT = 0.99
# With fewer tracks than this, one changed verdict is more than 1%.
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
        raise InputError(f"{skipped} of the {len(clips)} tracks of {data.name} cannot be scored; correct the manifest.")
    human = np.array([track.clip.human for track in before])
    old, new = (np.array([scored(track, spec).score for track in tracks]) for tracks in (before, after))
    # A certificate needs independent draws, as in training: one track of each group.
    people, ai = (one_of_each_group([t for t in after if t.clip.human is of_people], 0) for of_people in (True, False))
    drawn = {track.clip.path for track in people}
    independent = np.array([track.clip.path in drawn for track in before])
    if spec.calibration.n:
        what = f"{len(drawn)} tracks of {data.name}, one of each group, {PLAN} windows each"
        calibration = calibration_of(people, ai, spec, data=what, windows=str(PLAN))
        spec = dataclasses.replace(spec, calibration=calibration)
        spec = dataclasses.replace(spec, caught=caught_of(ai, spec))
        check_enough(spec.calibration.n, 0.5, f"{data.name} has")
    # Each file gets verdicts by its own thresholds, on the same tracks, as in later scans.
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
    """Describes why a rescoring fails; empty if it passes."""
    tracks = facts["human_tracks"] + facts["other_tracks"]
    if tracks >= _TRACKS_FOR_AGREEMENT and facts["agreement"] < MIN_AGREEMENT:
        return (
            f"only {facts['agreement']:.2%} of the verdicts on {tracks} tracks are as in float32, "
            f"and {MIN_AGREEMENT:.0%} must; lower --max-drift, or use a higher precision"
        )
    return ""


def _score_both(
    reference: Model, converted: Model, clips: list[Clip]
) -> tuple[list[TrackLogits], list[TrackLogits], int]:
    """Logits of both models, from one decoding, and how many tracks have none."""
    detectors = [Detector(model, SCORING_BATCH) for model in (reference, converted)]
    classes = len(reference.spec.classes)
    skipped: list[str] = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        batch = np.ascontiguousarray(images.numpy())
        return torch.from_numpy(np.concatenate([d.logits(batch, len(batch)) for d in detectors], axis=1))

    before: list[TrackLogits] = []
    after: list[TrackLogits] = []
    tracks = track_logits(
        forward, clips, reference.spec.audio, PLAN, skipped=lambda clip, why: skipped.append(clip.path)
    )
    for track in tracks:
        before.append(dataclasses.replace(track, logits=track.logits[:, :classes]))
        after.append(dataclasses.replace(track, logits=track.logits[:, classes:]))
    return before, after, len(skipped)
