"""The published recipe, number by number; the robust one; the learning rate; what an epoch is made of."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from training_sound import people_or_machine

from sonicscan.audio.melspec import log_mel
from sonicscan.errors import InputError
from sonicscan.spec import PRESETS
from sonicscan_train.data.clips import Clip
from sonicscan_train.fit.recipes import Recipe, Sampling, recipe_names, recipe_of
from sonicscan_train.fit.sampling import sampling_weights
from sonicscan_train.fit.schedule import Schedule
from sonicscan_train.fit.windows import Draw, batches, epoch_draws, mix, soft_targets
from sonicscan_train.packaged import read_packaged
from sonicscan_train.sound.spectrogram import SpecAugment, mask


@pytest.mark.parametrize(
    ("backbone", "batch_size", "lr"), [("lambda_resnet26rpt_256", 32, 1e-5), ("swinv2_small_window16_256", 20, 1e-4)]
)
def test_the_seed_recipe_is_the_published_one(backbone: str, batch_size: int, lr: float) -> None:
    recipe = recipe_of("seed", backbone)
    defaults = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=lr).defaults
    assert (recipe.batch_size, recipe.lr, recipe.epochs) == (batch_size, lr, 5)
    assert (recipe.weight_decay, recipe.betas, recipe.eps) == (
        defaults["weight_decay"],
        defaults["betas"],
        defaults["eps"],
    )
    assert recipe.weight_decay == 0.01
    assert (recipe.schedule, recipe.warmup, recipe.clip_norm, recipe.amp) == ("constant", 0.0, 0.0, False)
    assert (recipe.label_smoothing, recipe.mixup, recipe.ema) == (0.0, 0.0, 0.0)
    assert recipe.augmentation is None and recipe.spec_augment is None
    assert (recipe.crop, recipe.sampling, recipe.steps_per_epoch) == ("first", None, None)
    assert (recipe.best, recipe.valid_windows, recipe.split, recipe.preset) == ("loss", None, "files", "seed")


def seed_preprocessing(samples: np.ndarray) -> np.ndarray:
    """The published preprocessing of one clip: its library calls in their order, then its standardisation."""
    power = librosa.feature.melspectrogram(y=samples, sr=22050, n_mels=256, hop_length=512, fmin=0, fmax=None)
    decibels = librosa.power_to_db(power, ref=1.0, top_db=80)[:, :256]
    unit = np.clip((decibels + 80) / 80, 0.0, 1.0)
    return (unit - unit.mean()) / (unit.std(ddof=1) + 1e-6)


@pytest.mark.parametrize("level", [1e-3, 0.03, 0.3, 1.0])
def test_the_seed_audiospec_is_the_published_preprocessing(level: float) -> None:
    spec = PRESETS["seed"]
    rng = np.random.default_rng(0)
    sweep = librosa.chirp(fmin=40, fmax=11000, sr=22050, length=spec.window_samples).astype(np.float32)
    sounds = [
        people_or_machine(False, 1, 6.0)[: spec.window_samples],
        (0.1 * rng.standard_normal(spec.window_samples)).astype(np.float32),
        0.5 * sweep,
    ]
    for sound in sounds:
        window = np.clip(level * sound, -1, 1).astype(np.float32)
        ours, theirs = log_mel(spec)(window), seed_preprocessing(window)
        assert ours.shape == theirs.shape == (256, 256)
        assert np.abs(ours - theirs).max() < 1e-3


def test_robust_is_robust_for_both_backbones() -> None:
    for backbone in ("lambda_resnet26rpt_256", "swinv2_small_window16_256", "test_byobnet"):
        recipe = recipe_of("robust", backbone)
        assert (recipe.preset, recipe.schedule, recipe.best, recipe.split) == ("default", "cosine", "auc", "groups")
        assert recipe.sampling == Sampling() and recipe.crop == "random" and recipe.amp
        assert recipe.augmentation is not None and recipe.spec_augment is not None
        assert min(recipe.warmup, recipe.label_smoothing, recipe.mixup, recipe.ema) > 0
    with pytest.raises(InputError, match="made for other backbones"):
        recipe_of("seed", "test_byobnet")


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"steps_per_epoch": 0}])
def test_impossible_overrides_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"--{next(iter(wrong)).replace('_', '-')} must"):
        dataclasses.replace(recipe_of("robust", "lambda"), **wrong)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    recipe = Recipe("robust", "default", 8, 1.0 / 2, 0.0, 1, schedule="cosine", warmup=0.1)
    rates = [Schedule(recipe, 100).rate(step) for step in range(100)]
    assert np.allclose(np.diff(rates[:10]), 0.05) and max(rates) == rates[10] == 0.5
    assert np.all(np.diff(rates[10:]) < 0) and rates[-1] < 0.001
    constant = dataclasses.replace(recipe, schedule="constant", warmup=0.0)
    assert {Schedule(constant, 100).rate(step) for step in range(100)} == {0.5}


CLIPS = [Clip(f"h{i}", "human", f"s{i % 2}", f"h{i}") for i in range(20)] + [
    Clip(f"a{i}", "ai", "rare" if i < 4 else "common", f"a{i}") for i in range(104)
]


def test_people_and_ai_are_drawn_equally_and_no_source_drowns_another() -> None:
    weights = sampling_weights(CLIPS, Sampling())
    share: Counter[str] = Counter()
    for clip, weight in zip(CLIPS, weights, strict=True):
        share[clip.label] += weight
        share[clip.source] += weight
    assert share["human"] == pytest.approx(0.5) and share["ai"] == pytest.approx(0.5)
    assert share["common"] / share["rare"] == pytest.approx(np.sqrt(100 / 4))
    recipe = dataclasses.replace(recipe_of("robust", "lambda"), steps_per_epoch=100, batch_size=32)
    drawn = Counter(CLIPS[d.clip].label for d in epoch_draws(CLIPS, recipe, 0, 0))
    assert drawn.total() == 3200 and abs(drawn["human"] - 1600) < 150


def test_an_epoch_of_the_seed_is_every_clip_once() -> None:
    recipe = recipe_of("seed", "lambda")
    first, second = (epoch_draws(CLIPS, recipe, 0, epoch) for epoch in (0, 1))
    assert sorted(d.clip for d in first) == list(range(len(CLIPS)))
    assert [d.clip for d in first] != [d.clip for d in second]
    assert first == epoch_draws(CLIPS, recipe, 0, 0)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_every_batch(world: int) -> None:
    draws = [Draw(i, 0, i) for i in range(21)]
    parts = [batches(draws, 8, rank, world) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    for step in range(2):
        assert sorted(d.clip for part in parts for d in part[step]) == list(range(8 * step, 8 * step + 8))
    last = [d.clip for part in parts for d in part[2]]
    assert set(last) == {16, 17, 18, 19, 20} and len(last) % world == 0
    with pytest.raises(InputError, match="cannot be shared by 3"):
        batches(draws, 8, 0, 3)


def test_masks_are_stripes_within_their_limits() -> None:
    image = np.ones((256, 256), np.float32)
    for seed in range(20):
        out = mask(image, SpecAugment(times=1, frames=32, bands=1, rows=24), np.random.default_rng(seed))
        columns, rows = (out == 0).all(axis=0).sum(), (out == 0).all(axis=1).sum()
        assert columns <= 32 and rows <= 24
        assert (out == 0).sum() == 256 * columns + 256 * rows - columns * rows
    assert (image == 1).all()


def test_mixup_and_smoothing_keep_targets_probabilities() -> None:
    targets = soft_targets(torch.tensor([0, 1, 2]), 3, 0.3)
    assert torch.allclose(targets.sum(dim=1), torch.ones(3))
    # Half of what is spread goes to `human`, so that the other classes together have as much.
    assert torch.allclose(targets[:, 0], torch.tensor([0.85, 0.15, 0.15]))
    assert torch.allclose(targets[1], torch.tensor([0.15, 0.775, 0.075]))
    images = torch.arange(3.0)[:, None, None].expand(-1, 4, 4)
    mixed, soft = mix(images, soft_targets(torch.tensor([0, 1, 2]), 3, 0.0), 0.4, np.random.default_rng(1))
    assert torch.allclose(soft.sum(dim=1), torch.ones(3))
    # Images and targets are mixed with the same partner and the same share.
    assert torch.allclose(mixed[:, 0, 0], soft @ torch.arange(3.0))
    assert not torch.allclose(mixed, images)


def test_the_rate_of_a_run_by_the_clock_follows_the_time() -> None:
    recipe = recipe_of("small", "tf_efficientnet_lite0")
    clock = [1000.0]
    schedule = Schedule(recipe, 0, began=1000.0, until=2000.0, now=lambda: clock[0])
    assert schedule.rate(0) == pytest.approx(recipe.lr / 150) and schedule.rate(400) == recipe.lr
    falling = dataclasses.replace(schedule, recipe=dataclasses.replace(recipe, schedule="cosine"))
    seen = []
    for clock[0] in (1250.0, 1500.0, 2000.0):
        seen.append((schedule.rate(400) / recipe.lr, falling.rate(400) / recipe.lr))
    assert [constant for constant, _ in seen] == [1.0, 1.0, 1.0]
    assert [cosine for _, cosine in seen] == pytest.approx([0.8536, 0.5, 0.0], abs=1e-3)


def test_boosts_are_by_name_or_pattern_and_references_count_more() -> None:
    pair = [Clip("p", "human", "studio", "song"), Clip("q", "ai", "codec", "song")]
    clips = [*CLIPS, Clip("g1", "human", "GTZAN rock", "g1"), *pair]
    plain = sampling_weights(clips, Sampling())
    boosted = sampling_weights(clips, Sampling(boosts={"GTZAN*": 4.0, "rare": 3.0}, reference_boost=2.0))
    rise = boosted / plain
    base = rise[0]  # of people's music without a boost
    assert rise[len(CLIPS)] / base == pytest.approx(4.0) and rise[len(CLIPS) + 1] / base == pytest.approx(2.0)
    assert rise[20] / rise[30] == pytest.approx(3.0)
    # A page may have people's originals and what was generated from them; the originals alone are references.
    page = [Clip("o", "human", "page", "song"), Clip("m", "ai", "page", "song")]
    for ordered in (page, page[::-1]):
        mixed = [*CLIPS, *ordered]
        rise = sampling_weights(mixed, Sampling(reference_boost=2.0)) / sampling_weights(mixed, Sampling())
        by_label = {clip.label: float(r) for clip, r in zip(ordered, rise[len(CLIPS) :], strict=True)}
        assert by_label["human"] / rise[0] == pytest.approx(2.0) and by_label["ai"] == pytest.approx(1.0)
    # A group of many clips is drawn less often than as many clips of their own.
    album = [Clip(f"x{i}", "human", "s", "album" if i < 9 else f"x{i}") for i in range(10)]
    weights = sampling_weights([*album, pair[1]], Sampling(group_power=0.5))
    assert weights[:9].sum() / weights[9] == pytest.approx(3.0)


def test_every_recipe_in_the_package_is_read_and_mistakes_are_named(tmp_path: Path) -> None:
    assert recipe_names() == ["robust", "seed", "small"]
    small = recipe_of("small", "tf_efficientnet_lite0")
    assert small.cache is not None and small.cache.variants is not None and small.cache.augmentation is not None
    assert small.cache.layer_db == (-20.0, 0.0) and small.sampling is not None
    text = read_packaged("small", "recipes", "recipe")[0].read_text()
    own = tmp_path / "own.toml"
    own.write_text(text.replace("p_eq", "p_equaliser"))
    with pytest.raises(InputError, match=r"own\.toml has an unknown value 'p_equaliser' in SpectrogramAugmentation"):
        recipe_of(str(own), "lambda")
    own.write_text(text.replace("batch_size = 32", ""))
    with pytest.raises(InputError, match="has no batch_size for lambda"):
        recipe_of(str(own), "lambda")
    for right, wrong, words in (
        ('schedule = "constant"', 'schedule = "linear"', "schedule = 'linear', which must be 'constant' or 'cosine'"),
        ("batch_size = 32", 'batch_size = "32"', "batch_size = '32', which must be a whole number"),
        ("dropout = 0.2", "dropout = nan", "dropout = nan, which must be a number"),
        ("noise_db = [50.0, 90.0]", "noise_db = [50.0]", r"noise_db = \[50.0\], which must be 2 numbers"),
        ('preset = "default"', 'preset = "defalt"', "no AudioSpec 'defalt'; known: default, seed"),
        ("[sampling]", "[spec_augment]\n[sampling]", r"has spec_augment, which a recipe with \[cache\] does not use"),
        ("mixup_share = 0.2", "", r"mixup without mixup_share, which a recipe with \[cache\] does not use"),
        ("[sampling.boosts]", '[sampling.boosts]\n"X" = "high"', "which must be a table, each value a number"),
    ):
        assert right in text
        own.write_text(text.replace(right, wrong, 1))
        with pytest.raises(InputError, match=words):
            recipe_of(str(own), "tf_efficientnet_lite0")
    own.write_text('preset = "seed"\nbatch_size = 4\nlr = 1e-3\nweight_decay = 0\nepochs = 1\nnarrow_frames = 64\n')
    with pytest.raises(InputError, match=r"has narrow_frames, which a recipe without \[cache\] does not use"):
        recipe_of(str(own), "lambda")
    with pytest.raises(InputError, match="there is no recipe 'none'; known: robust, seed, small"):
        recipe_of("none", "lambda")
