"""Turns clips into batches: draws clips and crops, augments them and computes the scanner's log-mel spectrograms. This
module has no state. Every draw depends on (seed, epoch, position in the epoch) only. So the batches of an epoch are the
same with any number of loader processes, and after a resume.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sonicscan.arrays import Float32
from sonicscan.audio.melspec import log_mel
from sonicscan.errors import AudioError, InputError
from sonicscan.spec import AudioSpec
from sonicscan_train.data.clips import ClassMode, Clip, class_of
from sonicscan_train.fit.recipes import Recipe
from sonicscan_train.fit.sampling import sampling_weights
from sonicscan_train.judge.scoring import one_thread
from sonicscan_train.sound.augment import augment
from sonicscan_train.sound.crops import read_crop
from sonicscan_train.sound.spectrogram import mask

# Streams of random numbers, so that the choice of clips and what happens to them are independent.
_ORDER, _CROP, MIXUP = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Draw:
    """One window of an epoch: the clip, and where the window stands in the run."""

    clip: int
    epoch: int
    position: int


def epoch_draws(clips: Sequence[Clip], recipe: Recipe, seed: int, epoch: int) -> list[Draw]:
    """The windows of one epoch, in the order in which they are trained on.

    With `sampling` clips are drawn by their weights; without, each round takes every clip once.
    """
    rng = np.random.default_rng([seed, _ORDER, epoch])
    n = len(clips) if recipe.steps_per_epoch is None else recipe.steps_per_epoch * recipe.batch_size
    if recipe.sampling is not None:
        chosen = rng.choice(len(clips), n, p=sampling_weights(clips, recipe.sampling))
    else:
        rounds = -(-n // len(clips))
        chosen = np.concatenate([rng.permutation(len(clips)) for _ in range(rounds)])[:n]
    return [Draw(int(clip), epoch, position) for position, clip in enumerate(chosen)]


def batches(draws: Sequence[Draw], batch_size: int, rank: int, world: int) -> list[list[Draw]]:
    """The batches of one of `world` processes; together they are batches of `batch_size`.

    A last batch that `world` does not divide is filled from its own start, because every process must take
    every step.
    """
    if batch_size % world:
        raise InputError(f"a batch of {batch_size} windows cannot be shared by {world} processes; set --batch-size.")
    found = []
    for start in range(0, len(draws), batch_size):
        batch = list(draws[start : start + batch_size])
        batch += [batch[i % len(batch)] for i in range(-len(batch) % world)]
        found.append(batch[rank::world])
    return found


class WindowDataset(Dataset[tuple[torch.Tensor, int]]):
    """Training windows by `Draw`.

    Args:
        clips: labelled clips.
        classes: names of the classes; a clip's target is its class' index.
        mode, families: as in `class_of`.
        audio: the preprocessing.
        recipe: crop, augmentation and masks.
        seed: of everything random.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        classes: Sequence[str],
        mode: ClassMode,
        families: Mapping[str, str],
        audio: AudioSpec,
        recipe: Recipe,
        seed: int,
    ) -> None:
        index = {name: i for i, name in enumerate(classes)}
        self._paths = [clip.path for clip in clips]
        self._targets = [index[class_of(clip, mode, families)] for clip in clips]
        self._audio, self._recipe, self._seed = audio, recipe, seed

    def __getitem__(self, draw: Draw) -> tuple[torch.Tensor, int]:
        """Image float32 [n_mels, n_frames] and target of one draw."""
        rng = np.random.default_rng([self._seed, _CROP, draw.epoch, draw.position])
        image = self._image(self._paths[draw.clip], rng)
        return torch.from_numpy(image), self._targets[draw.clip]

    def _image(self, path: str, rng: np.random.Generator) -> Float32:
        audio, plan = self._audio, self._recipe.augmentation
        longest = plan.longest if plan else 1.0
        at = float(rng.random()) if self._recipe.crop == "random" else 0.0
        try:
            crop = read_crop(path, audio.sample_rate, audio.window_s * longest, at)
        except AudioError as error:
            raise InputError(f"{path} was readable when training began and is not now: {error}") from error
        if plan:
            window = augment(crop, audio.sample_rate, plan, audio.window_samples, rng)
        else:
            # Repeated, as the scanner does with a short track, because silence would be a shortcut.
            window = np.resize(crop, audio.window_samples)
        image = log_mel(audio)(window)
        masks = self._recipe.spec_augment
        return mask(image, masks, rng) if masks else image


def epoch_loader(
    windows: WindowDataset, own: Sequence[Sequence[Draw]], workers: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of images float32 [batch, n_mels, n_frames] and targets int64 [batch], in the order of `own`.

    Raises:
        InputError: a file that cannot be read any more.
    """
    loader: DataLoader[tuple[torch.Tensor, int]] = DataLoader(
        windows,
        batch_sampler=own,  # type: ignore[arg-type]
        num_workers=workers,
        worker_init_fn=one_thread,
        pin_memory=torch.cuda.is_available(),
    )
    try:
        yield from loader
    except InputError as error:
        # An error of another process has the whole traceback as its message; the last line is our own message.
        sentence = str(error).strip().splitlines()[-1]
        raise InputError(sentence.removeprefix(f"{InputError.__module__}.{InputError.__name__}: ")) from error


def soft_targets(targets: torch.Tensor, classes: int, smoothing: float) -> torch.Tensor:
    """float32 [batch, classes]: one-hot, with the share `smoothing` spread, half on `human` and half on the others."""
    hot = torch.nn.functional.one_hot(targets, classes).float()
    spread = torch.full((classes,), 0.5 / (classes - 1))
    spread[0] = 0.5
    return hot * (1.0 - smoothing) + smoothing * spread.to(targets.device)


def mix(
    images: torch.Tensor, targets: torch.Tensor, alpha: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """mixup (Zhang et al. 2018): the batch with itself in another order, one share for all pairs."""
    share = float(rng.beta(alpha, alpha))
    order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    return share * images + (1.0 - share) * images[order], share * targets + (1.0 - share) * targets[order]
