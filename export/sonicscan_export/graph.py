"""From a network in PyTorch to an ONNX graph, in float32.

The graph holds standard ONNX operators only, so it runs on any execution provider. The graph itself computes logits as
the mean of the class maps. So maps and score agree in every precision that the file is converted to later.
"""

from __future__ import annotations

import warnings
from typing import cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sonicscan.errors import ModelError
from sonicscan.spec import INPUT_NAME, OUTPUT_NAMES
from sonicscan.text import first_line
from sonicscan_export.onnxfile import contract_problem
from sonicscan_train.nets.backbones import INPUT_SHAPE, DetectorNet

OPSET = 20  # the first with Gelu as one operator; LayerNormalization is one since 17
_FOLDED_ELEMENTS = 1 << 20
WEIGHTY = ("Conv", "MatMul", "Gemm")  # operators whose weights are most of a network's
_SMALL_TABLE = 1024  # smallest number of elements of a table that is changed


class _BothOutputs(nn.Module):
    """Logits and class maps of one pass."""

    def __init__(self, detector: DetectorNet) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.detector.localise(self.detector.features(spectrogram))
        return maps.mean(dim=(2, 3)), maps


def to_onnx(detector: DetectorNet, opset: int = OPSET) -> onnx.ModelProto:
    """The detector as an ONNX model without metadata; only its batch axis is free.

    Args:
        detector: is switched to evaluation mode.
        opset: version of the standard operators.

    Raises:
        ModelError: torch cannot export it, or the graph breaks the contract.
    """
    network = _BothOutputs(detector).eval()
    example = torch.zeros(2, *INPUT_SHAPE)
    with warnings.catch_warnings():
        # torch and its dependencies raise deprecation warnings about their own code.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT_NAME],
                output_names=list(OUTPUT_NAMES),
                dynamic_shapes={INPUT_NAME: {0: torch.export.Dim("batch")}},
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ModelError(f"{detector.architecture} cannot be exported ({first_line(error)}).") from error
    if program is None:
        raise ModelError(f"{detector.architecture} cannot be exported: torch gave no program.")
    model = _fold_constants(program.model_proto)
    _anonymise(model)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    _drop_idle_nodes(model)
    onnx.checker.check_model(model, full_check=True)
    problem = contract_problem(model, detector.head.out_features)
    if problem:
        raise ModelError(f"the exported graph {problem}.")
    return model


def _fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Computes the parts that do not depend on the input, except gathers that would enlarge a small table.

    Swin's relative position bias is such a table. The two-layer network that makes it is computed here; the gather that
    spreads its 961 rows over 65,536 cells stays.
    """
    from onnxscript import ir, optimizer

    graph = ir.from_proto(model)
    optimizer.fold_constants(
        graph,
        input_size_limit=_FOLDED_ELEMENTS,
        output_size_limit=_FOLDED_ELEMENTS,
        should_fold=lambda node: False if node.op_type in ("Gather", "GatherND") else None,
    )
    optimizer.remove_unused_nodes(graph)
    return ir.to_proto(graph)


def _anonymise(model: onnx.ModelProto) -> None:
    """Removes the exporter's notes: they contain stack traces with paths of the exporting machine."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for message in (model, model.graph):
        message.doc_string = ""
        del message.metadata_props[:]


def _drop_idle_nodes(model: onnx.ModelProto) -> None:
    """Removes nodes without effect on values: pads by zero, and expansions before a division, which broadcasts itself.
    Swin has 27 of the former and 48 of the latter, and ONNX Runtime would run each of them.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    renamed: dict[str, str] = {}
    for node in graph.node:
        users = consumers.get(node.output[0], [])
        if node.output[0] in outputs:
            continue
        if node.op_type == "Pad":
            amounts = constants.get(node.input[1])
            idle = amounts is not None and not np.any(onnx.numpy_helper.to_array(amounts))
        elif node.op_type == "Expand":
            shape = shapes.get(node.output[0])
            idle = shape is not None and all(
                user.op_type == "Div" and user.input[1] == node.output[0] and shapes.get(user.input[0]) == shape
                for user in users
            )
        else:
            continue
        if idle:
            renamed[node.output[0]] = node.input[0]
    kept = [node for node in graph.node if node.output[0] not in renamed]
    for node in kept:
        for i, name in enumerate(node.input):
            while name in renamed:
                name = renamed[name]
            node.input[i] = name
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused_values(model)


def narrow_indices(model: onnx.ModelProto) -> None:
    """Store large tables of int64 indices in the smallest type that holds them, with a cast behind each.

    ONNX takes indices in int64 only. A model holds a relative position, a small number, for each pair of places. This
    saves 2 MB of Lambda and 9 MB of Swin. ONNX Runtime casts constants once, when it loads the graph.
    """
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.INT64 or np.prod(tensor.dims) < _SMALL_TABLE:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        narrow = np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max()))
        if narrow.itemsize >= values.itemsize:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(narrow), f"{name}.narrow"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.narrow"], [name], to=onnx.TensorProto.INT64))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def drop_unused_values(model: onnx.ModelProto) -> None:
    """Remove initializers that no node reads, and shapes of values that no node makes."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    made = {name for node in graph.node for name in node.output}
    for values, names in ((graph.initializer, used), (graph.value_info, made)):
        kept = [value for value in values if value.name in names]
        del values[:]
        values.extend(kept)


def _shape(value: onnx.ValueInfoProto) -> tuple[str | int, ...] | None:
    """Dimensions by number or name; None where one of them has neither."""
    dims = tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim)
    return cast("tuple[str | int, ...]", dims) if dims and all(dims) else None


def early_layers(model: onnx.ModelProto, n: int = 2) -> list[str]:
    """The layers with fewer than `n` others between them and the input, of each member of the graph."""
    depth: dict[str, int] = {}
    early = []
    for node in model.graph.node:  # sorted: each node follows its inputs
        before = max((depth.get(name, 0) for name in node.input), default=0)
        weighty = node.op_type in WEIGHTY
        if weighty and before < n:
            early.append(node.name)
        depth |= dict.fromkeys(node.output, before + weighty)
    return early


def layer_names(model: onnx.ModelProto) -> dict[str, str]:
    """Stable names of the layers, by the names of their nodes: the parameter that a layer multiplies by.

    Names of nodes are numbered anew in each export; those of parameters are PyTorch's. A product without a parameter
    keeps the name of its node.
    """
    parameters = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in WEIGHTY]
    return {node.name: node.input[1] if node.input[1] in parameters else node.name for node in nodes}


def name_in_mean(layer: str, member: int) -> str:
    """The `layer_names` name that the layer of a detector has where the detector is a member of a mean."""
    return f"detector.backbone.members.{member}.{layer.removeprefix('detector.')}"


def has_depthwise(model: onnx.ModelProto) -> bool:
    """Whether a convolution of the graph has several groups."""
    attributes = (a for node in model.graph.node if node.op_type == "Conv" for a in node.attribute)
    return any(attribute.name == "group" and attribute.i > 1 for attribute in attributes)


def head_nodes(model: onnx.ModelProto) -> list[str]:
    """The nodes that make the outputs: the head as a 1 x 1 convolution, and the mean over its cells."""
    return [node.name for node in model.graph.node if set(node.output) & set(OUTPUT_NAMES)]


def sort_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Sorts the nodes so that each one follows its inputs, and removes unused operator sets."""
    from onnxscript import ir

    graph = ir.from_proto(model)
    graph.graph.sort()
    used = {node.domain for node in graph.graph}
    for domain in set(graph.opset_imports) - used:
        del graph.opset_imports[domain]
    return ir.to_proto(graph)
