"""The moving average of a network's weights, which then is the network that is validated and kept."""

from __future__ import annotations

import copy

import torch

from sonicscan_train.nets.backbones import Detector


class Averaged:
    """A copy of `model` whose weights follow it slowly.

    In the first steps the decay is (1 + n) / (10 + n), so that the random beginning is soon forgotten. Buffers,
    such as batch statistics, are averages already and are copied.

    Args:
        model: what to follow.
        decay: share of the old average that stays, each step; 0 makes this the model itself.
    """

    def __init__(self, model: Detector, decay: float) -> None:
        self._followed, self._decay = model, decay
        self.steps = 0
        self.model = copy.deepcopy(model).requires_grad_(False) if decay else model

    @torch.no_grad()
    def update(self) -> None:
        """Take one step towards the followed weights."""
        self.steps += 1
        if self._decay:
            decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
            for mine, new in zip(self.model.parameters(), self._followed.parameters(), strict=True):
                mine.lerp_(new, 1.0 - decay)
            for kept, latest in zip(self.model.buffers(), self._followed.buffers(), strict=True):
                kept.copy_(latest)
