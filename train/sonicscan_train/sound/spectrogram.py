"""Augmentation of log-mel spectrograms, the same for both classes.

`augment_decibels` changes a batch of windows in decibels. Each step hides a property that differs between corpora, and
not between people and generators: timbre, mastering, noise floor, bandwidth or level. Standardisation comes last, as in
the scanner. `mask` covers stripes of one standardised image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sonicscan.arrays import Float32
from sonicscan.spec import AudioSpec

TO_NEPER = 0.2302585  # dB of power to natural logarithm


@dataclass(frozen=True)
class SpectrogramAugmentation:
    """How strong each step is; `p_` fields are the share of windows that get it.

    Attributes:
        eq_knots, eq_db: knots of a random curve over the mel rows, and the largest standard deviation of it, in dB.
        dynamics: the largest share by which slow changes of level are compressed or expanded.
        noise_db: range of the noise floor, in dB under the window's peak.
        cutoff_rows: range of the low-pass cut-off, as a share of the mel rows (0.78 is 4.0 kHz, 1 is 8 kHz).
        slope_rows: range of rows over which the low-pass falls by 80 dB.
        time_mask, row_mask: widest masks, as shares of the frames and of the rows.
        warp: the largest share by which the frequency axis is stretched or squeezed, because each decoder leaves its
            marks at other frequencies.
    """

    p_eq: float = 0.8
    eq_knots: int = 8
    eq_db: float = 6.0
    p_dynamics: float = 0.5
    dynamics: float = 0.4
    p_noise: float = 0.7
    noise_db: tuple[float, float] = (50.0, 90.0)
    p_low_pass: float = 0.75
    cutoff_rows: tuple[float, float] = (0.78, 1.0)
    slope_rows: tuple[float, float] = (1.0, 16.0)
    p_high_pass: float = 0.15
    high_pass_rows: float = 0.06
    p_roll: float = 0.5
    p_mask: float = 0.7
    time_mask: float = 0.2
    row_mask: float = 0.13
    p_warp: float = 0.0
    warp: float = 0.12


def standardise(decibels: Tensor, spec: AudioSpec) -> Tensor:
    """Clip below the window's maximum, then mean 0 and deviation 1, as `LogMel` does; [n, mels, frames]."""
    floor = decibels.amax(dim=(1, 2), keepdim=True) - spec.top_db
    image = torch.maximum(decibels, floor)
    image = image - image.mean(dim=(1, 2), keepdim=True)
    deviation = image.square().mean(dim=(1, 2), keepdim=True).sqrt()
    return torch.where(deviation > 1e-6, image / deviation.clamp_min(1e-6), torch.zeros_like(image))


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, 1, 1, generator=rng)


def _chosen(n: int, p: float, rng: torch.Generator) -> Tensor:
    return (torch.rand(n, 1, 1, generator=rng) < p).float()


def warped(decibels: Tensor, scale: Tensor) -> Tensor:
    """Mel rows moved from r to r * scale, interpolated; what comes from above the top row is as quiet as the floor.

    Args:
        decibels: float32 [n, n_mels, n_frames], at most 0.
        scale: of each window, [n, 1, 1].
    """
    n, mels, frames = decibels.shape
    source = torch.arange(mels, dtype=torch.float32).view(1, mels, 1) / scale
    below = source.floor().clamp(0, mels - 1)
    share = (source - below).clamp(0.0, 1.0)
    rows = below.long().expand(n, mels, frames)
    low = decibels.gather(1, rows)
    high = decibels.gather(1, (rows + 1).clamp_max(mels - 1))
    floor = decibels.amin(dim=(1, 2), keepdim=True)
    return torch.where(source <= mels - 1, low + share * (high - low), floor)


