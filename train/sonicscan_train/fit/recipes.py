"""Training recipes: `seed` as it was published, `robust` as it should be.

`seed` holds every hyperparameter of the published experiment (an undergraduate project on SONICS; its code,
where its paper differs), backbone by backbone, so that its figures can be compared with. docs/training.md says
why those figures are not to be trusted, and `robust` is the default.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from sonicscan.errors import InputError
from sonicscan_train.sound.augment import Augmentation


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


@dataclass(frozen=True)
class Recipe:
    """Every choice of a training run but its data, its backbone and its seed.

    Attributes:
        name: `seed` or `robust`.
        preset: the AudioSpec preset.
        batch_size: windows in one step, over all processes together.
        lr: AdamW's highest learning rate.
        weight_decay, betas, eps: AdamW's others.
        epochs: how many.
        steps_per_epoch: None is one pass over the training clips.
        schedule: `constant`, or `cosine` to zero after the warm-up.
        warmup: share of all steps in which the rate rises linearly.
        label_smoothing: share of the target spread over all classes.
        mixup: alpha of the Beta distribution that mixes pairs of windows; 0 is none.
        ema: decay of the weights' moving average, which then is the model; 0 is none.
        clip_norm: largest norm of the gradient; 0 is any.
        crop: `first` window of a track, or a `random` one in each epoch.
        balance: `none` shuffles the clips; `sources` draws people and AI equally often, and in each of them a source
            of n clips with probability proportional to the square root of n, so that no generator and no
            label drowns the others and none is repeated without end.
        augmentation: of the waveform; None is none.
        spec_augment: of the image; None is none.
        valid_windows: windows of a track in validation; None is its first window alone.
        best: the checkpoint kept: lowest validation `loss`, or highest track `auc`, groups weighing the same.
        split: where the data has no split: by `groups`, or by `files` as the seed did.
        amp: automatic mixed precision where the device has it.
    """

    name: str
    preset: str
    batch_size: int
    lr: float
    weight_decay: float
    epochs: int
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    steps_per_epoch: int | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    ema: float = 0.0
    clip_norm: float = 0.0
    crop: Literal["first", "random"] = "first"
    balance: Literal["none", "sources"] = "none"
    augmentation: Augmentation | None = None
    spec_augment: SpecAugment | None = None
    valid_windows: int | None = None
    best: Literal["loss", "auc"] = "loss"
    split: Literal["groups", "files"] = "files"
    amp: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}.")
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise InputError(f"--steps-per-epoch must be at least 1, not {self.steps_per_epoch}.")
        if not 0.0 < self.lr < 1.0:
            raise InputError(f"--lr must lie between 0 and 1, not {self.lr:g}.")


# Batch size and learning rate of the published code. It builds AdamW with nothing but the rate, so weight decay is
# PyTorch's 0.01 (the paper says none), and has no schedule, augmentation, mixed precision or random seed.
_SEED_LAMBDA = Recipe("seed", "seed", batch_size=32, lr=1e-5, weight_decay=0.01, epochs=5)
_SEED_SWIN = Recipe("seed", "seed", batch_size=20, lr=1e-4, weight_decay=0.01, epochs=5)

_ROBUST = Recipe(
    "robust",
    "default",
    batch_size=64,
    lr=1e-3,
    weight_decay=0.05,
    epochs=30,
    schedule="cosine",
    warmup=0.05,
    label_smoothing=0.02,
    mixup=0.2,
    ema=0.999,
    clip_norm=1.0,
    crop="random",
    balance="sources",
    augmentation=Augmentation(),
    spec_augment=SpecAugment(),
    valid_windows=4,
    best="auc",
    split="groups",
    amp=True,
)

RECIPES = ("robust", "seed")


def recipe_of(name: str, backbone: str) -> Recipe:
    """The recipe `name` for a backbone.

    Raises:
        InputError: no such recipe, or `seed` for a backbone that the seed did not train.
    """
    if name == "robust":
        # Window attention is fine-tuned at lower rates than convolutions; neither rate was searched for here.
        return dataclasses.replace(_ROBUST, lr=1e-4, batch_size=32) if backbone.startswith("swin") else _ROBUST
    if name != "seed":
        raise InputError(f"there is no recipe {name!r}; known are {', '.join(RECIPES)}.")
    for prefix, recipe in (("lambda", _SEED_LAMBDA), ("swin", _SEED_SWIN)):
        if backbone.startswith(prefix):
            return recipe
    raise InputError(f"the recipe `seed` was published for lambda and swin only, not for {backbone}.")
