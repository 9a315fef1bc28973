"""Averaged weights to one ONNX file that carries the contract.

The graph is exported in eval mode with batch normalisation folded into the convolutions, float32 throughout:
the file is small enough (about 15 MB) that fp16 or int8 would buy nothing worth another evaluation.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from sonicscan.spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, AudioSpec, ModelSpec
from sonicscan_train.bundled.members import MEMBERS
from sonicscan_train.bundled.network import Ensemble, SonicNet

OPSET = 20


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


def export(states: Sequence[dict[str, Tensor]], spec: ModelSpec, path: Path) -> None:
    """Writes the members' mean as an ONNX file; `write_spec` can change the metadata later, without touching the graph.

    Args:
        states: one member's weights each, in the order of `MEMBERS`.
        spec: the contract to carry.
        path: of the file.
    """
    members = []
    for member, state in zip(MEMBERS, states, strict=True):
        network = SonicNet(len(spec.classes), member.whiten)
        network.load_state_dict(state)
        members.append(folded(network))
    example = torch.zeros(2, 3, spec.audio.n_mels, spec.audio.n_frames)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # the exporter prints its progress
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Ensemble(members).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            dynamic_shapes={"spectrogram": {0: torch.export.Dim("batch")}},
            external_data=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    model = program.model_proto
    onnx.checker.check_model(model)
    _write(model, spec, path)


def write_spec(path: Path, spec: ModelSpec) -> None:
    """Replaces the contract in a file; weights and graph stay as they are."""
    _write(onnx.load(path), spec, path)


def _write(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    for node in model.graph.node:
        del node.metadata_props[:]  # the exporter's stack traces: paths of the machine, no use to anyone
        node.doc_string = ""
    del model.graph.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    temporary = path.with_suffix(".tmp")
    onnx.save(model, temporary)
    temporary.replace(path)


def bare_spec(audio: AudioSpec, architecture: str) -> ModelSpec:
    """A contract without calibration: temperature 1, so that margins are the network's own."""
    return ModelSpec(architecture=architecture, audio=audio)
