"""Training recipes: all settings of a run except its data, its backbone and its seed.

The recipes are TOML files in `sonicscan_train/recipes`: `seed` as it was published, `robust` for fine-tuning, `small`
for the bundled default model. A table `[backbone.PREFIX]` replaces values for backbones whose name begins so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sonicscan.errors import InputError
from sonicscan.spec import PRESETS
from sonicscan_train.packaged import built, packaged_files, read_packaged
from sonicscan_train.sound.augment import Augmentation
from sonicscan_train.sound.spectrogram import SpecAugment, SpectrogramAugmentation
from sonicscan_train.sound.variants import Variants


@dataclass(frozen=True)
class Sampling:
    """How clips are drawn: people and AI equally often; within each, by source and by group.

    Attributes:
        source_power: a source of n clips is drawn with weight n to this power, so that no source dominates.
        group_power: a group of n clips within its source likewise; 1 draws every clip of a source equally often.
        boosts: factors on sources' weights by name or pattern (`GTZAN*`).
        reference_boost: factor on people's sources that share a group with another label: the same music with and
            without a decoder.
    """

    source_power: float = 0.5
    group_power: float = 1.0
    boosts: Mapping[str, float] = field(default_factory=dict)
    reference_boost: float = 1.0


@dataclass(frozen=True)
class CachePlan:
    """Training from cached excerpts instead of files.

    Attributes:
        seconds: of each clip, from its start.
        variants: fixed variants of each excerpt; None for none.
        first_version: share of windows from the unchanged sound.
        layer_share, layer_db: share of windows that are mixed with another one of the same class, and its level in dB.
        paired_share: share of the windows not by people that have a partner in the batch: music by people of the same
            group. The partner is at the same place of the other half of the batch.
        augmentation: of the spectrogram; None for none.
    """

    seconds: float = 7.0
    variants: Variants | None = None
    first_version: float = 0.4
    layer_share: float = 0.0
    layer_db: tuple[float, float] = (-20.0, 0.0)
    paired_share: float = 0.0
    augmentation: SpectrogramAugmentation | None = None


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run except its data, its backbone and its seed.

    Attributes:
        name: of the recipe.
        preset: the AudioSpec preset.
        batch_size: windows in one step, over all processes together.
        lr: AdamW's highest learning rate.
        weight_decay, betas, eps: AdamW's other settings.
        epochs: how many.
        steps_per_epoch: None is one pass over the training clips.
        schedule: `constant`, or half a `cosine` to zero.
        warmup, warmup_steps: share of all steps, or number of steps, in which the rate rises linearly.
        label_smoothing: share of the target that is spread: half on `human`, half on all other classes.
        family_weight: of the second part of the loss, which tells the classes other than `human` apart; at 1 the loss
            is plain cross-entropy.
        mixup: alpha of the Beta distribution that mixes pairs of windows; 0 is none.
        mixup_share: share of windows that are mixed, each in its own proportion; None mixes whole batches equally.
        ema: decay of the weights' moving average, which then is the model; 0 is none.
        mean_from: share of the run after which the weights of each epoch count for their mean, which is then the model.
            None takes the last weights.
        clip_norm: largest norm of the gradient; 0 is no limit.
        dropout: before the head.
        narrow_frames: width of the images, which are drawn from the windows; None takes whole windows.
        crop: `first` window of a track, or a `random` one in each epoch.
        sampling: None shuffles the clips.
        cache: train from cached excerpts; None reads crops from the files.
        augmentation: of the waveform; None is none.
        spec_augment: of the image; None is none.
        teacher_share: share of the target that comes from --teacher.
        hint_weight: weight of the loss that compares the feature map with that of --teacher; 0 is none.
        valid_windows: windows of a track in validation; None is its first window alone.
        best: which checkpoint is kept: that with the lowest validation `loss`, that with the highest track `auc`, or
            the `last` one, which needs no validation.
        split: how data without a split is divided: by `groups`, or by `files` as the seed did.
        amp: automatic mixed precision where the GPU has it.
        cpu_bfloat16: bfloat16 arithmetic on CPUs; weights stay float32.
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
    warmup_steps: int = 0
    label_smoothing: float = 0.0
    family_weight: float = 1.0
    mixup: float = 0.0
    mixup_share: float | None = None
    ema: float = 0.0
    mean_from: float | None = None
    clip_norm: float = 0.0
    dropout: float = 0.0
    narrow_frames: int | None = None
    crop: Literal["first", "random"] = "first"
    sampling: Sampling | None = None
    cache: CachePlan | None = None
    augmentation: Augmentation | None = None
    spec_augment: SpecAugment | None = None
    teacher_share: float = 0.5
    hint_weight: float = 0.0
    valid_windows: int | None = None
    best: Literal["loss", "auc", "last"] = "loss"
    split: Literal["groups", "files"] = "files"
    amp: bool = False
    cpu_bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}.")
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise InputError(f"--steps-per-epoch must be at least 1, not {self.steps_per_epoch}.")
        if not 0.0 < self.lr < 1.0:
            raise InputError(f"--lr must lie between 0 and 1, not {self.lr:g}.")
        if self.preset not in PRESETS:
            raise InputError(f"the recipe {self.name} has no AudioSpec {self.preset!r}; known: {', '.join(PRESETS)}.")
        unused = {
            "augmentation": self.augmentation is not None and self.cache is not None,
            "spec_augment": self.spec_augment is not None and self.cache is not None,
            "crop": self.crop != "first" and self.cache is not None,
            "mixup without mixup_share": self.mixup > 0 and self.mixup_share is None and self.cache is not None,
            "mixup_share": self.mixup_share is not None and self.cache is None,
            "narrow_frames": self.narrow_frames is not None and self.cache is None,
        }
        for name in (name for name, wrong in unused.items() if wrong):
            kind = "without [cache]" if self.cache is None else "with [cache]"
            raise InputError(f"the recipe {self.name} has {name}, which a recipe {kind} does not use.")


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return [path.stem for path in packaged_files("recipes")]


def recipe_of(name: str, backbone: str) -> Recipe:
    """The recipe `name` for a backbone: one of `recipe_names()`, or a TOML file of the same form.

    Raises:
        InputError: no such recipe, an unknown or missing value in it, or one without values for this backbone.
    """
    path, values = read_packaged(name, "recipes", "recipe")
    for prefix, replaced in values.pop("backbone", {}).items():
        if backbone.startswith(prefix):
            values |= replaced
    missing = next((f.name for f in dataclasses.fields(Recipe) if _required(f) and f.name not in values), None)
    if missing is not None:
        raise InputError(f"the recipe {path.stem!r} has no {missing} for {backbone}; it was made for other backbones.")
    return built(Recipe, {"name": path.stem, **values}, f"the recipe {path.name}")


def _required(known: dataclasses.Field[Any]) -> bool:
    has_default = known.default is not dataclasses.MISSING or known.default_factory is not dataclasses.MISSING
    return known.name != "name" and not has_default
