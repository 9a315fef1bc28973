"""Batches of cached excerpts, and what a teacher adds to their targets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from training_sound import TINY

from sonicscan.errors import ModelError
from sonicscan.spec import AudioSpec, ModelSpec
from sonicscan_train.data.caches import MelFrames, Version
from sonicscan_train.data.clips import Clip
from sonicscan_train.fit.batches import CachedBatches, layered
from sonicscan_train.fit.recipes import CachePlan, Recipe, Sampling
from sonicscan_train.fit.teacher import hint_loss, read_teacher
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import as_input, build

SPEC = AudioSpec()
PLAN = CachePlan(seconds=5.2, first_version=1.0)
RECIPE = Recipe("r", "default", 8, 1e-3, 0.0, 1, sampling=Sampling(), cache=PLAN, best="last")


def batches(plan: CachePlan = PLAN, **changes: object) -> CachedBatches:
    """Six songs by people, and the same sound as AI in the same groups."""
    clips = [Clip(f"h{i}", "human", "site", f"song-{i}") for i in range(6)]
    clips += [Clip(f"a{i}", "ai", "decoder", f"song-{i}") for i in range(6)]
    sound = (8000 * np.random.default_rng(2).uniform(-1, 1, (6, int(5.2 * SPEC.sample_rate)))).astype(np.int16)
    mel = np.stack([MelFrames(SPEC).of_excerpt(samples) for samples in sound])
    recipe = dataclasses.replace(RECIPE, cache=plan, **changes)  # type: ignore[arg-type]
    rows = [*range(6), *range(6)]
    return CachedBatches(clips, rows, [0] * 6 + [1] * 6, 2, [Version(sound, mel)], SPEC, recipe, 0)


def test_a_batch_follows_from_its_step_and_has_both_classes() -> None:
    drawn = batches()
    images, targets = drawn(3, 128)
    assert images.shape == (8, 256, 128) and images.dtype == torch.float32
    assert targets.tolist() == [[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4
    torch.testing.assert_close(images.mean(dim=(1, 2)), torch.zeros(8), atol=1e-4, rtol=0)
    again, other = batches()(3, 128)[0], drawn(4, 128)[0]
    assert torch.equal(images, again) and not torch.equal(images, other)
    smoothed = batches(label_smoothing=0.04)(3, 128)[1]
    torch.testing.assert_close(smoothed[0], torch.tensor([0.98, 0.02]))


def test_partners_are_in_one_batch_at_the_same_place() -> None:
    images, _ = batches(dataclasses.replace(PLAN, paired_share=1.0))(0, 256)
    torch.testing.assert_close(images[:4], images[4:])  # the "decoder" here changes nothing
    assert not torch.equal(images[0], images[1])


def test_mixed_windows_have_mixed_targets() -> None:
    images, targets = batches(mixup=0.4, mixup_share=1.0)(0, 128)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(8))
    assert ((targets > 0.0) & (targets < 1.0)).any()
    torch.testing.assert_close(images.std(dim=(1, 2)), torch.ones(8), atol=1e-3, rtol=0)


def test_layers_are_of_one_class_and_add_power() -> None:
    level = torch.tensor([0.0] * 4 + [-60.0] * 4).view(8, 1, 1)
    decibels = level.expand(8, 256, 64).clone()
    decibels[:, 0, 0] = 0.0  # the maximum, which each window is measured from
    plan = CachePlan(layer_share=1.0, layer_db=(0.0, 0.0))
    mixed = layered(decibels, 4, plan, np.random.default_rng(0))
    torch.testing.assert_close(mixed[:4], torch.full((4, 256, 64), 3.0103), atol=1e-3, rtol=0)
    torch.testing.assert_close(mixed[4:, 1:], torch.full((4, 255, 64), -56.9897), atol=1e-3, rtol=0)
    assert torch.equal(layered(decibels, 4, CachePlan(), np.random.default_rng(0)), decibels)


def test_a_teacher_has_its_share_of_the_target(tmp_path: Path) -> None:
    for k in range(2):
        network = build(TINY, seed=k)
        with torch.no_grad():
            network.head.bias.copy_(torch.tensor([0.0, 1.0 + k]))
        checkpoint.save(tmp_path / f"m{k}", network, ModelSpec(network.architecture))
    folders = [tmp_path / "m0", tmp_path / "m1"]
    student = ModelSpec("any")
    teacher = read_teacher(folders, 0.25, 1.0, student)
    assert teacher is not None and read_teacher([], 0.5, 1.0, student) is None
    images = torch.randn(4, 256, 256, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 2)
    with torch.inference_mode():
        logits = torch.stack([checkpoint.load(f)[0](as_input(images)) for f in folders]).mean(dim=0)
        wanted = 0.75 * targets + 0.25 * torch.softmax(logits, dim=1)
        mixed, features = teacher.teach(images, targets)
        torch.testing.assert_close(mixed, wanted, atol=1e-4, rtol=1e-4)
    assert features.shape == (4, teacher.hint_channels, 8, 8) and not features.requires_grad
    plain = read_teacher(folders, 0.25, 0.0, student)
    assert plain is not None and plain.hint_channels == 0
    with pytest.raises(ModelError, match="other classes than the student"):
        read_teacher(folders, 0.5, 0.0, ModelSpec("any", classes=("human", "a", "b")))
    without_zero = ModelSpec("any", provenance={"fold": 0})
    checkpoint.save(folders[1], network, ModelSpec(network.architecture, provenance={"fold": 1}))
    with pytest.raises(ModelError, match="m1 was trained without fold 1, and so with fold 0, which this run"):
        read_teacher(folders, 0.5, 0.0, without_zero)
    checkpoint.save(folders[1], network, ModelSpec(network.architecture, provenance={"fold": 0}))
    assert read_teacher(folders, 0.5, 0.0, without_zero) is not None


def test_hints_measure_the_variance_that_is_left() -> None:
    features = torch.randn(4, 5, 8, 8, generator=torch.Generator().manual_seed(0)) + 3.0
    assert hint_loss(features, features) == 0.0
    means = features.mean(dim=(0, 2, 3), keepdim=True)
    torch.testing.assert_close(hint_loss(means.expand_as(features), features), torch.tensor(1.0))
    half = means + 0.5 * (features - means)
    torch.testing.assert_close(hint_loss(half, features), torch.tensor(0.25))
