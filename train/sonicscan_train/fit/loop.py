"""The training loop: accelerate around a plain loop that can be stopped after any epoch and gone on with.

Bit for bit the same after a resume: batches follow from (seed, epoch, position), the learning rate from the step,
torch's generator is seeded anew for each epoch, and the rest (weights, average, optimiser) is in the state file.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object

import sonicscan
from sonicscan.errors import InputError, ModelError
from sonicscan.spec import PRESETS, ModelSpec
from sonicscan_train.data.clips import Clip, check_two_classes, class_names, class_of
from sonicscan_train.data.manifest import write_split
from sonicscan_train.fit.average import Averaged
from sonicscan_train.fit.recipes import Recipe
from sonicscan_train.fit.run import FitConfig, Progress, RunFolder
from sonicscan_train.fit.validate import Validation, validate
from sonicscan_train.fit.windows import (
    MIXUP,
    Windows,
    batches,
    epoch_draws,
    epoch_loader,
    mix,
    soft_targets,
)
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import Detector, as_input, build, full_name
from sonicscan_train.pictures import draw_curves, draw_roc

_TORCH = 4  # the stream of random numbers that torch's own generator is seeded from


@dataclass(frozen=True)
class Watcher:
    """What a person sees of a run; every method may be called often.

    Attributes:
        began: called with epoch and number of steps.
        stepped: called after each step with the loss.
        ended: called with the epoch's figures.
        skipped: called with a sentence about a track that could not be validated on.
    """

    began: Callable[[int, int], None] = lambda epoch, steps: None
    stepped: Callable[[float], None] = lambda loss: None
    ended: Callable[[dict[str, Any]], None] = lambda row: None
    skipped: Callable[[str], None] = lambda why: None


def fit(
    clips: Sequence[Clip],
    config: FitConfig,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 0,
    watcher: Watcher | None = None,
) -> Progress:
    """Train a detector.

    Args:
        clips: with their parts; `train` and `valid` are used.
        config: what to do.
        out: the run's folder.
        resume: go on with the run in `out`.
        workers: processes that load training windows, for each training process.
        watcher: what a person sees.

    Returns:
        the figures of all epochs; `out/best` is the checkpoint.

    Raises:
        InputError: a part or a class is missing, unknown labels, or `out` holds another run.
        ModelError: no such network or weights, or a loss that is not finite.
    """
    train, valid, spec = _prepared(clips, config)
    folder = RunFolder(out, config, resume=resume)
    session, progress = _begun(folder, spec, config)
    accelerator = session.accelerator
    if accelerator.is_main_process:
        folder.begin(config)
        write_split(clips, out / "split.csv")
    accelerator.wait_for_everyone()
    windows = Windows(train, spec.classes, config.classes, config.families, spec.audio, config.recipe, config.seed)
    watch = (watcher or Watcher()) if accelerator.is_main_process else Watcher()
    while progress.epoch < config.recipe.epochs:
        began = time.monotonic()
        draws = epoch_draws(train, config.recipe, config.seed, progress.epoch)
        own = batches(draws, config.recipe.batch_size, accelerator.process_index, accelerator.num_processes)
        watch.began(progress.epoch + 1, len(own))
        loss = _train_epoch(session, config, progress.epoch, len(own), epoch_loader(windows, own, workers), watch)
        trained_s = time.monotonic() - began
        result = validate(session.synchronised(), valid, spec, config, accelerator, workers, watch.skipped)
        row = {
            "epoch": progress.epoch + 1,
            "steps": session.averaged.steps,
            "lr": session.optimizer.param_groups[0]["lr"],
            "train_loss": loss,
            **result.figures(),
            "processes": accelerator.num_processes,
            "windows_per_s": round(len(draws) / max(trained_s, 1e-9), 2),
            "seconds": round(time.monotonic() - began, 1),
        }
        progress = _noted(progress, row, config.recipe)
        if accelerator.is_main_process:
            _write(folder, session, spec, progress, result)
            watch.ended(row)
        accelerator.wait_for_everyone()
    return progress


@dataclass(frozen=True)
class _Session:
    """What is trained, by what, on what.

    Attributes:
        detector: the network.
        model: the same as accelerate wraps it for several processes.
        optimizer: as accelerate wraps it.
        averaged: the network that is validated and kept.
        accelerator: device, precision and processes.
    """

    detector: Detector
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    averaged: Averaged
    accelerator: Accelerator

    def synchronised(self) -> Detector:
        """The averaged network in evaluation mode, equal in every process."""
        # Each process has seen other batches and so has other batch statistics; the first one's count.
        for buffer in self.averaged.model.buffers():
            buffer.copy_(broadcast(buffer))
        return self.averaged.model.eval()

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, but for the configuration."""
        state: dict[str, Any] = {
            "model": self.detector.state_dict(),
            "averaged": self.averaged.model.state_dict(),
            "steps": self.averaged.steps,
            "optimizer": self.optimizer.state_dict(),
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        return state


def _begun(folder: RunFolder, spec: ModelSpec, config: FitConfig) -> tuple[_Session, Progress]:
    """A session as it was at the end of the last epoch in the folder, or a new one."""
    recipe = config.recipe
    accelerator = Accelerator(mixed_precision=_precision(recipe.amp))
    torch.manual_seed(config.seed)
    detector = build(config.backbone, len(spec.classes), config.weights).to(accelerator.device)
    optimizer = torch.optim.AdamW(
        detector.parameters(), lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay
    )
    averaged = Averaged(detector, recipe.ema)
    progress = Progress()
    if found := folder.read():
        progress, state = found
        detector.load_state_dict(state["model"])
        averaged.model.load_state_dict(state["averaged"])
        averaged.steps = state["steps"]
        optimizer.load_state_dict(state["optimizer"])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
    model = cast(torch.nn.Module, accelerator.prepare(detector))
    return _Session(detector, model, accelerator.prepare(optimizer), averaged, accelerator), progress


def _prepared(clips: Sequence[Clip], config: FitConfig) -> tuple[list[Clip], list[Clip], ModelSpec]:
    """The clips to train and to validate on, and the contract."""
    train = [clip for clip in clips if clip.part == "train"]
    valid = [clip for clip in clips if clip.part == "valid"]
    if not train or not valid:
        raise InputError(f"the split has no clips to {'train' if not train else 'validate'} on.")
    classes = class_names(train, config.classes, config.families)
    # A generator with too few groups to be in training has no class to be validated against.
    valid = [clip for clip in valid if class_of(clip, config.classes, config.families) in classes]
    check_two_classes(train, "training")
    check_two_classes(valid, "validation")
    spec = ModelSpec(
        architecture=full_name(config.backbone),
        classes=classes,
        audio=PRESETS[config.recipe.preset],
        data_digest=config.data_digest,
        provenance={"recipe": config.recipe.name, "weights": Path(config.weights).name, "seed": config.seed},
        tool_version=sonicscan.__version__,
        license_note=config.license_note,
    )
    return train, valid, spec


def _precision(amp: bool) -> str:
    if not amp or not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """The rate of the 0-based `step` of `total`: linear warm-up, then constant or half a cosine towards zero."""
    warmup = round(recipe.warmup * total)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.lr
    return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _train_epoch(
    session: _Session,
    config: FitConfig,
    epoch: int,
    steps: int,
    loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
    watch: Watcher,
) -> float:
    """Take the `steps` steps of a 0-based epoch; returns the mean loss over all processes."""
    recipe, accelerator, model = config.recipe, session.accelerator, session.model
    rank = accelerator.process_index
    torch.manual_seed(int(np.random.SeedSequence([config.seed, _TORCH, epoch, rank]).generate_state(1)[0]))
    model.train()
    total = 0.0
    for step, (raw_images, raw_targets) in enumerate(loader):
        for group in session.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, epoch * steps + step, steps * recipe.epochs)
        images = raw_images.to(accelerator.device, non_blocking=True)
        targets = raw_targets.to(accelerator.device, non_blocking=True)
        soft = soft_targets(targets, session.detector.head.out_features, recipe.label_smoothing)
        if recipe.mixup:
            images, soft = mix(
                images, soft, recipe.mixup, np.random.default_rng([config.seed, MIXUP, epoch, step, rank])
            )
        with accelerator.autocast():
            logits = model(as_input(images))
        loss = torch.nn.functional.cross_entropy(logits.float(), soft)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(f"the loss is not finite in epoch {epoch + 1}, step {step + 1}; lower --lr.")
        session.optimizer.zero_grad()
        accelerator.backward(loss)
        if recipe.clip_norm:
            accelerator.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        session.optimizer.step()
        session.averaged.update()
        total += value
        watch.stepped(value)
    return float(np.mean(gather_object([total / steps])))


def _noted(progress: Progress, row: dict[str, Any], recipe: Recipe) -> Progress:
    """Progress after another epoch; the best is the lowest loss or the highest AUC, the earlier one where equal."""
    best = progress.best
    if recipe.best == "loss":
        better = best is None or row["valid_loss"] < best["valid_loss"]
    else:
        better = best is None or row["valid_auc"] > best["valid_auc"]
    return Progress(progress.epoch + 1, [*progress.history, row], row if better else best)


def _write(folder: RunFolder, session: _Session, spec: ModelSpec, progress: Progress, result: Validation) -> None:
    """Everything on disk after an epoch; the checkpoint first, so that no state names one that is not there."""
    row = progress.history[-1]
    if progress.best is row:
        metrics = {"validation": {"epoch": row["epoch"], **result.figures()}}
        checkpoint.save(folder.best, session.averaged.model, dataclasses.replace(spec, metrics=metrics))
        draw_roc({"validation tracks": (result.truth, result.scores)}, folder.path / "roc.png")
    draw_curves(progress.history, folder.path / "loss.png")
    folder.write(progress, session.state())
