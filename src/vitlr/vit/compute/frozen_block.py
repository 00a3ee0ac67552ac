"""The forward pass of the frozen trunk: fewer and larger products, and fewer passes over memory between them.

It computes the same as the family's block up to rounding, arranged for weights that never change:

* query, key and value are one product; the factor 1 / sqrt(d) is part of the query's weights;
* DINOv2's scale of each channel is part of the weights of the product before it;
* GELU and the sum with the residual are part of the product before them (:mod:`vitlr.vit.compute.products`);
* patches are rows of a linear layer instead of inputs of a convolution.

Shapes: N images, T tokens, D width, H heads, d width of a head, P patches, S side of a patch.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitlr.vit.compute.products import FrozenLinear, with_linears
from vitlr.vit.compute.whole_block import attend
from vitlr.vit.families import BlockParts

__all__ = ["FrozenBlock", "FrozenPatches", "MakeLinear"]

# (weight (O, I), bias (O,) or None, gelu=...) -> a module of (inputs, residual=None)
MakeLinear = Callable[..., nn.Module]


class FrozenBlock(nn.Module):
    """One block, (N, T, D) to (N, T, D), with copies of its weights.

    Args:
        parts: parts of the block; their device and type are kept.
        linear: constructor of the linear layers.
    """

    def __init__(self, parts: BlockParts, linear: MakeLinear = FrozenLinear) -> None:
        super().__init__()
        self.heads = parts.heads
        self.norm1, self.norm2 = deepcopy(parts.norm1), deepcopy(parts.norm2)
        shrink = (parts.query.out_features // parts.heads) ** -0.5
        weights = [parts.query.weight * shrink, parts.key.weight, parts.value.weight]
        biases = [_bias(layer) for layer in (parts.query, parts.key, parts.value)]
        biases[0] = biases[0] * shrink
        self.qkv = linear(torch.cat(weights), torch.cat(biases))
        self.output = linear(*_scaled(parts.output, parts.scale1_D))
        self.mlp = _mlp(parts, linear)

    def forward(self, latents_NTD: Tensor) -> Tensor:
        N, T, _ = latents_NTD.shape
        qkv = self.qkv(self.norm1(latents_NTD)).view(N, T, 3, self.heads, -1)
        q_NHTd, k_NHTd, v_NHTd = (qkv[:, :, part].transpose(1, 2) for part in range(3))
        value_NHTd = attend(q_NHTd, k_NHTd, v_NHTd)
        latents_NTD = self.output(value_NHTd.transpose(1, 2).reshape(N, T, -1), latents_NTD)
        return self.mlp(self.norm2(latents_NTD), latents_NTD)


class _Mlp(nn.Module):
    """fc1, GELU, fc2: the MLP of all sizes except DINOv2's giant."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, inputs_NTD: Tensor, residual_NTD: Tensor) -> Tensor:
        return self.second(self.first(inputs_NTD), residual_NTD)


class _OtherMlp(nn.Module):
    """Any other MLP: the family's own module with these linear layers."""

    def __init__(self, mlp: nn.Module, scale_D: Tensor | None, linear: MakeLinear) -> None:
        super().__init__()
        self.mlp = with_linears(deepcopy(mlp), lambda layer: linear(layer.weight, layer.bias))
        self.register_buffer("scale_D", scale_D, persistent=False)

    def forward(self, inputs_NTD: Tensor, residual_NTD: Tensor) -> Tensor:
        outputs = self.mlp(inputs_NTD)
        return residual_NTD + (outputs if self.scale_D is None else outputs * self.scale_D)


class FrozenPatches(nn.Module):
    """Replaces a family's patch embedding: pixels (N, 3, H, W) to (N, P, D) as one linear layer."""

    def __init__(self, patches: Any, linear: MakeLinear = FrozenLinear) -> None:
        super().__init__()
        convolution: nn.Conv2d = patches.projection
        self.patch_size = patches.patch_size  # read by embeddings that resize positions
        self.side = convolution.kernel_size[0]
        weight_DSS3 = convolution.weight.permute(0, 2, 3, 1)
        self.linear = linear(weight_DSS3.flatten(1), convolution.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        N, S = len(pixels), self.side
        pixels_NHWC = pixels.permute(0, 2, 3, 1)  # as they came from the image
        rows, columns = pixels_NHWC.shape[1] // S, pixels_NHWC.shape[2] // S
        pixels_NHWC = pixels_NHWC[:, : rows * S, : columns * S]  # the remaining pixels belong to no patch
        patches = pixels_NHWC.reshape(N, rows, S, columns, S * 3).transpose(2, 3)
        return self.linear(patches.reshape(N, rows * columns, S * S * 3))


def _mlp(parts: BlockParts, linear: MakeLinear) -> nn.Module:
    mlp: Any = parts.mlp
    names = {name for name, child in mlp.named_children() if isinstance(child, nn.Linear)}
    if names != {"fc1", "fc2"} or not _is_gelu(mlp):
        return _OtherMlp(mlp, parts.scale2_D, linear)
    first = linear(mlp.fc1.weight, mlp.fc1.bias, gelu=True)
    return _Mlp(first, linear(*_scaled(mlp.fc2, parts.scale2_D)))


def _is_gelu(mlp: nn.Module) -> bool:
    """Whether the activation is GELU by erf. Tested by its output, because it has had many names."""
    activation = getattr(mlp, "activation_fn", None)
    points = torch.linspace(-6, 6, 97)
    return activation is not None and torch.equal(activation(points), F.gelu(points))


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias


def _scaled(layer: nn.Linear, scale_O: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if scale_O is None:
        return layer.weight, layer.bias
    return layer.weight * scale_O[:, None], None if layer.bias is None else layer.bias * scale_O
