"""Checkpoints from an exported model, so that training can continue where its own checkpoints are lost.

The export folds batch normalisation into the convolutions before it. A network without normalisation trains badly. So
real windows run through the restored network, and each normalisation takes the mean and the deviation of what it
receives. Its scale and shift are set so that the network's outputs do not change.

Weights have the precision of the file, and the members of a mean have the scale that they share. Restored are networks
of convolutions: EfficientNet-Lite, LambdaResNet and the like. Window attention is stored in another form.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from sonicscan.arrays import Float32
from sonicscan.errors import InputError, ModelError
from sonicscan.spec import OUTPUT_NAMES, Calibration, ModelSpec
from sonicscan_export import data, onnxfile, verify
from sonicscan_export.graph import name_in_mean
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, build
from sonicscan_train.nets.ensemble import mean_of
from sonicscan_train.nets.lambda_layer import FactoredLambdaLayer

MAX_DRIFT = 0.05  # of margins, against the file: what int8 arithmetic may change
_WINDOWS = 256
_BATCH = 32
_SMALLEST = 1e-8  # variance of a channel that is always 0
_Array = npt.NDArray[np.generic]


def restore(path: Path, manifest: Path, out: Path, say: Callable[[str], None] = lambda message: None) -> list[Path]:
    """Write the checkpoints of a model's networks: OUT/best, or OUT/member-0/best and so on for a mean of several.

    Args:
        path: an exported model.
        manifest: tracks, whose windows give the statistics of the normalisations.
        out: a folder; it must not have such a checkpoint.
        say: gets a sentence for each step.

    Returns:
        The checkpoints' folders.

    Raises:
        InputError: a checkpoint is there already, or the tracks do not suffice.
        ModelError: a damaged file, a network that cannot be restored, or one whose outputs differ from the file's.
    """
    model = onnxfile.read(path)
    spec = onnxfile.read_spec(model, path)
    architectures = _architectures(spec, path)
    several = len(architectures) > 1
    folders = [out / f"member-{k}" / "best" for k in range(len(architectures))] if several else [out / "best"]
    taken = next((folder for folder in folders if folder.exists()), None)
    if taken is not None:
        raise InputError(f"{taken} exists already; choose another --out.")
    n = _WINDOWS + data.VERIFYING_WINDOWS
    images = data.real_windows(data.read_calibration_data(manifest).ranging, spec.audio, n, manifest.name).images
    detectors = networks_of(model, spec, path, images[:_WINDOWS], say)
    both = mean_of(detectors, [1.0] * len(detectors), spec.architecture) if several else detectors[0]
    checked = images[_WINDOWS:]
    expected = verify.run(verify.load_for_cpu(path), checked, _BATCH).logits
    drift = verify.drift(expected, verify.reference_outputs(both, checked).logits)
    if not drift <= MAX_DRIFT:
        raise ModelError(f"{path} cannot be restored: margins differ from the file's by {drift:.1%} of their range.")
    say(f"margins differ from the file's by {drift:.2%} of their range, on {len(checked)} windows.")
    origin = {"restored_from": spec.architecture, "model_digest": onnxfile.digest(path)}
    for folder, detector in zip(folders, detectors, strict=True):
        own = dataclasses.replace(
            spec,
            architecture=detector.architecture,
            calibration=Calibration(),
            caught=(),
            metrics={},
            temperature=1.0,
            offset=0.0,
            shrink=0.0,
            unknown_below=None,
            provenance=origin,
            card="",
        )
        checkpoint.save(folder, detector, own)
    return folders


def networks_of(
    model: onnx.ModelProto, spec: ModelSpec, path: Path, images: Float32, say: Callable[[str], None]
) -> list[DetectorNet]:
    """The networks of an exported model, in evaluation mode; the mean of their class maps is the model's.

    Args:
        model, spec, path: the model, its contract, and its file for messages.
        images: float32 [n, n_mels, n_frames] for the statistics of the normalisations.
        say: gets a sentence for each network.

    Raises:
        ModelError: a network that cannot be restored.
    """
    constants = _Constants(model)
    architectures = _architectures(spec, path)
    detectors = []
    for k, architecture in enumerate(architectures):
        say(f"restoring {architecture}.")
        detector, folded = _detector(constants, spec, architecture, k, len(architectures), path)
        _measure_norms(detector, folded, torch.from_numpy(data.as_batch(images)))
        detectors.append(detector)
    return detectors


def _measure_norms(detector: DetectorNet, folded: Sequence[nn.BatchNorm2d], images: Tensor) -> None:
    """Gives each folded normalisation the statistics of what it receives, in place; the outputs do not change.

    A folded one has mean 0, deviation 1 and scale 1: it adds its shift. Batches of `images`, float32 [n, 3, 256, 256],
    count equally.
    """
    found: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {norm: [] for norm in folded}

    def watch(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        found[norm].append((mean, variance))

    hooks = [norm.register_forward_pre_hook(watch) for norm in folded]
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            detector(images[start : start + _BATCH])
        for hook in hooks:
            hook.remove()
        for norm in folded:
            means, variances = (torch.stack(each) for each in zip(*found[norm], strict=True))
            mean = means.mean(0)
            variance = (variances + (means - mean) ** 2).mean(0).clamp_min(_SMALLEST)
            _set(norm, (variance + norm.eps).sqrt(), norm.bias + mean, mean, variance)


class _Constants:
    """The values in a graph that depend on no input, and the layers that use them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made = {name: node for node in model.graph.node for name in node.output}
        self._convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        self._norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
        self.head = next(node for node in self._convolutions if node.output[0] == OUTPUT_NAMES[1])

    def value(self, name: str) -> _Array:
        """The constant as the graph's operators receive it: without quantisation."""
        if name in self._stored:
            return numpy_helper.to_array(self._stored[name])
        node = self._made.get(name)
        if node is not None and node.op_type == "Cast":
            return self.value(node.input[0]).astype(np.float32)
        if node is not None and node.op_type == "Mul":
            return np.multiply(*(self.value(each) for each in node.input))
        if node is not None and node.op_type == "DequantizeLinear":
            stored, scale = (self.value(each).astype(np.float32) for each in node.input[:2])
            zero = self.value(node.input[2]).astype(np.float32) if len(node.input) > 2 else np.zeros_like(scale)
            shape = (-1, *[1] * (stored.ndim - 1)) if scale.ndim else ()
            return (stored - zero.reshape(shape)) * scale.reshape(shape)
        raise ModelError(f"`{name}` is not stored in a form that can be restored.")

    def tensor(self, name: str) -> Tensor:
        """`value` in float32."""
        return torch.from_numpy(np.array(self.value(name), dtype=np.float32))

    def layers(self, prefix: str) -> Iterator[tuple[str, onnx.NodeProto]]:
        """Convolutions and normalisations by the module's name below `prefix`, in the order of the graph."""
        for node in (*self._convolutions, *self._norms):
            name = self._parameter(node.input[1])
            if name.startswith(prefix) and ".weight" in name:
                yield name.removeprefix(prefix).split(".weight")[0], node

    def tables(self, shapes: set[tuple[int, ...]]) -> Iterator[Tensor]:
        """Float constants of these shapes, in the order of their first use."""
        seen: set[str] = set()
        for node in self._made.values():
            for name in node.input:
                tensor = self._stored.get(name)
                if tensor is not None and name not in seen and tuple(tensor.dims) in shapes:
                    seen.add(name)
                    yield self.tensor(name)

    def _parameter(self, name: str) -> str:
        """The initializer that a constant is made of."""
        while name not in self._stored and name in self._made:
            name = self._made[name].input[0]
        return name


