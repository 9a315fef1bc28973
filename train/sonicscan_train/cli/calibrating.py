"""Implements `sonicscan-train calibrate`: scores a part of the split, fits, writes, and prints the certified rates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import InputError
from sonicscan.scoring.thresholds import certified_rates
from sonicscan.spec import ModelSpec
from sonicscan_train.cli.display import counting, say
from sonicscan_train.data.clips import CODEC, Clip, check_two_classes, has_split, independent_groups
from sonicscan_train.data.datasets import skip_unreadable
from sonicscan_train.judge.calibration import RATES, TEMPERATURES, calibrated, require
from sonicscan_train.judge.scoring import Forward, TrackLogits, track_logits
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet


def run_calibrate(
    model: Path,
    clips: Sequence[Clip],
    out: Path,
    part: str | None,
    plan: WindowPlan,
    max_fpr: float | None,
    all_tracks: bool,
    seed: int,
    max_bad: str,
    workers: int,
) -> None:
    """Calibrate a checkpoint.

    Raises:
        InputError: a part that is not there, one class only, or too few tracks for `max_fpr`.
        ModelError: no checkpoint there.
    """
    detector, spec = checkpoint.load(model)
    chosen, part = _part(clips, part)
    chosen = skip_unreadable(chosen, max_bad, say)
    check_two_classes([clip for clip in chosen if clip.label != CODEC], "calibration")
    strangers = _strangers(clips, spec)
    forward = on_best_device(detector)
    with counting("scoring", len(chosen) + len(strangers)) as done:

        def logits(of: Sequence[Clip]) -> list[TrackLogits]:
            return list(track_logits(forward, of, spec.audio, plan, workers=workers, skipped=say_skipped, done=done))

        tracks, unknown = logits(chosen), logits(strangers)
    people = independent_groups([track.clip for track in tracks if track.clip.human])
    data = f"{part}: {len(set(people))} groups of music by people"
    spec = calibrated(tracks, spec, unknown, data=data, windows=str(plan), all_tracks=all_tracks, seed=seed)
    if spec.temperature > 0.99 * TEMPERATURES[1]:
        say("the scores separate these tracks no better than chance: the fitted temperature is at its upper limit.")
    if max_fpr is not None:
        require(spec, max_fpr)
    rates = certified_rates(spec.calibration, RATES)
    certified = {f"{rate.max_fpr:g}": rate.threshold for rate in rates if rate.threshold is not None}
    metrics = {**spec.metrics, "certified_thresholds": certified}
    checkpoint.save(out, detector.cpu(), dataclasses.replace(spec, metrics=metrics))
    click.echo(f"temperature\t{spec.temperature:.4f}")
    click.echo(f"offset\t{spec.offset:.4f}")
    click.echo(f"windows\t{spec.calibration.windows}")
    click.echo(f"tracks by people\t{spec.calibration.n}")
    if spec.unknown_below is not None:
        click.echo(f"unknown below\t{spec.unknown_below:.4f}")
    for rate in rates:
        if rate.threshold is None:
            click.echo(f"rate {rate.max_fpr:g}\tnot certified: needs {rate.tracks_needed} tracks by people")
        else:
            caught = f"catches {rate.caught or 0.0:.1%} of the AI here"
            click.echo(f"rate {rate.max_fpr:g}\tthreshold {rate.threshold:.4f}\t{caught}")


def on_best_device(detector: DetectorNet) -> Forward:
    """The model's forward on the GPU, where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = detector.to(device).eval()

    def forward(images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(images.to(device))
        return logits

    return forward


def say_skipped(clip: Clip, why: str) -> None:
    """Prints the path of a track without a score."""
    say(f"no score: {clip.path}: {why}")


def _part(clips: Sequence[Clip], part: str | None) -> tuple[list[Clip], str]:
    """Returns the clips to calibrate on, never those of the training part."""
    if not has_split(clips):
        if part is not None:
            raise InputError(f"the data has no split, and so no part {part!r}.")
        say("the data has no split, so all of it is used; the model must not have been trained on it.")
        return list(clips), "all of the data"
    found = {clip.part for clip in clips}
    if part is None:
        part = "calibration" if "calibration" in found else "valid"
        if part == "valid":
            say("the validation part also selected the checkpoint, so rates are too low; see split --calibration.")
    if part == "train":
        raise InputError("a model cannot be calibrated on its training part; name another --part.")
    chosen = [clip for clip in clips if clip.part == part]
    if not chosen:
        raise InputError(f"the split has no part {part!r}; it has {', '.join(sorted(found))}.")
    return chosen, part


def _strangers(clips: Sequence[Clip], spec: ModelSpec) -> list[Clip]:
    """Tracks of left-out generators, which a model of several classes should call `unknown`."""
    if not spec.multiclass:
        return []
    return [clip for clip in clips if clip.part == "holdout" and not clip.human and clip.label != CODEC]
