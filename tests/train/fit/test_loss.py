"""The loss: cross-entropy in two parts."""

from __future__ import annotations

import torch

from sonicscan_train.fit.loss import cross_entropy
from sonicscan_train.fit.windows import soft_targets

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * 3.0
TARGETS = soft_targets(torch.tensor([0, 1, 2, 3, 0, 2]), 4, 0.1)


def test_with_full_weight_it_is_plain_cross_entropy() -> None:
    assert torch.allclose(cross_entropy(LOGITS, TARGETS), torch.nn.functional.cross_entropy(LOGITS, TARGETS))


def test_without_weight_it_is_that_of_the_margin_and_blind_to_the_family() -> None:
    margins = torch.logsumexp(LOGITS[:, 1:], dim=1) - LOGITS[:, 0]
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(margins, 1.0 - TARGETS[:, 0])
    assert torch.allclose(cross_entropy(LOGITS, TARGETS, 0.0), wanted)
    swapped = TARGETS[:, [0, 2, 3, 1]]
    assert torch.allclose(cross_entropy(LOGITS, swapped, 0.0), wanted)
    assert not torch.allclose(cross_entropy(LOGITS, swapped, 0.3), cross_entropy(LOGITS, TARGETS, 0.3))


def test_two_classes_have_no_second_part() -> None:
    logits, targets = LOGITS[:, :2], soft_targets(torch.tensor([0, 1, 1, 0, 0, 1]), 2, 0.1)
    plain = torch.nn.functional.cross_entropy(logits, targets)
    assert torch.allclose(cross_entropy(logits, targets, 0.0), plain)
    assert torch.allclose(cross_entropy(logits, targets, 5.0), plain)
