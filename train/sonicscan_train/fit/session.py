"""The training state: the network, its optimiser and its average, and how a resumed run loads them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from sonicscan.spec import ModelSpec
from sonicscan_train.fit.average import Averaged
from sonicscan_train.fit.run import FitConfig, RunFolder, TrainingProgress
from sonicscan_train.nets.backbones import DetectorNet, build
from sonicscan_train.nets.depthwise import quicken


@dataclass(frozen=True)
class Session:
    """The network, its optimiser and its devices.

    Attributes:
        detector: the network.
        model: the same as accelerate wraps it for several processes.
        optimizer: as accelerate wraps it.
        averaged: the network that is validated and kept.
        accelerator: device, precision and processes.
    """

    detector: DetectorNet
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    averaged: Averaged
    accelerator: Accelerator

    def synchronised(self) -> DetectorNet:
        """The averaged network in evaluation mode, equal in every process."""
        # Each process has different batches and so different batch statistics; those of the first process are used.
        for buffer in self.averaged.model.buffers():
            buffer.copy_(broadcast(buffer))
        return self.averaged.model.eval()

    def state(self) -> dict[str, Any]:
        """The state that the next epoch depends on, without the configuration."""
        state: dict[str, Any] = {
            "model": self.detector.state_dict(),
            "averaged": self.averaged.model.state_dict(),
            "steps": self.averaged.steps,
            "optimizer": self.optimizer.state_dict(),
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        return state


def begin(folder: RunFolder, spec: ModelSpec, config: FitConfig) -> tuple[Session, TrainingProgress]:
    """A session as it was at the end of the last epoch in the folder, or a new one."""
    recipe = config.recipe
    accelerator = Accelerator(mixed_precision=_precision(recipe.amp))
    torch.manual_seed(config.seed)
    detector = build(config.backbone, len(spec.classes), config.weights, dropout=recipe.dropout)
    if recipe.cpu_bfloat16 and accelerator.device.type == "cpu":
        quicken(detector)
    # Convolutions are faster with channels last, on CPUs and on GPUs.
    detector = detector.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        detector.parameters(), lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay
    )
    averaged = Averaged(detector, recipe.ema)
    progress = TrainingProgress(began=time.time())
    if found := folder.read():
        progress, state = found
        detector.load_state_dict(state["model"])
        averaged.model.load_state_dict(state["averaged"])
        averaged.steps = state["steps"]
        optimizer.load_state_dict(state["optimizer"])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
    model = cast(torch.nn.Module, accelerator.prepare(detector))
    return Session(detector, model, accelerator.prepare(optimizer), averaged, accelerator), progress


def _precision(amp: bool) -> str:
    if not amp or not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
