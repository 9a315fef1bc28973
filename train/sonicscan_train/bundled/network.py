"""`sonicnet_s`: plain convolutional networks whose mean meets the ONNX contract.

Five stages of 3x3 convolutions, the first of each with stride 2, so that 256x256 becomes 8x8; then
global average pooling and one linear layer. On two CPU cores it sees some twenty times as many windows in the
hour as LambdaResNet26rpt from scratch, and with no pretrained weights at hand that decides. A second
convolution at 128x128 cost 30% of the throughput in bfloat16 and was left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ARCHITECTURE = "sonicnet_s"
WIDTHS = (24, 48, 96, 160, 224)
WHITEN_ROWS = 31  # mel rows over which a mean spectrum is smoothed that a network does not see


def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """One convolution with batch normalisation."""
    return [
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def stages(widths: tuple[int, ...]) -> nn.Sequential:
    """Each stage halves height and width; the first, at 128x128, has one convolution and the others two."""
    layers = block(1, widths[0], 2)
    for inputs, outputs in itertools.pairwise(widths):
        layers += [*block(inputs, outputs, 2), *block(outputs, outputs, 1)]
    return nn.Sequential(*layers)


def whitened(image: Tensor, rows: int) -> Tensor:
    """[n, 1, mels, frames] less its mean spectrum, smoothed over `rows` (odd) mel rows; 0 takes nothing away.

    Equalisation, mastering and the instruments' balance tell corpora apart and not people from generators: they
    are in that background. What changes in time or is narrow in frequency stays.
    """
    if not rows:
        return image
    spectrum = image.mean(dim=3, keepdim=True)
    return image - functional.avg_pool2d(spectrum, (rows, 1), 1, (rows // 2, 0), count_include_pad=False)


class SonicNet(nn.Module):
    """[n, 1 or 3, 256, 256] to logits [n, classes] and class maps [n, classes, 8, 8].

    The scanner repeats the image over three channels, for backbones made for colour; only the first is read.
    The mean of a class map is its logit, exactly: pooling and the linear layer commute.
    """

    def __init__(
        self, classes: int = 2, whiten: int = 0, widths: tuple[int, ...] = WIDTHS, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.whiten = whiten
        self.stages = stages(widths)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def features(self, image: Tensor) -> Tensor:
        """[n, 1 or 3, mels, frames] to [n, 224, mels / 32, frames / 32]."""
        features: Tensor = self.stages(whitened(image[:, :1], self.whiten))
        return features

    def train_logits(self, image: Tensor) -> Tensor:
        """Logits alone, with dropout while training."""
        logits: Tensor = self.head(self.dropout(self.features(image).mean(dim=(2, 3)).float()))
        return logits

    def forward(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and class maps, as the ONNX file gives them."""
        features = self.features(spectrogram)
        maps = functional.conv2d(features, self.head.weight[:, :, None, None], self.head.bias)
        return maps.mean(dim=(2, 3)), maps


def folded(network: SonicNet) -> SonicNet:
    """The same function with every batch normalisation inside the convolution before it."""
    network.eval()
    layers: list[nn.Module] = []
    for layer in network.stages:
        if isinstance(layer, nn.BatchNorm2d):
            convolution = layers.pop()
            assert isinstance(convolution, nn.Conv2d)
            layer = torch.nn.utils.fuse_conv_bn_eval(convolution, layer)
        layers.append(nn.ReLU() if isinstance(layer, nn.ReLU) else layer)
    network.stages = nn.Sequential(*layers)
    return network


def restored(state: Mapping[str, Tensor], whiten: int, classes: int = 2) -> SonicNet:
    """A trained network, folded and in evaluation mode, from weights that are folded already or not."""
    network = SonicNet(classes, whiten)
    if "stages.1.running_mean" in state:
        network.load_state_dict(dict(state))
        return folded(network)
    network = folded(network)
    network.load_state_dict(dict(state))
    return network


class Ensemble(nn.Module):
    """The mean of several networks' maps, and so of their logits: a map's mean is still its logit."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """As a single SonicNet."""
        maps = torch.stack([member(spectrogram)[1] for member in self.members]).mean(dim=0)
        return maps.mean(dim=(2, 3)), maps


class Average:
    """Exponential moving average of a network's weights and batch statistics."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """One step; early on the average is shorter, so that it forgets the random start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1.0 - decay)
            else:
                self.state[name].copy_(value)
