"""The training state: the network, its optimiser and its average, and how a resumed run loads them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from sonicscan.spec import ModelSpec
from sonicscan_train.fit.average import Averaged, EpochMean
from sonicscan_train.fit.run import FitConfig, RunFolder, TrainingProgress
from sonicscan_train.fit.teacher import Student
from sonicscan_train.nets.backbones import DetectorNet, build
from sonicscan_train.nets.depthwise import quicken


@dataclass(frozen=True)
class Session:
    """The network, its optimiser and its devices.

    Attributes:
        student: the network in training, with its projection for hints.
        model: the same as accelerate wraps it for several processes.
        optimizer: as accelerate wraps it.
        averaged: its moving average over steps.
        mean: the mean of `averaged` over epochs; None if the recipe has no `mean_from`.
        accelerator: device, precision and processes.
    """

    student: Student
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    averaged: Averaged
    mean: EpochMean | None
    accelerator: Accelerator

    def synchronise(self) -> None:
        """Makes the averaged network equal in every process, and puts it into evaluation mode."""
        # Each process has different batches and so different batch statistics; those of the first process are used.
        for buffer in self.averaged.model.buffers():
            buffer.copy_(broadcast(buffer))
        self.averaged.model.eval()

    @property
    def kept(self) -> DetectorNet:
        """The network that is validated and kept, in evaluation mode."""
        return self.mean.model.eval() if self.mean is not None and self.mean.epochs else self.averaged.model

    def state(self) -> dict[str, Any]:
        """The state that the next epoch depends on, without the configuration."""
        state: dict[str, Any] = {
            "model": self.student.detector.state_dict(),
            "averaged": self.averaged.model.state_dict(),
            "steps": self.averaged.steps,
            "optimizer": self.optimizer.state_dict(),
        }
        if self.student.projection is not None:
            state["projection"] = self.student.projection.state_dict()
        if self.mean is not None:
            state |= {"mean": self.mean.model.state_dict(), "mean_epochs": self.mean.epochs}
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        return state


def begin(
    folder: RunFolder, spec: ModelSpec, config: FitConfig, hint_channels: int = 0
) -> tuple[Session, TrainingProgress]:
    """A session as it was at the end of the last epoch in the folder, or a new one.

    Args:
        folder: of the run.
        spec: the contract of the network.
        config: what to do.
        hint_channels: channels of the teacher's features; 0 for no hints.
    """
    recipe = config.recipe
    accelerator = Accelerator(mixed_precision=_precision(recipe.amp))
    torch.manual_seed(config.seed)
    detector = build(config.backbone, len(spec.classes), config.weights, dropout=recipe.dropout)
    if recipe.cpu_bfloat16 and accelerator.device.type == "cpu":
        quicken(detector)
    student = Student(detector, hint_channels)
    # Convolutions are faster with channels last, on CPUs and on GPUs. PyTorch's types have no such call for modules.
    student = student.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay
    )
    averaged = Averaged(detector, recipe.ema)
    mean = None if recipe.mean_from is None else EpochMean(detector)
    progress = TrainingProgress(began=time.time())
    if found := folder.read():
        progress, state = found
        detector.load_state_dict(state["model"])
        if student.projection is not None:
            student.projection.load_state_dict(state["projection"])
        averaged.model.load_state_dict(state["averaged"])
        averaged.steps = state["steps"]
        if mean is not None:
            mean.model.load_state_dict(state["mean"])
            mean.epochs = state["mean_epochs"]
        optimizer.load_state_dict(state["optimizer"])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
    model = cast(torch.nn.Module, accelerator.prepare(student))
    return Session(student, model, accelerator.prepare(optimizer), averaged, mean, accelerator), progress


def _precision(amp: bool) -> str:
    if not amp or not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