def augment_decibels(
    decibels: Tensor, settings: SpectrogramAugmentation, spec: AudioSpec, rng: torch.Generator
) -> Tensor:
    """Standardised images of randomly changed windows.

    Args:
        decibels: float32 [n, n_mels, n_frames], not yet clipped.
        settings: how strong.
        spec: for the range that is kept.
        rng: all randomness.

    Returns:
        float32 of the same shape; finite.
    """
    n, mels, frames = decibels.shape
    rows = torch.arange(mels, dtype=torch.float32).view(1, mels, 1)
    x = decibels - decibels.amax(dim=(1, 2), keepdim=True)
    x = x.clamp_min(-spec.top_db)
    if settings.p_warp:
        chosen = _chosen(n, settings.p_warp, rng)
        x = warped(x, 1.0 + chosen * _uniform(n, -settings.warp, settings.warp, rng))
    knots = torch.randn(n, 1, settings.eq_knots, generator=rng) * _uniform(n, 0.0, settings.eq_db, rng)
    curve = functional.interpolate(knots, size=mels, mode="linear", align_corners=True).transpose(1, 2)
    x = x + curve * _chosen(n, settings.p_eq, rng)
    level = functional.avg_pool1d(x.mean(dim=1, keepdim=True), 31, 1, 15, count_include_pad=False)
    share = _uniform(n, -settings.dynamics, settings.dynamics, rng) * _chosen(n, settings.p_dynamics, rng)
    x = x + share * (level - level.mean(dim=2, keepdim=True))

    level = -_uniform(n, *settings.noise_db, rng) - 300.0 * (1.0 - _chosen(n, settings.p_noise, rng))
    # Power of one transform bin of noise is exponentially distributed; one draw serves a batch, for speed.
    grain = torch.rand(1, mels, frames, generator=rng).clamp_min(1e-6).log().neg()
    power = torch.exp(x * TO_NEPER) + grain * torch.exp((x.amax(dim=(1, 2), keepdim=True) + level) * TO_NEPER)
    x = power.clamp_min(1e-14).log() * 4.3429448

    cutoff = _uniform(n, *settings.cutoff_rows, rng) * mels
    fall = 80.0 / _uniform(n, *settings.slope_rows, rng)
    low_pass = (rows - cutoff).clamp_min(0.0) * fall * _chosen(n, settings.p_low_pass, rng)
    edge = _uniform(n, 0.0, settings.high_pass_rows, rng) * mels
    high_pass = (edge - rows).clamp_min(0.0) * 6.0 * _chosen(n, settings.p_high_pass, rng)
    x = x - low_pass - high_pass

    x = torch.maximum(x, x.amax(dim=(1, 2), keepdim=True) - spec.top_db)
    times = torch.arange(frames, dtype=torch.float32).view(1, 1, frames)
    for axis, widest, size in ((times, settings.time_mask, frames), (rows, settings.row_mask, mels)):
        width = _uniform(n, 0.0, widest * size, rng) * _chosen(n, settings.p_mask, rng)
        start = torch.rand(n, 1, 1, generator=rng) * (size - width)
        x = torch.where((axis >= start) & (axis < start + width), x.mean(dim=(1, 2), keepdim=True), x)
    shifts = (torch.rand(n, generator=rng) < settings.p_roll) * torch.randint(frames, (n,), generator=rng)
    x = torch.stack([image.roll(int(shift), dims=1) for image, shift in zip(x, shifts, strict=True)])
    return standardise(x, spec)


@dataclass(frozen=True)
class SpecAugment:
    """Masks on the standardised image, set to its mean, 0 (Park et al. 2019).

    Attributes:
        times, frames: number of time masks and the widest, in frames.
        bands, rows: number of frequency masks and the widest, in mel rows.
    """

    times: int = 1
    frames: int = 32
    bands: int = 1
    rows: int = 24


def mask(image: Float32, masks: SpecAugment, rng: np.random.Generator) -> Float32:
    """Random stripes of the image set to its mean, which is 0."""
    image = image.copy()
    rows, frames = image.shape
    for _ in range(masks.times):
        width = int(rng.integers(0, masks.frames + 1))
        start = int(rng.integers(0, frames - width + 1))
        image[:, start : start + width] = 0.0
    for _ in range(masks.bands):
        width = int(rng.integers(0, masks.rows + 1))
        start = int(rng.integers(0, rows - width + 1))
        image[start : start + width] = 0.0
    return image
