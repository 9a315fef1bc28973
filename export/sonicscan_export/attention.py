"""Swin V2's window attention as one operator of ONNX: the same function with fewer passes over the scores.

timm's layer makes the scores of all pairs of places, and reads and writes them again for the scale, the bias, the mask
and the softmax. Here:

- the scale multiplies the queries, and q, k and v are separate products, so nothing is split or transposed;
- the relative position bias and the mask are one table, which ONNX Runtime computes when it loads the file;
- the bias of v is part of the last layer's bias, because the weights of a softmax add up to 1.

`Attention` is a standard operator since version 23 of ONNX's operator set.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from timm.models.swin_transformer_v2 import WindowAttention
from torch import Tensor, nn

OPSET = 23
_EPSILON = 1e-12  # torch's, for vectors of length zero
_MAX_SCALE = math.log(100.0)  # Swin V2's, of the logarithm
AnyModule = TypeVar("AnyModule", bound=nn.Module)


class FusedWindowAttention(nn.Module):
    """timm's `WindowAttention` in evaluation mode, with its weights.

    Args:
        attention: with a bias on q and v, as all Swin V2 networks have.
    """

    scale: Tensor
    table: Tensor
    index: Tensor

    def __init__(self, attention: WindowAttention) -> None:
        super().__init__()
        given: Any = attention  # timm does not annotate its buffers
        self.heads = int(given.num_heads)
        dim = int(given.dim)
        with torch.no_grad():
            weights = given.qkv.weight.detach().chunk(3)
            self.q, self.k, self.v = (_linear(w, b) for w, b in zip(weights, (given.q_bias, None, None), strict=True))
            self.proj = _linear(given.proj.weight, given.proj.bias + given.proj.weight @ given.v_bias)
            scale = torch.clamp(given.logit_scale, max=_MAX_SCALE).exp()
            table = 16 * torch.sigmoid(given.cpb_mlp(given.relative_coords_table)).reshape(-1, self.heads)
        places = int(given.window_size[0] * given.window_size[1])
        self.places, self.dim = places, dim
        self.register_buffer("scale", scale.reshape(self.heads, 1).clone())
        self.register_buffer("table", table.clone())
        self.register_buffer("index", given.relative_position_index.reshape(-1).clone())

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[windows, places, dim] to the same; `mask` float32 [windows of an image, places, places] is added."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        q, k = self._by_head(q), self._by_head(k)
        q = q * (self.scale / q.norm(dim=-1, keepdim=True).clamp_min(_EPSILON))
        k = k / k.norm(dim=-1, keepdim=True).clamp_min(_EPSILON)
        bias = self.table[self.index].reshape(self.places, self.places, self.heads).permute(2, 0, 1)[None]
        if mask is None:
            shape = (-1, self.places, self.dim)
            found = torch.onnx.ops.attention(
                q.reshape(shape), k.reshape(shape), v, bias, q_num_heads=self.heads, kv_num_heads=self.heads, scale=1.0
            )[0]
        else:
            found = self._masked(q, k, self._by_head(v), bias, mask)
        projected: Tensor = self.proj(found)
        return projected

    def _by_head(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.places, self.heads, self.dim // self.heads)

    def _masked(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        """All windows of an image count as heads, because each window has its own mask."""
        windows, each = mask.shape[0], self.dim // self.heads

        def as_heads(x: Tensor) -> Tensor:
            x = x.reshape(-1, windows, self.places, self.heads, each).transpose(2, 3)
            return x.reshape(-1, windows * self.heads, self.places, each)

        table = (bias + mask[:, None]).reshape(1, windows * self.heads, self.places, self.places)
        found = torch.onnx.ops.attention(as_heads(q), as_heads(k), as_heads(v), table, scale=1.0)[0]
        found = found.reshape(-1, windows, self.heads, self.places, each).transpose(2, 3)
        return found.reshape(-1, self.places, self.dim)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def has_window_attention(model: nn.Module) -> bool:
    """Whether `with_fused_attention` changes anything."""
    return any(type(module) is WindowAttention for module in model.modules())


def with_fused_attention(model: AnyModule) -> AnyModule:
    """A copy, in evaluation mode, in which a `FusedWindowAttention` takes the place of each `WindowAttention`."""
    changed = copy.deepcopy(model).eval()
    for parent in list(changed.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is WindowAttention:
                setattr(parent, name, FusedWindowAttention(child))
    return changed
