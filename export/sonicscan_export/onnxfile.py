"""ONNX files with the contract in their metadata: read safely, written whole.

A sonicscan model is one file. A file with weights in other files is always refused: following such names would let a
model read any file of the machine.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

import sonicscan
from sonicscan.errors import InputError, ModelError
from sonicscan.files import replacing, sha256_of
from sonicscan.spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, ModelSpec

MAX_BYTES = (2 << 30) - 1  # a protobuf message holds no more


@dataclass(frozen=True)
class GraphFacts:
    """What a graph is made of.

    Attributes:
        nodes: how many.
        operators: how many of each type, the commonest first.
        parameters: numbers in its initializers.
        opset: version of the standard operators.
    """

    nodes: int
    operators: dict[str, int]
    parameters: int
    opset: int


def read(path: Path) -> onnx.ModelProto:
    """A model file, with all its weights inside.

    Raises:
        ModelError: not there, not ONNX, or with weights in other files.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the model {path} cannot be read: {error.strerror or error}.") from error
    try:
        model = onnx.load_model_from_string(blob)
        if not model.graph.node:
            raise ValueError("it has no nodes")
    except Exception as error:  # protobuf moves DecodeError between modules from version to version
        raise ModelError(f"{path} is not an ONNX model, or is cut short ({error}).") from error
    outside = next(_external(model), None)
    if outside is not None:
        raise ModelError(f"{path} keeps its weights in another file ({outside!r}); a model must be a single file.")
    return model


def read_spec(model: onnx.ModelProto, path: Path) -> ModelSpec:
    """The contract in a model's metadata, checked against its inputs and outputs.

    Raises:
        ModelError: none there, damaged, of another version, or not what the graph does.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)
    spec = ModelSpec.from_metadata(text, path)
    problem = contract_problem(model, len(spec.classes))
    if problem:
        raise ModelError(f"{path} {problem}.")
    return spec


def contract_problem(model: onnx.ModelProto, n_classes: int) -> str:
    """Describes how inputs and outputs differ from the contract; empty if they match."""
    wanted = {
        INPUT_NAME: [3, 256, 256],
        OUTPUT_NAMES[0]: [n_classes],
        OUTPUT_NAMES[1]: [n_classes, 8, 8],
    }
    values = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    if set(values) != set(wanted):
        return f"has inputs and outputs {sorted(values)}; the contract is {sorted(wanted)}"
    for name, shape in wanted.items():
        tensor = values[name].type.tensor_type
        dims = list(tensor.shape.dim)
        if tensor.elem_type != onnx.TensorProto.FLOAT or [d.dim_value for d in dims] != [0, *shape]:
            found = [d.dim_value or d.dim_param for d in dims]
            return f"has `{name}` of shape {found}; the contract is float32 [batch, {', '.join(map(str, shape))}]"
    return ""


def with_spec(model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    """The same graph with another contract; the given model is not changed."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.producer_name = "sonicscan"
    changed.producer_version = sonicscan.__version__
    onnx.helper.set_model_props(changed, {METADATA_KEY: spec.to_json()})
    return changed


def write(model: onnx.ModelProto, path: Path) -> str:
    """Write a model as one file that appears whole, by rename.

    Returns:
        SHA-256 of the file, in hex: the digest that reports give.

    Raises:
        ModelError: too large for one file.
        InputError: the file cannot be written; an earlier one is left as it was.
    """
    if model.ByteSize() > MAX_BYTES:
        raise ModelError(f"the model has {model.ByteSize()} bytes; no ONNX file has more than {MAX_BYTES}.")
    blob = model.SerializeToString(deterministic=True)
    try:
        with replacing(path) as file:
            file.write(blob)
    except OSError as error:
        raise InputError(f"the model {path} could not be written: {error.strerror or error}.") from error
    return hashlib.sha256(blob).hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of a model file, in hex, as reports give it.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise ModelError(f"the model {path} cannot be read: {error.strerror or error}.") from error


def facts(model: onnx.ModelProto) -> GraphFacts:
    """Nodes, operators and parameters of a graph."""
    operators = Counter(node.op_type for node in model.graph.node)
    return GraphFacts(
        nodes=len(model.graph.node),
        operators=dict(operators.most_common()),
        parameters=sum(_size(tensor.dims) for tensor in model.graph.initializer),
        opset=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
    )


def _external(message: Any) -> Iterator[str]:
    """Names of files outside the model that any tensor in it refers to, subgraphs and functions included."""
    if isinstance(message, onnx.TensorProto):
        if message.data_location == onnx.TensorProto.EXTERNAL:
            yield next((entry.value for entry in message.external_data if entry.key == "location"), "")
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        # A repeated field is a sequence, a single one is a message.
        for child in [value] if hasattr(value, "ListFields") else value:
            yield from _external(child)


def _size(dims: Any) -> int:
    size = 1
    for dim in dims:
        size *= dim
    return size
