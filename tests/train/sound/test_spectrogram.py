"""Augmentation of spectrograms: finite, standardised, repeatable; a warp moves rows."""

from __future__ import annotations

import torch

from sonicscan.spec import AudioSpec
from sonicscan_train.sound.spectrogram import SpectrogramAugmentation, augment_decibels, warped

SPEC = AudioSpec()


def test_augmentation_is_finite_standardised_and_repeatable() -> None:
    decibels = 20 * torch.randn(6, 256, 128, generator=torch.Generator().manual_seed(1)) - 40
    decibels[0] = -100.0  # digital silence
    settings = SpectrogramAugmentation(p_warp=0.5)
    made = [augment_decibels(decibels, settings, SPEC, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert made[0].shape == decibels.shape
    assert torch.isfinite(made[0]).all()
    assert torch.equal(made[0], made[1])
    torch.testing.assert_close(made[0][1:].mean(dim=(1, 2)), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(made[0][1:].std(dim=(1, 2)), torch.ones(5), atol=1e-3, rtol=0)


def test_a_warp_moves_rows_up_and_down() -> None:
    decibels = torch.full((3, 256, 8), -80.0)
    decibels[:, 100] = 0.0
    decibels[:, 250] = -10.0
    moved = warped(decibels, torch.tensor([1.0, 1.1, 0.9]).view(3, 1, 1))
    assert torch.equal(moved[0], decibels[0])
    assert moved.argmax(dim=1).unique(dim=1).flatten().tolist() == [100, 110, 90]
    assert moved[1, 200:].max() < -60  # row 250 has left at the top
    assert moved[2, 225].min() == -10.0
    assert moved[2, 232:].max() == -80.0  # nothing comes in from above
