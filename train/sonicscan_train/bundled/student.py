"""Lambda for the bundled model: what it is trained as here, and the checkpoint that it becomes."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

import sonicscan
from sonicscan.spec import AudioSpec, ModelSpec
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import build

ARCHITECTURE = "whitened_lambda_resnet26rpt_256"


class Pupil(nn.Module):
    """The network, for images of one channel and any width up to the whole window's."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = build(ARCHITECTURE)

    def train_logits(self, image: Tensor) -> Tensor:
        """float32 [n, 1, 256, frames] to logits [n, 2]."""
        logits: Tensor = self.detector(image.expand(-1, 3, -1, -1))
        return logits


def save_checkpoint(state: dict[str, Tensor], folder: Path) -> None:
    """Averaged weights of a `Pupil` as a checkpoint, which `sonicscan-export` converts."""
    pupil = Pupil()
    pupil.load_state_dict(state)
    spec = ModelSpec(architecture=ARCHITECTURE, audio=AudioSpec(), tool_version=sonicscan.__version__)
    checkpoint.save(folder, pupil.detector.eval(), spec)
