"""The training loop: a fixed number of steps, nothing selected, the averaged weights of the last step count.

With no early stopping and no choice among checkpoints, the left-out set is never looked at while training, so
its figures are not the best of many. The learning rate rises, stays, and falls linearly over the last
part: a run that turns out too slow for its hour can be resumed with fewer steps and is the run that
those fewer steps would have given. All but the last steps see halves of windows, which takes half the time.

A network may have a teacher: then it learns to say what the teacher says of the same image, augmentation and all, as
much as what the image is (Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonicscan.files import open_to_append, replacing
from sonicscan_train.bundled.batches import Batches
from sonicscan_train.bundled.network import Average


class Trainee(Protocol):
    """A network that can be trained here: a module, and logits of images of any width."""

    def train_logits(self, image: Tensor) -> Tensor:
        """float32 [n, 1, 256, frames] to logits [n, 2]."""
        ...


@dataclass(frozen=True)
class Teacher:
    """Networks whose mean a trainee learns from, and how much of its target is theirs, in 0..1."""

    networks: Sequence[Trainee]
    share: float = 0.5

    @torch.no_grad()
    def blend(self, images: Tensor, target: Tensor) -> Tensor:
        """The probability of `ai` that each image should get: its own, and the teacher's."""
        with torch.autocast("cpu", torch.bfloat16):
            logits = torch.stack([network.train_logits(images).float() for network in self.networks]).mean(dim=0)
        return (1.0 - self.share) * target + self.share * torch.sigmoid(logits[:, 1] - logits[:, 0])


@dataclass(frozen=True)
class Schedule:
    """Hyperparameters of a run; the last `wide_share` of the steps sees whole windows (`wide` frames)."""

    steps: int = 7000
    learning_rate: float = 1.5e-3
    warm_up: int = 200
    decay_share: float = 0.4
    narrow: int = 128
    wide: int = 256
    wide_share: float = 0.25
    weight_decay: float = 0.03
    label_smoothing: float = 0.02
    average_decay: float = 0.995
    seed: int = 20261123
    checkpoint_every: int = 100
    threads: int = 1  # beside other work, one thread and one for the next batch beat two that wait for each other

    def rate(self, step: int) -> float:
        """Learning rate of a step: warm-up, plateau, linear fall to zero."""
        falling = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        return self.learning_rate * max(0.0, min(1.0, (step + 1) / self.warm_up, falling))

    def frames(self, step: int) -> int:
        """Frames of the images of a step."""
        return self.narrow if step < (1.0 - self.wide_share) * self.steps else self.wide


def loss_of(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Binary cross-entropy of the margin ai - human, with label smoothing."""
    smoothed = target * (1.0 - 2.0 * smoothing) + smoothing
    return functional.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], smoothed)


def fit(
    make: Callable[[], nn.Module],
    batches: Batches,
    schedule: Schedule,
    out: Path,
    say: Callable[[str], None],
    teacher: Teacher | None = None,
) -> dict[str, Tensor]:
    """Trains one network, or goes on from `out/last.pt`, and returns the averaged weights.

    Writes `metrics.jsonl` (loss, learning rate, windows/s) and `last.pt` as it goes.

    Args:
        make: gives the network, a `Trainee`; called after seeding, so its weights are the schedule's.
        batches: what it sees.
        schedule: how long, and how fast it learns.
        out: folder of the run.
        say: gets a line every 50 steps.
        teacher: what else it learns from.
    """
    torch.set_num_threads(schedule.threads)
    torch.manual_seed(schedule.seed)
    out.mkdir(parents=True, exist_ok=True)
    network: Any = make().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay)
    average = Average(network, schedule.average_decay)
    checkpoint, first = out / "last.pt", 0
    if checkpoint.exists():
        saved: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        average.state = saved["average"]
        first = saved["step"]
        say(f"resumed at step {first}")
    network.train()
    losses: list[float] = []
    began, seen = time.monotonic(), 0
    for step, (images, target) in prefetched(batches, schedule, first):
        torch.manual_seed(schedule.seed * 1_000_003 + step)  # dropout: the same after a resume
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        images = images.contiguous(memory_format=torch.channels_last)
        if teacher is not None:
            target = teacher.blend(images, target)
        # bfloat16 more than doubles windows/s on CPUs with AVX512-BF16 or AMX; weights stay float32.
        with torch.autocast("cpu", torch.bfloat16):
            logits = network.train_logits(images)
        loss = loss_of(logits.float(), target, schedule.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        average.update(network, step)
        losses.append(loss.item())
        seen += len(target)
        done = step + 1
        if done % 50 == 0 or done == schedule.steps:
            record = {
                "step": done,
                "loss": sum(losses) / len(losses),
                "learning_rate": schedule.rate(step),
                "windows_per_s": seen / (time.monotonic() - began),
            }
            with open_to_append(out / "metrics.jsonl") as file:
                file.write(json.dumps(record).encode() + b"\n")
            say(f"step {done} loss {record['loss']:.4f} {record['windows_per_s']:.1f} windows/s")
            losses.clear()
        if done % schedule.checkpoint_every == 0 or done == schedule.steps:
            save(checkpoint, network, optimiser, average, done)
    return average.state


def prefetched(batches: Batches, schedule: Schedule, first: int) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """Steps from `first` on with their batches, each made while the step before it trains."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(batches, first, schedule.frames(first))
        for step in range(first, schedule.steps):
            batch = coming.result()
            if step + 1 < schedule.steps:
                coming = pool.submit(batches, step + 1, schedule.frames(step + 1))
            yield step, batch


def save(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, average: Average, step: int) -> None:
    """Checkpoint, whole or not at all."""
    state = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average.state,
        "step": step,
    }
    with replacing(path) as file:
        torch.save(state, file)
