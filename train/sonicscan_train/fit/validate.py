"""Validation after each epoch: cross-entropy of windows, AUC of tracks, shared out over the processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from sonicscan.arrays import Float64
from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import InputError
from sonicscan.spec import ModelSpec
from sonicscan_train.data.clips import Clip, class_of
from sonicscan_train.fit.run import FitConfig
from sonicscan_train.judge.scoring import scored, track_logits
from sonicscan_train.metrics import auc, group_weights
from sonicscan_train.nets.backbones import DetectorNet


@dataclass(frozen=True)
class Validation:
    """The figures of a model on the validation part.

    Attributes:
        loss: mean cross-entropy of windows.
        auc: of tracks, with equal weight for every group.
        accuracy: of tracks, at score 0.5.
        truth, scores: of the tracks.
    """

    loss: float
    auc: float
    accuracy: float
    truth: npt.NDArray[np.bool_]
    scores: Float64

    def figures(self) -> dict[str, float]:
        """By the names that metrics.jsonl has."""
        return {"valid_loss": self.loss, "valid_auc": self.auc, "valid_accuracy": self.accuracy}


def validate(
    model: DetectorNet,
    clips: Sequence[Clip],
    spec: ModelSpec,
    config: FitConfig,
    accelerator: Accelerator,
    workers: int,
    skipped: Callable[[str], None],
) -> Validation:
    """Score the clips with `model`, which must be in evaluation mode; every process gets the whole result.

    Raises:
        InputError: no track of a class could be scored.
    """
    windows = config.recipe.valid_windows
    plan = None if windows is None else WindowPlan(windows)

    def forward(images: torch.Tensor) -> torch.Tensor:
        with accelerator.autocast():
            logits: torch.Tensor = model(images.to(accelerator.device))
        return logits.float()

    own = clips[accelerator.process_index :: accelerator.num_processes]
    rows: list[tuple[float, int, bool, float, str]] = []
    for track in track_logits(
        forward,
        own,
        spec.audio,
        plan,
        workers=workers,
        skipped=lambda clip, why: skipped(f"not validated on: {clip.path}: {why}"),
    ):
        target = spec.classes.index(class_of(track.clip, config.classes, config.families))
        losses = scipy.special.logsumexp(track.logits, axis=1) - track.logits[:, target]
        rows.append(
            (float(losses.sum()), len(losses), not track.clip.human, scored(track, spec).score, track.clip.group)
        )
    rows = gather_object(rows)
    truth = np.array([row[2] for row in rows], dtype=bool)
    scores = np.array([row[3] for row in rows])
    if len(set(truth.tolist())) < 2:
        raise InputError("validation needs tracks by people and by AI that can be scored.")
    return Validation(
        loss=sum(row[0] for row in rows) / sum(row[1] for row in rows),
        auc=auc(truth, scores, group_weights([row[4] for row in rows])),
        accuracy=float(np.mean((scores >= 0.5) == truth)),
        truth=truth,
        scores=scores,
    )
