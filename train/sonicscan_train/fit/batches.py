"""Batches of cached excerpts: both classes equal, sources and groups balanced. A batch depends on the seed and the step
only, so a resumed run continues exactly as without the interruption.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sonicscan.spec import AudioSpec
from sonicscan_train.data.caches import MelFrames, Version, start_frames, window_decibels
from sonicscan_train.data.clips import Clip
from sonicscan_train.fit.recipes import CachePlan, Recipe
from sonicscan_train.fit.sampling import sampling_weights
from sonicscan_train.fit.windows import soft_targets
from sonicscan_train.sound.spectrogram import TO_NEPER, SpectrogramAugmentation, augment_decibels

Int64 = npt.NDArray[np.int64]

_STILL = SpectrogramAugmentation(
    p_eq=0.0, p_dynamics=0.0, p_noise=0.0, p_low_pass=0.0, p_high_pass=0.0, p_roll=0.0, p_mask=0.0
)


class CachedBatches:
    """Draws the batch of a step.

    Args:
        clips: the training clips.
        rows: the clips' rows in the cache.
        targets: the clips' classes, by number; class 0 is `human`.
        classes: how many classes there are.
        versions: of the excerpts; the first is the unchanged sound.
        spec: the preprocessing.
        recipe: with `sampling` and `cache`.
        seed: of everything random.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        rows: Sequence[int],
        targets: Sequence[int],
        classes: int,
        versions: Sequence[Version],
        spec: AudioSpec,
        recipe: Recipe,
        seed: int,
    ) -> None:
        assert recipe.sampling is not None and recipe.cache is not None
        self._rows, self._versions, self._spec, self._seed = np.asarray(rows), versions, spec, seed
        self._recipe, self._plan = recipe, recipe.cache
        self._weights = sampling_weights(clips, recipe.sampling)
        self._human = np.array([clip.human for clip in clips])
        self._targets, self._classes = torch.tensor(targets), classes
        self._mel = MelFrames(spec)
        self._samples = versions[0].audio.shape[1]
        self._partners = _partners(clips)

    def __call__(self, step: int, frames: int) -> tuple[Tensor, Tensor]:
        """The batch of a step; its first half is music by people.

        Args:
            step: 0-based, of the whole run.
            frames: width of the images; under the window's, a part of each window is taken at random.

        Returns:
            images float32 [batch, n_mels, frames] and targets float32 [batch, classes].
        """
        rng = np.random.default_rng([self._seed, step])
        half = self._recipe.batch_size // 2
        chosen = np.concatenate([self._drawn(human, half, rng) for human in (True, False)])
        picks = rng.random((len(chosen), 2))
        starts = rng.integers(start_frames(self._samples, self._spec), size=len(chosen))
        together = self._paired(chosen, starts, half, rng)
        audio, mel = [], []
        for clip, (first, which), pair in zip(chosen, picks, together, strict=True):
            version = self._versions[self._which(float(first), float(which), bool(pair))]
            audio.append(version.audio[self._rows[clip]])
            mel.append(version.mel[self._rows[clip]])
        images = torch.from_numpy(window_decibels(np.stack(mel), np.stack(audio), starts, self._mel))
        part = int(rng.integers(images.shape[2] - frames + 1))
        images = layered(images[:, :, part : part + frames], half, self._plan, rng)
        chance = torch.Generator().manual_seed(int(rng.integers(2**62)))
        images = augment_decibels(images, self._plan.augmentation or _STILL, self._spec, chance)
        targets = soft_targets(self._targets[chosen], self._classes, self._recipe.label_smoothing)
        return self._mixed(images, targets, rng)

    def _drawn(self, human: bool, n: int, rng: np.random.Generator) -> Int64:
        side = np.flatnonzero(self._human == human)
        return rng.choice(side, n, p=2.0 * self._weights[side])

    def _which(self, first: float, which: float, pair: bool) -> int:
        others = len(self._versions) - 1
        return 0 if pair or not others or first < self._plan.first_version else 1 + int(which * others)

    def _paired(self, chosen: Int64, starts: Int64, half: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Puts partners into the human half, in place; True for them."""
        together = np.zeros(len(chosen), dtype=bool)
        if not self._plan.paired_share:
            return together
        for i in range(half, len(chosen)):
            partners = self._partners.get(int(chosen[i]), ())
            if partners and rng.random() < self._plan.paired_share:
                chosen[i - half] = partners[int(rng.integers(len(partners)))]
                starts[i - half], together[i - half] = starts[i], True
        return together

    def _mixed(self, images: Tensor, targets: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """mixup (Zhang et al. 2018) of some windows, each with a share of its own."""
        recipe = self._recipe
        if not recipe.mixup or not recipe.mixup_share:
            return images, targets
        share = torch.from_numpy(rng.beta(recipe.mixup, recipe.mixup, len(images))).float()
        mixed = torch.from_numpy(rng.random(len(images)) < recipe.mixup_share)
        share = torch.where(mixed, share, torch.ones(1))
        other = torch.from_numpy(rng.permutation(len(images)))
        images = images * share.view(-1, 1, 1) + images[other] * (1.0 - share).view(-1, 1, 1)
        images = images - images.mean(dim=(1, 2), keepdim=True)
        images = images / images.std(dim=(1, 2), keepdim=True).clamp_min(1e-3)
        return images, targets * share[:, None] + targets[other] * (1.0 - share)[:, None]


def layered(decibels: Tensor, half: int, plan: CachePlan, rng: np.random.Generator) -> Tensor:
    """Mixes some windows with another one of their class.

    Two recordings by people, played together, are still by people; the variety reduces overfitting to single tracks.

    Args:
        decibels: float32 [n, n_mels, frames]; the first `half` are one class.
        half: windows of the first class.
        plan: how many, how loud.
        rng: the source of all randomness.
    """
    decibels = decibels - decibels.amax(dim=(1, 2), keepdim=True)
    chosen = np.flatnonzero(rng.random(len(decibels)) < plan.layer_share)
    if not len(chosen):
        return decibels
    over = np.array([rng.integers(half) + half * (i >= half) for i in chosen], dtype=np.int64)
    gain = torch.from_numpy(rng.uniform(*plan.layer_db, size=len(chosen))).float().view(-1, 1, 1)
    mixed = decibels.clone()
    # Powers add: two independent sounds have no common phase.
    mixed[chosen] = torch.logaddexp(decibels[chosen] * TO_NEPER, (decibels[over] + gain) * TO_NEPER) / TO_NEPER
    return mixed


def prefetched(batches: CachedBatches, first: int, steps: int, frames: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields `steps` batches from step `first` on, with images `frames` wide.

    A thread makes each batch while the batch before it is used for training.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(batches, first, frames)
        for step in range(first, first + steps):
            batch = coming.result()
            if step + 1 < first + steps:
                coming = pool.submit(batches, step + 1, frames)
            yield batch


def _partners(clips: Sequence[Clip]) -> dict[int, tuple[int, ...]]:
    """For each clip that people did not make, those of its group that they did."""
    people: defaultdict[str, list[int]] = defaultdict(list)
    for i, clip in enumerate(clips):
        if clip.human:
            people[clip.group].append(i)
    return {i: tuple(people[clip.group]) for i, clip in enumerate(clips) if not clip.human and clip.group in people}
