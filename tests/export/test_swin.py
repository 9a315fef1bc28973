"""Swin: window attention as one operator, and linear layers in int8, on a Swin of a few thousand weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2

from sonicscan.arrays import Float32
from sonicscan.spec import AudioSpec
from sonicscan_export import attention, data, verify
from sonicscan_export.convert import float32_graph, int8_quantiser
from sonicscan_export.graph import head_nodes
from sonicscan_export.int8_linear import LinearQuantiser, _rounded
from sonicscan_export.precision import Precision
from sonicscan_train.nets.backbones import DetectorNet, prepare_untrained


@pytest.fixture(scope="module")
def images() -> Float32:
    return data.synthetic_windows(AudioSpec(), 12).images


@pytest.fixture(scope="module")
def network(images: Float32) -> DetectorNet:
    """Four stages as in Swin V2, one block with shifted windows, and biases that are not zero."""
    torch.manual_seed(0)
    backbone = SwinTransformerV2(
        img_size=256, window_size=8, embed_dim=16, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4), num_classes=0
    )
    detector = DetectorNet("tiny_swin", backbone, 2, channels_last=True)
    prepare_untrained(detector, torch.from_numpy(data.as_batch(images[:1])))
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.2)
    return detector.eval()


@pytest.fixture(scope="module")
def quantiser(network: DetectorNet, images: Float32) -> LinearQuantiser:
    made = int8_quantiser(network, float32_graph(network, "int8"), images[:8])
    assert isinstance(made, LinearQuantiser)
    return made


def outputs(model: onnx.ModelProto, images: Float32) -> list[Float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[Float32] = session.run(["logits", "class_maps"], {"spectrogram": data.as_batch(images)})
    return found


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_fused_attention_is_the_same_function(network: DetectorNet, images: Float32, precision: Precision) -> None:
    fused = float32_graph(network, precision)
    wanted = verify.reference_outputs(network, images[:3])
    kinds = [node.op_type for node in fused.graph.node]
    assert kinds.count("Attention") == 5 and "Softmax" not in kinds
    logits, maps = outputs(fused, images[:3])
    assert np.abs(logits - wanted.logits).max() < 1e-5 * np.abs(wanted.logits).max()
    assert np.abs(maps - wanted.maps).max() < 1e-5 * np.abs(wanted.maps).max()
    assert attention.has_window_attention(network)  # the network itself is unchanged


def test_fp16_has_no_fused_attention(network: DetectorNet) -> None:
    """It is for GPUs, where the operator was not measured."""
    kinds = [node.op_type for node in float32_graph(network, "fp16").graph.node]
    assert "Attention" not in kinds and kinds.count("Softmax") == 5


def test_all_linear_layers_and_nothing_else_are_in_int8(quantiser: LinearQuantiser) -> None:
    assert len(quantiser.layers) == 5 * 6 + 3  # q, k, v, projection and two of the MLP; three mergings of patches
    made = quantiser.quantise()
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("Gemm") == len(quantiser.layers) and "MatMul" not in kinds
    assert kinds.count("QuantizeLinear") == 5 * 4 + 3  # q, k and v share an input
    weights = [onnx.numpy_helper.to_array(t) for t in made.graph.initializer if t.name.endswith(".w")]
    assert {w.dtype.name for w in weights} == {"int8"}
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == 64  # room for CPUs that add in 16 bits
    assert head_nodes(made) == head_nodes(quantiser.model)
    kept = quantiser.quantise(quantiser.layers[:2])
    assert [node.op_type for node in kept.graph.node].count("MatMul") == 2


def test_int8_is_close_and_does_not_depend_on_the_batch(
    network: DetectorNet, quantiser: LinearQuantiser, images: Float32
) -> None:
    wanted = verify.reference_outputs(network, images)
    made = quantiser.quantise()
    logits, _ = outputs(made, images)
    assert 0 < verify.drift(wanted.logits, logits) < 0.05
    alone = np.concatenate([outputs(made, images[k : k + 1])[0] for k in (2, 9)])
    assert np.abs(alone - logits[[2, 9]]).max() < 1e-5 * np.abs(logits).max()


def test_a_layer_of_small_weights_keeps_its_bias() -> None:
    """The bias is stored in units of both scales, and must not overflow where they are tiny."""
    rng = np.random.default_rng(0)
    weights = np.stack([np.zeros(4), np.full(4, 1e-9), rng.normal(size=4)], axis=1).astype(np.float32)
    bias = np.array([5.0, -3.0, 0.5], np.float32)
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node("MatMul", ["spectrogram", "w"], ["p"], "product"), node("Add", ["b", "p"], ["logits"], "bias")],
        "g",
        [value("spectrogram", onnx.TensorProto.FLOAT, ["n", 3, 256, 4])],
        [value("logits", onnx.TensorProto.FLOAT, ["n", 3, 256, 3])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model)
    images = rng.normal(size=(2, 256, 4)).astype(np.float32)
    made = LinearQuantiser(model, images).quantise()
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = {"spectrogram": data.as_batch(images)}
    assert np.abs(session.run(None, fed)[0] - (fed["spectrogram"] @ weights + bias)).max() < 0.1


def test_weights_are_rounded_for_the_inputs_that_occur() -> None:
    """Inputs that vary together: plain rounding of each weight gives more than twice the error."""
    rng = np.random.default_rng(0)
    inputs = (rng.normal(size=(500, 8)) @ rng.normal(size=(8, 200)) + 0.1 * rng.normal(size=(500, 200))).astype("f4")
    weights = rng.normal(size=(200, 16)).astype(np.float32)
    scale = np.abs(weights).max(axis=0) / np.float32(64)
    made = _rounded(weights, scale, np.cov(inputs.T))
    assert np.abs(made.astype(int)).max() <= 64

    def error(rounded: Float32) -> float:
        return float(np.abs((inputs - inputs.mean(axis=0)) @ (weights - rounded * scale)).mean())

    assert 2 * error(made.astype(np.float32)) < error(np.round(weights / scale))
