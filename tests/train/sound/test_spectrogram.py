"""Augmentation of spectrograms: finite, standardised, repeatable; a warp moves rows, and a timbre
is that of another window."""

from __future__ import annotations

import torch

from sonicscan.spec import AudioSpec
from sonicscan_train.sound.spectrogram import SpectrogramAugmentation, augment_decibels, retimbred, warped

SPEC = AudioSpec()


def test_augmentation_is_finite_standardised_and_repeatable() -> None:
    decibels = 20 * torch.randn(6, 256, 128, generator=torch.Generator().manual_seed(1)) - 40
    decibels[0] = -100.0  # digital silence
    settings = SpectrogramAugmentation(p_warp=0.5, p_timbre=0.5)
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


def test_a_window_takes_a_share_of_anothers_timbre_and_keeps_its_own_rhythm() -> None:
    rng = torch.Generator().manual_seed(2)
    level, spread = torch.tensor([[-40.0, -60.0], [-20.0, -70.0]]), torch.tensor([[4.0, 8.0], [2.0, 3.0]])
    rhythm = torch.randn(2, 2, 64, generator=rng)
    rhythm = (rhythm - rhythm.mean(dim=2, keepdim=True)) / rhythm.std(dim=2, keepdim=True)
    decibels = level[:, :, None] + spread[:, :, None] * rhythm
    found = retimbred(decibels, torch.tensor([1, 0]), torch.tensor([0.5, 0.0]).view(2, 1, 1))
    torch.testing.assert_close(found[0].mean(dim=1), torch.tensor([-30.0, -65.0]))
    torch.testing.assert_close(found[0].std(dim=1), torch.tensor([3.0, 5.5]))
    torch.testing.assert_close(
        (found[0] - found[0].mean(dim=1, keepdim=True)) / found[0].std(dim=1, keepdim=True), rhythm[0]
    )
    torch.testing.assert_close(found[1], decibels[1])


def test_a_row_that_stands_still_is_not_stretched() -> None:
    decibels = torch.full((2, 1, 64), -80.0)
    decibels[1] = torch.linspace(-60.0, 0.0, 64)
    decibels[0, 0, ::2] += 0.01
    found = retimbred(decibels, torch.tensor([1, 0]), torch.ones(2, 1, 1))
    assert found[0].std() < 0.2
