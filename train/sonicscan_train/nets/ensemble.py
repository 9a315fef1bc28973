"""Several detectors as one: the mean of their class maps, and so of their logits.

Each member's maps are first put on the member's own scale: (map - offset) / temperature for all classes but `human`.
So the members' margins can be averaged. With two classes, the margin of the result is the mean of the members' margins.
With several, it is at most that mean, because logsumexp is convex: where members disagree on the family, the score is
lower. The result is a `DetectorNet` itself. Its features are the members' features
side by side, and its head is the members' heads side by side. So whatever exports, verifies or converts a detector
takes an ensemble too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sonicscan.errors import ModelError
from sonicscan_train.nets.backbones import DetectorNet


class _SideBySide(nn.Module):
    """The feature maps of several detectors, concatenated: [B, 3, 256, 256] -> [B, sum of C, 8, 8]."""

    def __init__(self, members: Sequence[DetectorNet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.num_features = sum(member.head.in_features for member in members)

    def forward_features(self, x: Tensor) -> Tensor:
        return torch.cat([cast(DetectorNet, member).features(x) for member in self.members], dim=1)


def mean_of(
    members: Sequence[DetectorNet], temperatures: Sequence[float], name: str, offsets: Sequence[float] | None = None
) -> DetectorNet:
    """One detector, in evaluation mode, whose class maps are the mean of the members' maps on their own scales.

    Args:
        members: at least one, all with the same number of classes.
        temperatures: one for each member, positive.
        name: the architecture of the result.
        offsets: one for each member; None for zeros.

    Raises:
        ModelError: the members have different numbers of classes.
    """
    classes = members[0].head.out_features
    if any(member.head.out_features != classes for member in members):
        raise ModelError("the checkpoints have different numbers of classes, so their mean has no meaning.")
    detector = DetectorNet(name, _SideBySide(members), classes)
    shares = [1.0 / (len(members) * temperature) for temperature in temperatures]
    with torch.no_grad():
        heads = [share * member.head.weight for share, member in zip(shares, members, strict=True)]
        detector.head.weight.copy_(torch.cat(heads, dim=1))
        biases = []
        for share, member, offset in zip(shares, members, offsets or [0.0] * len(members), strict=True):
            taken = torch.full_like(member.head.bias, offset)
            taken[0] = 0.0  # a margin is that of the other classes against `human`
            biases.append(share * (member.head.bias - taken))
        detector.head.bias.copy_(torch.stack(biases).sum(dim=0))
    return detector.eval()
