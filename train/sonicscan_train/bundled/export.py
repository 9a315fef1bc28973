"""Averaged weights to one ONNX file that carries the contract.

The graph is exported in eval mode with batch normalisation folded into the convolutions. It computes in float32;
its weights are stored in float16, which halves the file, and are cast when it is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from sonicscan.errors import ModelError
from sonicscan.files import write_whole
from sonicscan.spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, AudioSpec, ModelSpec
from sonicscan_train.bundled.members import MEMBERS
from sonicscan_train.bundled.network import Ensemble, restored

OPSET = 20
HALF = ".half"  # suffix of weights that are stored in float16
_SMALL = 1024  # numbers under which a tensor stays in float32


def read_members(path: Path) -> dict[int, dict[str, Tensor]]:
    """The folded weights of the members of a file of ours, by their number in `MEMBERS`: none need be trained again.

    Raises:
        ModelError: a file of another kind.
    """
    graph = onnx.load(path).graph
    tensors = {w.name.removesuffix(HALF): onnx.numpy_helper.to_array(w).astype(np.float32) for w in graph.initializer}
    states: list[dict[str, Tensor]] = []
    while f"members.{len(states)}.head.bias" in tensors:
        prefix = f"members.{len(states)}."
        state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        # The exporter gives the head's weights, which it reshaped, a name of its own; the convolution tells it.
        maps = next(node for node in graph.node if f"{prefix}head.bias" in node.input)
        state["head.weight"] = tensors[maps.input[1]][:, :, 0, 0]
        states.append({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    recipes = read_spec(path).provenance.get("members", [])
    if not states or len(recipes) != len(states):
        raise ModelError(f"{path} holds no members that could be taken from it.")
    numbers = {(member.steps, member.seed): i for i, member in enumerate(MEMBERS)}
    made = [(recipe["steps"], recipe["seed"]) for recipe in recipes]
    return {numbers[key]: state for key, state in zip(made, states, strict=True) if key in numbers}


def export(states: Mapping[int, dict[str, Tensor]], spec: ModelSpec, path: Path) -> None:
    """Writes the members' mean as an ONNX file; `write_spec` can change the metadata later, without touching the graph.

    Args:
        states: weights by number in `MEMBERS`; their recipes go into the provenance.
        spec: the contract to carry.
        path: of the file.
    """
    members = [restored(state, MEMBERS[i].whiten, len(spec.classes)) for i, state in states.items()]
    recipes = [dataclasses.asdict(MEMBERS[i]) for i in states]
    spec = dataclasses.replace(spec, provenance={**spec.provenance, "members": recipes})
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
    store_in_half(model)
    onnx.checker.check_model(model)
    _write(model, spec, path)


def store_in_half(model: onnx.ModelProto) -> None:
    """Store large weights in float16, each with a cast to float32 behind it; what is computed stays in float32.

    ONNX Runtime casts constants once, when it loads the graph.
    """
    casts = []
    for weights in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < _SMALL:
            continue
        name = weights.name
        weights.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name + HALF))
        casts.append(onnx.helper.make_node("Cast", [name + HALF], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def read_spec(path: Path) -> ModelSpec:
    """The contract in a file."""
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return ModelSpec.from_metadata(found.get(METADATA_KEY), path)


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
    write_whole(path, model.SerializeToString())


def bare_spec(audio: AudioSpec, architecture: str) -> ModelSpec:
    """A contract without calibration: temperature 1, so that margins are the network's own."""
    return ModelSpec(architecture=architecture, audio=audio)
