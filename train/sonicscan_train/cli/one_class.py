"""Implements `sonicscan-train one-class`: features of the training windows, and a term of the head that is fitted to
them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import InputError, ModelError
from sonicscan.scoring.aggregate import window_margins
from sonicscan.spec import Calibration, ModelSpec
from sonicscan_train.cli.calibrating import on_best_device, say_skipped
from sonicscan_train.cli.display import counting, say
from sonicscan_train.data.clips import Clip, check_two_classes
from sonicscan_train.data.datasets import skip_unreadable
from sonicscan_train.data.folds import read_folds
from sonicscan_train.judge.scoring import track_logits
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.one_class import fit_term


def run_one_class(
    model: Path,
    clips: Sequence[Clip],
    out: Path,
    fold: tuple[Path | None, int | None],
    rank: int,
    share: float,
    plan: WindowPlan,
    max_bad: str,
    workers: int,
) -> None:
    """Write a copy of a checkpoint whose head has a one-class term, without calibration.

    Args:
        model: the checkpoint.
        clips: the data that it was trained with.
        out: the new checkpoint.
        fold: the folds of the clips, and the fold that it was trained without; None for both if it saw all clips, or
            the part `train` of a split.
        rank, share: as in `fit_term`.
        plan: windows of each clip.
        max_bad: as in `skip_unreadable`.
        workers: processes that decode.

    Raises:
        InputError: one class only, too few clips for the rank, or folds without --fold.
        ModelError: no checkpoint there, one with a term, or one that was trained without another fold.
    """
    detector, spec = checkpoint.load(model)
    if detector.one_class is not None:
        raise ModelError(f"{model} has a one-class term already; name the checkpoint without it.")
    trained_on = _training_clips(clips, spec, model, fold)
    check_two_classes(trained_on, "the one-class term")
    trained_on = skip_unreadable(trained_on, max_bad, say)
    classes = len(spec.classes)

    def features_and_logits(images: Tensor) -> Tensor:
        features = detector.features(images)
        return torch.cat([detector.classify(features), features.mean(dim=(2, 3))], dim=1)

    forward = on_best_device(detector, features_and_logits)
    with counting("reading", len(trained_on)) as done:
        read = track_logits(forward, trained_on, spec.audio, plan, workers=workers, skipped=say_skipped, done=done)
        tracks = list(read)
    values = np.concatenate([track.logits for track in tracks])
    human = np.repeat([track.clip.human for track in tracks], [len(track.logits) for track in tracks])
    margins = window_margins(values[:, :classes], 1.0)
    detector.one_class = fit_term(values[:, classes:], margins, human, rank, share)
    fitted = {"rank": rank, "share": share, "windows": len(values), "tracks": len(tracks)}
    spec = dataclasses.replace(spec, calibration=Calibration(), temperature=1.0, offset=0.0)
    spec = dataclasses.replace(spec, provenance={**spec.provenance, "one_class": fitted})
    checkpoint.save(out, detector.cpu(), spec)
    click.echo(f"windows\t{len(values)}, {int(human.sum())} by people\nscale\t{float(detector.one_class.scale):.3f}")


def _training_clips(
    clips: Sequence[Clip], spec: ModelSpec, model: Path, fold: tuple[Path | None, int | None]
) -> list[Clip]:
    path, left_out = fold
    if (path is None) != (left_out is None):
        raise InputError("--folds FILE and --fold K go together.")
    if path is None:
        parts = {clip.part for clip in clips}
        return [clip for clip in clips if parts == {""} or clip.part == "train"]
    if (known := spec.provenance.get("fold", left_out)) != left_out:
        raise ModelError(f"{model} was trained without fold {known}, not {left_out}.")
    return [clip for clip, number in zip(clips, read_folds(path, clips), strict=True) if number != left_out]
