"""The training loop, with accelerate. It can be resumed after any epoch.

A resumed run equals an uninterrupted one bit for bit. Batches depend on (seed, epoch, position), and the learning rate
on the step. torch's generator is seeded for each epoch. The state file holds weights, average and optimiser.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

import sonicscan
from sonicscan.errors import InputError, ModelError
from sonicscan.spec import PRESETS, ModelSpec
from sonicscan_train.data.clips import Clip, check_two_classes, class_names, class_of
from sonicscan_train.data.manifest import write_split
from sonicscan_train.fit.loss import cross_entropy
from sonicscan_train.fit.recipes import Recipe
from sonicscan_train.fit.run import FitConfig, RunFolder, TrainingProgress
from sonicscan_train.fit.schedule import Schedule
from sonicscan_train.fit.session import Session, begin
from sonicscan_train.fit.sources import BatchSource, FileSource, cache_source
from sonicscan_train.fit.teacher import Teacher, hint_loss, read_teacher
from sonicscan_train.fit.validate import Validation, validate
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import as_input, full_name
from sonicscan_train.pictures import draw_curves, draw_roc

_TORCH = 4  # the stream of random numbers that torch's own generator is seeded from


@dataclass(frozen=True)
class Watcher:
    """Receives the progress of a run; every method may be called often.

    Attributes:
        began: called with epoch and number of steps.
        stepped: called after each step with the loss.
        ended: called with the epoch's figures.
        skipped: called with a sentence about a track that could not be validated on.
        cached: called after each excerpt that is decoded or varied for the cache.
    """

    began: Callable[[int, int], None] = lambda epoch, steps: None
    stepped: Callable[[float], None] = lambda loss: None
    ended: Callable[[dict[str, Any]], None] = lambda row: None
    skipped: Callable[[str], None] = lambda why: None
    cached: Callable[[], None] = lambda: None


def fit(
    clips: Sequence[Clip],
    config: FitConfig,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 0,
    cache: Path | None = None,
    watcher: Watcher | None = None,
) -> TrainingProgress:
    """Train a detector.

    Args:
        clips: with their parts; `train` and, unless the last weights are kept, `valid` are used.
        config: what to do.
        out: the run's folder.
        resume: continue the run in `out`.
        workers: processes that load training windows, for each training process.
        cache: folder of decoded excerpts, for recipes with `[cache]`; None is `out/cache`.
        watcher: receives the progress.

    Returns:
        the figures of all epochs; `out/best` is the checkpoint.

    Raises:
        InputError: a part or a class is missing, unknown labels, `out` holds another run, or no time for an epoch.
        ModelError: no such network or weights, or a loss that is not finite.
    """
    with contextlib.closing(RunFolder(out, config, resume=resume)) as folder:
        return _fit(clips, config, folder, workers, cache or out / "cache", watcher or Watcher())


def _fit(
    clips: Sequence[Clip], config: FitConfig, folder: RunFolder, workers: int, cache: Path, watcher: Watcher
) -> TrainingProgress:
    train, valid, spec = _prepared(clips, config)
    recipe = config.recipe
    teachers = [Path(name) for name in config.teachers]
    teacher = read_teacher(teachers, recipe.teacher_share, recipe.hint_weight, spec)
    session, progress = begin(folder, spec, config, 0 if teacher is None else teacher.hint_channels)
    accelerator = session.accelerator
    if teacher is not None:
        teacher.detector.to(accelerator.device)
    watch = watcher if accelerator.is_main_process else Watcher()
    if accelerator.is_main_process:
        folder.begin(config)
        write_split(clips, folder.path / "split.csv")
    rank, world = accelerator.process_index, accelerator.num_processes
    source: BatchSource
    if recipe.cache is None:
        source = FileSource(train, spec, config, rank, world, workers)
    else:
        with accelerator.main_process_first():
            source = cache_source(clips, train, spec, config, cache, rank, world, workers, watch.cached)
    accelerator.wait_for_everyone()
    steps = source.steps(0)
    schedule = Schedule(recipe, steps * recipe.epochs, progress.began, config.until)
    while not _done(schedule, progress, steps):
        began = time.monotonic()
        watch.began(progress.epoch + 1, steps)
        loss, taken = _train_epoch(session, config, progress.epoch, source, schedule, teacher, watch)
        trained_s = time.monotonic() - began
        session.synchronise()
        if session.mean is not None and schedule.in_mean((progress.epoch + 1) * steps):
            session.mean.add(session.averaged.model)
        result = None
        if recipe.best != "last":
            result = validate(session.kept, valid, spec, config, accelerator, workers, watch.skipped)
        row = {
            "epoch": progress.epoch + 1,
            "steps": session.averaged.steps,
            "lr": session.optimizer.param_groups[0]["lr"],
            "train_loss": loss,
            **(result.figures() if result is not None else {}),
            "processes": accelerator.num_processes,
            "windows_per_s": round(taken * recipe.batch_size / max(trained_s, 1e-9), 2),
            "seconds": round(time.monotonic() - began, 1),
        }
        progress = _noted(progress, row, recipe)
        if accelerator.is_main_process:
            _write(folder, session, spec, progress, result)
            watch.ended(row)
        accelerator.wait_for_everyone()
    if progress.epoch == 0:
        raise InputError(
            f"--until was over before the first epoch, so {folder.path} has no checkpoint; add --resume and a later "
            "time (UTC)."
        )
    return progress


def _done(schedule: Schedule, progress: TrainingProgress, steps: int) -> bool:
    if schedule.until is None:
        return progress.epoch >= schedule.recipe.epochs
    return schedule.progress(progress.epoch * steps) >= 1.0


def _prepared(clips: Sequence[Clip], config: FitConfig) -> tuple[list[Clip], list[Clip], ModelSpec]:
    """The clips to train and to validate on, and the contract."""
    train = [clip for clip in clips if clip.part == "train"]
    valid = [clip for clip in clips if clip.part == "valid"]
    last = config.recipe.best == "last"
    if not train or not (valid or last):
        raise InputError(f"the split has no clips to {'train' if not train else 'validate'} on.")
    classes = class_names(train, config.classes, config.families)
    # A generator with too few groups to be in training has no class to be validated against.
    valid = [clip for clip in valid if class_of(clip, config.classes, config.families) in classes]
    check_two_classes(train, "training")
    if not last:
        check_two_classes(valid, "validation")
    spec = ModelSpec(
        architecture=full_name(config.backbone),
        classes=classes,
        audio=PRESETS[config.recipe.preset],
        data_digest=config.data_digest,
        provenance={
            "recipe": config.recipe.name,
            "weights": Path(config.weights).name,
            "seed": config.seed,
            **({} if config.fold is None else {"fold": config.fold}),
            **({"teachers": [Path(name).name for name in config.teachers]} if config.teachers else {}),
        },
        tool_version=sonicscan.__version__,
        license_note=config.license_note,
    )
    return train, valid, spec


def _train_epoch(
    session: Session,
    config: FitConfig,
    epoch: int,
    source: BatchSource,
    schedule: Schedule,
    teacher: Teacher | None,
    watch: Watcher,
) -> tuple[float, int]:
    """Take the steps of a 0-based epoch, or those until the run's time is over.

    Returns:
        the mean loss over all processes, and how many steps were taken.
    """
    recipe, accelerator, model = config.recipe, session.accelerator, session.model
    rank = accelerator.process_index
    torch.manual_seed(int(np.random.SeedSequence([config.seed, _TORCH, epoch, rank]).generate_state(1)[0]))
    model.train()
    on_cpu = accelerator.device.type == "cpu" and recipe.cpu_bfloat16
    first = epoch * source.steps(epoch)
    total, taken = 0.0, 0
    for step, (raw_images, raw_targets) in enumerate(source.epoch(epoch)):
        if taken and schedule.until is not None and schedule.progress(first + step) >= 1.0:
            break
        for group in session.optimizer.param_groups:
            group["lr"] = schedule.rate(first + step)
        images = raw_images.to(accelerator.device, non_blocking=True)
        soft = raw_targets.to(accelerator.device, non_blocking=True)
        with accelerator.autocast(), torch.autocast("cpu", torch.bfloat16, enabled=on_cpu):
            if teacher is not None:
                soft, features = teacher.teach(images, soft)
            logits, projected = model(as_input(images).contiguous(memory_format=torch.channels_last))
        loss = cross_entropy(logits.float(), soft, recipe.family_weight)
        if teacher is not None and projected is not None:
            loss = loss + teacher.hint_weight * hint_loss(projected, features)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(f"the loss is not finite in epoch {epoch + 1}, step {step + 1}; lower --lr.")
        session.optimizer.zero_grad()
        accelerator.backward(loss)
        if recipe.clip_norm:
            accelerator.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        session.optimizer.step()
        session.averaged.update()
        total, taken = total + value, taken + 1
        watch.stepped(value)
    return float(np.mean(gather_object([total / max(taken, 1)]))), taken


def _noted(progress: TrainingProgress, row: dict[str, Any], recipe: Recipe) -> TrainingProgress:
    """Progress after another epoch; of equally good epochs the earlier is the best."""
    best = progress.best
    if recipe.best == "last":
        better = True
    elif recipe.best == "loss":
        better = best is None or row["valid_loss"] < best["valid_loss"]
    else:
        better = best is None or row["valid_auc"] > best["valid_auc"]
    return TrainingProgress(progress.epoch + 1, [*progress.history, row], row if better else best, progress.began)


def _write(
    folder: RunFolder, session: Session, spec: ModelSpec, progress: TrainingProgress, result: Validation | None
) -> None:
    """Writes all files of the run after an epoch: the checkpoint first, so that no state names a missing checkpoint."""
    row = progress.history[-1]
    if progress.best is row:
        metrics = {} if result is None else {"validation": {"epoch": row["epoch"], **result.figures()}}
        provenance = {**spec.provenance, "steps": row["steps"]}
        kept = dataclasses.replace(spec, metrics=metrics, provenance=provenance)
        checkpoint.save(folder.best, session.kept, kept)
    if progress.best is row and result is not None:
        draw_roc({"validation tracks": (result.truth, result.scores)}, folder.path / "roc.png")
    draw_curves(progress.history, folder.path / "loss.png")
    folder.write(progress, session.state())
