"""The loss of a detector: cross-entropy of `human` against the rest, and within the rest."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, family_weight: float = 1.0) -> Tensor:
    """The mean cross-entropy of a batch, in two parts.

    The first part is that of the margin, logsumexp of the other classes against `human`. The second part is that of the
    other classes among themselves. By the chain rule of probabilities, their sum is the cross-entropy over all classes.
    A lower weight of the second part reduces the influence of the families of generators on the features. For two
    classes the second part is zero.

    Args:
        logits: float32 [batch, classes], class 0 `human`.
        targets: float32 [batch, classes]; each row sums to 1.
        family_weight: of the second part.

    Returns:
        a scalar, in nats.
    """
    log_all = torch.log_softmax(logits, dim=1)
    log_families = torch.log_softmax(logits[:, 1:], dim=1)
    human = targets[:, 0] * log_all[:, 0]
    others = targets[:, 1:].sum(dim=1) * torch.logsumexp(log_all[:, 1:], dim=1)
    families = (targets[:, 1:] * log_families).sum(dim=1)
    return -(human + others + family_weight * families).mean()
