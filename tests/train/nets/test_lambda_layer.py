"""The factored lambda layer is timm's in another order, and takes narrower images."""

from __future__ import annotations

import timm
import torch

from sonicscan_train.nets.lambda_layer import FactoredLambdaLayer, factor_lambda_layers


def test_lambda_layers_say_what_timms_say_and_take_narrower_images() -> None:
    torch.manual_seed(0)
    network = timm.create_model("lambda_resnet26rpt_256", num_classes=0).eval()
    layers = [m for m in network.modules() if type(m).__name__ == "LambdaLayer"]
    assert len(layers) == 3
    for layer in layers:
        torch.nn.init.normal_(layer.pos_emb)  # timm's start is nearly zero, which any order would give
    inputs = [torch.randn(2, layer.qkv.in_channels, *layer.feat_size) for layer in layers]
    with torch.no_grad():
        before = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
        factor_lambda_layers(network)
        assert {type(layer) for layer in layers} == {FactoredLambdaLayer}
        for layer, x, old in zip(layers, inputs, before, strict=True):
            torch.testing.assert_close(layer(x), old, atol=1e-3, rtol=1e-4)  # of values to 100
        # A layer for half the width, with its part of the embedding, gives the same.
        wide = layers[2]
        narrow = type(wide).__mro__[1](512, feat_size=(8, 4), r=None, dim_head=16).eval()
        own = {name: value for name, value in wide.state_dict().items() if name != "pos_emb"}
        narrow.load_state_dict(own | {"pos_emb": wide.pos_emb[:, 4:11]})
        x = torch.randn(2, 512, 8, 4)
        torch.testing.assert_close(wide(x), narrow(x), atol=1e-3, rtol=1e-4)
        assert network.forward_features(torch.randn(1, 3, 256, 128)).shape == (1, 2048, 8, 4)
