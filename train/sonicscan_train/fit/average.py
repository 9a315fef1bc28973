"""The moving average of a network's weights; the averaged network is validated and kept."""

from __future__ import annotations

import copy

import torch

from sonicscan_train.nets.backbones import DetectorNet


class Averaged:
    """A copy of `model` with the moving average of its weights and batch statistics. In the first steps the decay is (1
    + n) / (10 + n), so that the initial weights lose their influence soon.

    Args:
        model: what to follow.
        decay: share of the old average that stays, each step; 0 makes this the model itself.
    """

    def __init__(self, model: DetectorNet, decay: float) -> None:
        self._followed, self._decay = model, decay
        self.steps = 0
        self.model = copy.deepcopy(model).requires_grad_(False) if decay else model

    @torch.no_grad()
    def update(self) -> None:
        """Take one step towards the followed weights."""
        self.steps += 1
        if not self._decay:
            return
        decay = min(self._decay, self.steps / (9 + self.steps))
        latest = self._followed.state_dict()
        for name, mine in self.model.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(latest[name], 1.0 - decay)
            else:
                mine.copy_(latest[name])
