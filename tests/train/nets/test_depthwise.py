"""Fast depthwise convolutions are the same function, and their gradients the same up to bfloat16 rounding."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from sonicscan_train.nets.depthwise import FastDepthwise, quicken


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_those_of_the_plain_convolution(size: int, stride: int) -> None:
    torch.manual_seed(size + stride)
    pad = timm.layers.create_conv2d(8, 8, size, stride=stride, padding="same", depthwise=True, bias=False)
    fast = torch.nn.Sequential(copy.deepcopy(pad))
    quicken(fast)
    assert isinstance(fast[0], FastDepthwise)
    x = torch.randn(3, 8, 16, 32)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = fast.train()(ours)
    wanted = pad(theirs)
    assert out.shape == wanted.shape
    grad = torch.randn_like(wanted)
    out.float().backward(grad)
    wanted.backward(grad)
    assert ours.grad is not None and theirs.grad is not None
    for found, right in ((out.float(), wanted), (ours.grad, theirs.grad), (fast[0].weight.grad, pad.weight.grad)):
        assert (found - right).norm() < 0.01 * right.norm()
    with torch.inference_mode():
        torch.testing.assert_close(fast.eval()(x), pad(x))


def test_only_what_is_covered_is_turned() -> None:
    plain = torch.nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False)  # not TensorFlow's padding
    network = torch.nn.Sequential(plain, torch.nn.Conv2d(8, 8, 3, groups=4), torch.nn.Conv2d(8, 8, 7, groups=8))
    quicken(network)
    assert not any(isinstance(module, FastDepthwise) for module in network)
    lite = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    names = list(lite.state_dict())
    quicken(lite)
    assert sum(isinstance(module, FastDepthwise) for module in lite.modules()) == 16
    assert list(lite.state_dict()) == names
