"""Distillation: a student network is trained on the outputs of teacher networks, and on their features.

Its targets mix the teachers' outputs for the same augmented image with the image's own label. Source: Hinton, Vinyals
and Dean, "Distilling the knowledge in a neural network", 2015. A second loss compares feature maps cell by cell, after
a linear projection of the student's (a hint). It gives a network of random weights much more to learn from in each
window than a label does. Source: Romero et al., "FitNets: hints for thin deep nets", 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sonicscan.errors import ModelError
from sonicscan.spec import ModelSpec
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, as_input
from sonicscan_train.nets.ensemble import mean_of


class Student(nn.Module):
    """A network in training, with the projection of its features that hints need.

    Args:
        detector: the network.
        hint_channels: channels of the teacher's feature map; 0 for no hints.
    """

    def __init__(self, detector: DetectorNet, hint_channels: int = 0) -> None:
        super().__init__()
        self.detector = detector
        self.projection = nn.Conv2d(detector.head.in_features, hint_channels, 1) if hint_channels else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits [B, K], and projected features [B, hint_channels, 8, w / 32] of images [B, 3, 256, w]."""
        features = self.detector.features(x)
        return self.detector.classify(features), None if self.projection is None else self.projection(features)


@dataclass(frozen=True)
class Teacher:
    """A trained detector, and what a student takes from it.

    Attributes:
        detector: in evaluation mode.
        share: of the student's target that is the teacher's output, 0..1.
        hint_weight: of the loss of features; 0 for none.
    """

    detector: DetectorNet
    share: float
    hint_weight: float = 0.0

    @property
    def hint_channels(self) -> int:
        """Channels of the features that a student imitates; 0 for no hints."""
        return self.detector.head.in_features if self.hint_weight else 0

    @torch.no_grad()
    def teach(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Targets float32 [B, K] for images [B, n_mels, w] (the labels' and the teacher's), and the teacher's features
        [B, C, 8, w / 32]."""
        features = self.detector.features(as_input(images))
        probabilities = torch.softmax(self.detector.classify(features).float(), dim=1)
        return (1.0 - self.share) * targets + self.share * probabilities, features


def hint_loss(projected: Tensor, features: Tensor) -> Tensor:
    """The squared error of the student's projected features, as a share of the variance of the teacher's.

    Args:
        projected, features: [B, C, h, w]. The variance is that over the batch and the cells.

    Returns:
        a scalar: 0 for equal features, 1 for the mean of each channel.
    """
    wanted = features.float()
    spread = (wanted - wanted.mean(dim=(0, 2, 3), keepdim=True)).square().mean()
    return (projected.float() - wanted).square().mean() / spread.clamp_min(1e-12)


def read_teacher(folders: Sequence[Path], share: float, hint_weight: float, student: ModelSpec) -> Teacher | None:
    """The mean of several checkpoints as a teacher; None without any.

    Raises:
        ModelError: a checkpoint that cannot be read, with other classes or another AudioSpec than the student's, or
            trained with the fold that the student leaves out.
    """
    if not folders:
        return None
    loaded = [checkpoint.load(folder) for folder in folders]
    for folder, (_, spec) in zip(folders, loaded, strict=True):
        if (spec.audio, spec.classes) != (student.audio, student.classes):
            raise ModelError(f"the teacher {folder} has another AudioSpec or other classes than the student.")
        own, left_out = spec.provenance.get("fold"), student.provenance.get("fold")
        if None not in (own, left_out) and own != left_out:
            raise ModelError(
                f"the teacher {folder} was trained without fold {own}, and so with fold {left_out}, which this run "
                "leaves out; take a teacher that was trained without it."
            )
    temperatures, offsets = [spec.temperature for _, spec in loaded], [spec.offset for _, spec in loaded]
    return Teacher(mean_of([detector for detector, _ in loaded], temperatures, "teacher", offsets), share, hint_weight)
