"""Distillation: a student network is trained on the outputs of teacher networks.

Its targets mix the teachers' outputs for the same augmented image with the image's own label. Source: Hinton, Vinyals
and Dean, "Distilling the knowledge in a neural network", 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sonicscan.errors import ModelError
from sonicscan.spec import ModelSpec
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, as_input
from sonicscan_train.nets.ensemble import mean_of


@dataclass(frozen=True)
class Teacher:
    """A trained detector, and how much of the student's target is its output, 0..1."""

    detector: DetectorNet
    share: float

    @torch.no_grad()
    def blend(self, images: Tensor, targets: Tensor) -> Tensor:
        """Targets float32 [batch, classes] for images [batch, n_mels, frames]: the labels' and the teacher's."""
        probabilities = torch.softmax(self.detector(as_input(images)).float(), dim=1)
        return (1.0 - self.share) * targets + self.share * probabilities


def read_teacher(folders: Sequence[Path], share: float, student: ModelSpec) -> Teacher | None:
    """The mean of several checkpoints as a teacher; None without any.

    Raises:
        ModelError: a checkpoint that cannot be read, or with other classes or another AudioSpec than the student's.
    """
    if not folders:
        return None
    loaded = [checkpoint.load(folder) for folder in folders]
    for folder, (_, spec) in zip(folders, loaded, strict=True):
        if (spec.audio, spec.classes) != (student.audio, student.classes):
            raise ModelError(f"the teacher {folder} has another AudioSpec or other classes than the student.")
    temperatures, offsets = [spec.temperature for _, spec in loaded], [spec.offset for _, spec in loaded]
    return Teacher(mean_of([detector for detector, _ in loaded], temperatures, "teacher", offsets), share)