def _architectures(spec: ModelSpec, path: Path) -> list[str]:
    members = spec.provenance.get("members")
    if members is None:
        return [spec.architecture]
    if not isinstance(members, list) or not all(isinstance(m, dict) and "architecture" in m for m in members):
        raise ModelError(f"{path} does not say which networks it is made of.")
    return [str(member["architecture"]) for member in members]


def _detector(
    constants: _Constants, spec: ModelSpec, architecture: str, member: int, members: int, path: Path
) -> tuple[DetectorNet, list[nn.BatchNorm2d]]:
    """One network with the weights of the file, in evaluation mode, and which of its normalisations are folded."""
    detector = build(architecture, len(spec.classes)).eval()
    prefix = "detector.backbone."
    if "members" in spec.provenance:
        prefix = name_in_mean(prefix, member)
    modules = [(name, m) for name, m in detector.backbone.named_modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    after = {name: following for (name, _), (following, _) in itertools.pairwise(modules)}
    missing = dict(modules)
    stored = {name for name, _ in constants.layers(prefix)}
    folded: list[nn.BatchNorm2d] = []
    try:
        with torch.no_grad():
            for name, node in constants.layers(prefix):
                module = missing.pop(name)
                values = [constants.tensor(each) for each in node.input[1:]]
                if isinstance(module, nn.BatchNorm2d):
                    _set(module, *values)
                    continue
                module.weight.copy_(values[0])
                shift = values[1] if len(values) > 1 else torch.zeros(len(values[0]))  # zeros are not stored
                following = after.get(name, "")
                if module.bias is not None:
                    module.bias.copy_(shift)
                elif following in missing and following not in stored:
                    folded.append(_folded(missing.pop(following), shift))
            _restore_positions(detector, constants)
            width = detector.head.in_features
            weights, bias = (constants.tensor(each) for each in constants.head.input[1:])
            detector.head.weight.copy_(weights[:, member * width : (member + 1) * width, 0, 0] * members)
            # A mean holds the mean of its members' biases alone, so each gets that.
            detector.head.bias.copy_(bias)
    except (KeyError, RuntimeError, ValueError, StopIteration) as error:
        raise ModelError(f"{path} is not stored as {architecture} is built here, so it cannot be restored.") from error
    if missing:
        raise ModelError(f"{path} does not hold `{next(iter(missing))}` in a form that can be restored.")
    return detector, folded


def _folded(norm: nn.Module, shift: Tensor) -> nn.BatchNorm2d:
    if not isinstance(norm, nn.BatchNorm2d):
        raise ValueError("a convolution with a shift, without a normalisation after it")
    one = torch.ones_like(shift)
    _set(norm, one, shift, 0.0 * one, one - norm.eps)
    return norm


def _set(norm: nn.BatchNorm2d, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> None:
    """The parameters and statistics of a normalisation, in the order of ONNX's operator."""
    norm.weight.copy_(scale)
    norm.bias.copy_(shift)
    norm.get_buffer("running_mean").copy_(mean)
    norm.get_buffer("running_var").copy_(variance)


def _restore_positions(detector: DetectorNet, constants: _Constants) -> None:
    """Position embeddings of lambda layers: a table of distances, or one of pairs of places that was made of it."""
    layers = [m for m in detector.backbone.modules() if isinstance(m, FactoredLambdaLayer)]
    pairs = [layer.rel_pos_indices for layer in layers]
    shapes = {tuple(layer.pos_emb.shape) for layer in layers}
    shapes |= {(*each.shape[1:], layer.pos_emb.shape[-1]) for each, layer in zip(pairs, layers, strict=True)}
    tables = constants.tables(shapes)
    for layer, (rows, columns) in zip(layers, pairs, strict=True):
        table = next(tables)
        if table.shape == layer.pos_emb.shape:
            layer.pos_emb.copy_(table)
        else:
            layer.pos_emb[rows, columns] = table
