"""Means of a network's weights over steps and over epochs; the averaged network is validated and kept."""

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
        _move(self.model, self._followed, 1.0 - min(self._decay, self.steps / (9 + self.steps)))


class EpochMean:
    """The mean of a network's weights and batch statistics at the ends of several epochs.

    Weights that are averaged while the learning rate is still high lie in a flatter minimum than those of one moment.
    Such a network detects more in data from unseen sources. Sources: Izmailov et al., "Averaging weights leads to wider
    optima", 2018; Cha et al., "SWAD: domain generalization by seeking flat minima", 2021.

    Args:
        model: a network of the same architecture; its weights do not count.
    """

    def __init__(self, model: DetectorNet) -> None:
        self.epochs = 0
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def add(self, model: DetectorNet) -> None:
        """Count the weights of another epoch."""
        self.epochs += 1
        _move(self.model, model, 1.0 / self.epochs)


def _move(model: DetectorNet, target: DetectorNet, share: float) -> None:
    """Moves all numbers of `model` by `share` of the way to those of `target`; counters are copied."""
    latest = target.state_dict()
    for name, mine in model.state_dict().items():
        if mine.is_floating_point():
            mine.lerp_(latest[name], share)
        else:
            mine.copy_(latest[name])
