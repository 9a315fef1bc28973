"""Sources of a run's batches: crops of files, or cached excerpts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from sonicscan.errors import InputError
from sonicscan.spec import ModelSpec, digest_of
from sonicscan_train.data.caches import SoundCache, Version
from sonicscan_train.data.clips import Clip, class_of
from sonicscan_train.fit.batches import CachedBatches, prefetched
from sonicscan_train.fit.recipes import CachePlan
from sonicscan_train.fit.run import FitConfig
from sonicscan_train.fit.windows import MIXUP, WindowDataset, batches, epoch_draws, epoch_loader, mix, soft_targets
from sonicscan_train.sound.variants import Variants, vary

Batch = tuple[torch.Tensor, torch.Tensor]


class BatchSource(Protocol):
    """Batches of one process: images float32 [batch, n_mels, frames], targets float32 [batch, classes]."""

    def steps(self, epoch: int) -> int:
        """Steps of a 0-based epoch."""
        ...

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of a 0-based epoch."""
        ...


class FileSource:
    """Random crops straight from the files.

    Args:
        clips: the training clips.
        spec: classes and preprocessing.
        config: of the run.
        rank, world: this process, and how many there are.
        workers: processes that load.
    """

    def __init__(
        self, clips: Sequence[Clip], spec: ModelSpec, config: FitConfig, rank: int, world: int, workers: int
    ) -> None:
        self._clips, self._config, self._classes = clips, config, len(spec.classes)
        self._rank, self._world, self._workers = rank, world, workers
        self._windows = WindowDataset(
            clips, spec.classes, config.classes, config.families, spec.audio, config.recipe, config.seed
        )

    def steps(self, epoch: int) -> int:
        recipe = self._config.recipe
        n = len(self._clips) if recipe.steps_per_epoch is None else recipe.steps_per_epoch * recipe.batch_size
        return -(-n // recipe.batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        recipe, seed = self._config.recipe, self._config.seed
        draws = epoch_draws(self._clips, recipe, seed, epoch)
        own = batches(draws, recipe.batch_size, self._rank, self._world)
        for step, (images, targets) in enumerate(epoch_loader(self._windows, own, self._workers)):
            soft = soft_targets(targets, self._classes, recipe.label_smoothing)
            if recipe.mixup:
                rng = np.random.default_rng([seed, MIXUP, epoch, step, self._rank])
                images, soft = mix(images, soft, recipe.mixup, rng)
            yield images, soft


class CacheSource:
    """Windows of cached excerpts; arguments as `FileSource`, and the batches."""

    def __init__(self, drawn: CachedBatches, config: FitConfig, frames: int, rank: int, world: int) -> None:
        self._drawn, self._frames, self._rank, self._world = drawn, frames, rank, world
        self._steps = config.recipe.steps_per_epoch or 0

    def steps(self, epoch: int) -> int:
        return self._steps

    def epoch(self, epoch: int) -> Iterator[Batch]:
        own = slice(self._rank, None, self._world)
        for images, soft in prefetched(self._drawn, epoch * self._steps, self._steps, self._frames):
            yield images[own], soft[own]


def cache_source(
    clips: Sequence[Clip],
    train: Sequence[Clip],
    spec: ModelSpec,
    config: FitConfig,
    folder: Path,
    rank: int,
    world: int,
    workers: int,
    caching: Callable[[], None] = lambda: None,
) -> CacheSource:
    """Builds a source of cached excerpts; missing excerpts are made first.

    Args:
        clips: all clips of the data, so that runs on other folds share the cache.
        train: those to train on.
        spec: classes and preprocessing.
        config: of the run.
        folder: of the cache.
        rank, world: this process, and how many there are.
        workers: processes that decode and vary.
        caching: called after each excerpt that is made.

    Raises:
        InputError: a recipe without steps_per_epoch or sampling, an odd batch, or a clip that cannot be read.
    """
    recipe = config.recipe
    if recipe.cache is None or recipe.sampling is None or not recipe.steps_per_epoch or recipe.batch_size % 2:
        raise InputError("a recipe with [cache] needs [sampling], steps_per_epoch and an even batch_size.")
    if recipe.batch_size % (2 * world):
        raise InputError(f"a batch of {recipe.batch_size} windows cannot be shared by {world} processes.")
    ordered = sorted(clips, key=lambda clip: clip.path)
    versions = _versions(
        SoundCache(folder, ordered, spec.audio, recipe.cache.seconds), recipe.cache, spec, workers, caching
    )
    row = {clip.path: i for i, clip in enumerate(ordered)}
    targets = [spec.classes.index(class_of(clip, config.classes, config.families)) for clip in train]
    drawn = CachedBatches(
        train, [row[c.path] for c in train], targets, len(spec.classes), versions, spec.audio, recipe, config.seed
    )
    return CacheSource(drawn, config, recipe.narrow_frames or spec.audio.n_frames, rank, world)


VARIANT_SEED = 20261126  # of the fixed variants, which all members of a model share


def _versions(
    cache: SoundCache, plan: CachePlan, spec: ModelSpec, workers: int, caching: Callable[[], None]
) -> list[Version]:
    versions = [cache.clean(workers, caching)]
    if plan.variants is not None:
        # Without the number of copies, so that a recipe with more of them reuses those that are there.
        made_with = digest_of([VARIANT_SEED, str(dataclasses.replace(plan.variants, copies=1))])[:8]
        change = functools.partial(_varied, plan=plan.variants, rate=spec.audio.sample_rate)
        versions += [
            cache.variant(f"{number}-{made_with}", change, [VARIANT_SEED, number], workers, caching)
            for number in range(1, plan.variants.copies + 1)
        ]
    return versions


def _varied(
    samples: npt.NDArray[np.float32], human: bool, rng: np.random.Generator, *, plan: Variants, rate: int
) -> npt.NDArray[np.float32]:
    return vary(samples, rate, human, plan, rng)
