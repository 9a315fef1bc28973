"""A one-class term of the head: how much the features of a window point where those of people's music point.

A network learns what separates people's music from the generators that it was trained on. Music by another generator
may have little of that, and yet be unlike the music by people. The term compares directions, and only with people's
music:

    q = W (mean over the cells of f  -  mean of the training windows)      whitened by the largest principal components
    term = scale x cos(q, mean direction of people's windows)

It is added to the logit of `human`. A cell contributes its own share of the dot product, divided by the length of the
window's q. So the mean over the cells is the term itself, and class maps still add up to the logits.

Sources: the direction of whitened features as a measure of likeness is that of speaker verification (Garcia-Romero and
Espy-Wilson 2011, "Analysis of i-vector length normalization in speaker recognition systems").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sonicscan.arrays import Bool, Float64
from sonicscan.errors import InputError

_SHORTEST = 1e-6  # length of q that is divided by


class OneClassTerm(nn.Module):
    """The term of one network.

    Args:
        channels: of the feature map.
        rank: principal components.
    """

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("whitening", torch.zeros(rank, channels))
        self.register_buffer("origin", torch.zeros(rank))  # of the whitened features: W x mean
        self.register_buffer("direction", torch.zeros(rank))  # length 1
        self.register_buffer("scale", torch.zeros(()))
        self.whitening: Tensor
        self.origin: Tensor
        self.direction: Tensor
        self.scale: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """The contribution of each cell: [B, C, 8, 8] -> [B, 8, 8]; the mean over the cells is the term."""
        q = F.linear(features.mean(dim=(2, 3)), self.whitening, -self.origin)
        kernel = (self.direction @ self.whitening)[None, :, None, None]
        along = F.conv2d(features, kernel, -(self.direction @ self.origin)[None])[:, 0]
        length = torch.linalg.vector_norm(q, dim=1).clamp(min=_SHORTEST)
        cells: Tensor = self.scale * along / length[:, None, None]
        return cells


class OneClassTerms(nn.Module):
    """The terms of several networks whose features lie side by side; networks without a term contribute nothing.

    Args:
        parts: channels of each network, its term or None, and the weight of the term.
    """

    def __init__(self, parts: Sequence[tuple[int, OneClassTerm | None, float]]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(term for _, term, _ in parts if term is not None)
        ends = np.cumsum([channels for channels, _, _ in parts]).tolist()
        self._places = [
            (end - channels, end, weight)
            for end, (channels, term, weight) in zip(ends, parts, strict=True)
            if term is not None
        ]

    def forward(self, features: Tensor) -> Tensor:
        """As `OneClassTerm.forward`."""
        found = [
            weight * term(features[:, start:end])
            for term, (start, end, weight) in zip(self.terms, self._places, strict=True)
        ]
        return torch.stack(found).sum(dim=0)


def fit_term(features: Float64, margins: Float64, human: Bool, rank: int, share: float) -> OneClassTerm:
    """The term for a network, from its training windows.

    Args:
        features: float64 [windows, C], means of the feature maps over their cells.
        margins: float64 [windows], the network's own.
        human: bool [windows], whether they are by people.
        rank: principal components; at most C.
        share: of the term in the sum: the margins' standard deviation counts 1 - share, that of the term share.

    Raises:
        InputError: too few windows for that rank, or no window by people.
    """
    if not 0 < rank <= min(features.shape[1], len(features) - 1) or not human.any():
        raise InputError(
            f"{len(features)} windows of {features.shape[1]} features, {int(human.sum())} by people, do not give "
            f"{rank} principal components; give more tracks or a smaller --rank."
        )
    mean = features.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(features.T))
    largest = np.argsort(values)[::-1][:rank]
    whitening = (vectors[:, largest] / np.sqrt(np.maximum(values[largest], np.finfo(np.float64).tiny))).T
    q = (features - mean) @ whitening.T
    unit = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), _SHORTEST)
    direction = unit[human].mean(axis=0)
    direction /= np.linalg.norm(direction)
    scale = share / (1.0 - share) * margins.std() / (unit @ direction).std()
    term = OneClassTerm(features.shape[1], rank)
    found = {"whitening": whitening, "origin": whitening @ mean, "direction": direction, "scale": np.array(scale)}
    term.load_state_dict({name: torch.from_numpy(value).float() for name, value in found.items()})
    return term
