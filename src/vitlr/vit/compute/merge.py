"""Fewer tokens in a latent: patch tokens averaged over squares of the grid they come from.

A merged token stands for several, and softmax attention would give it the weight of one. With the logarithm of its
size added to its scores, it gets the weight that its members had together if they had been alike:

    sum over members of exp(q . k) = size * exp(q . k) = exp(q . k + log size)

(proportional attention; Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, arXiv 2210.09461, equation 1,
who merge by likeness; here the squares are fixed, so that every image has the same tokens). Prefix tokens (class,
distillation, registers) stay as they are.

Shapes: N images, T tokens, P prefix tokens, D width, S side of the grid of patches, g side of the grid after merging.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["merged_sizes", "merged_tokens"]


def merged_tokens(tokens_NTD: Tensor, prefix: int, grid: int) -> Tensor:
    """(N, P + g g, D): patch tokens averaged over squares, as even as the side allows; T = P + S S."""
    N, _, D = tokens_NTD.shape
    patches = tokens_NTD[:, prefix:]
    side = round(patches.shape[1] ** 0.5)
    if grid >= side:
        return tokens_NTD
    image_NDSS = patches.transpose(1, 2).reshape(N, D, side, side)
    merged_NDgg = functional.adaptive_avg_pool2d(image_NDSS, grid)
    return torch.cat([tokens_NTD[:, :prefix], merged_NDgg.flatten(2).transpose(1, 2)], dim=1)


def merged_sizes(side: int, prefix: int, grid: int) -> Tensor:
    """(P + g g,) float32: how many tokens each one stands for."""
    starts = [cell * side // grid for cell in range(grid)]
    ends = [-(-(cell + 1) * side // grid) for cell in range(grid)]
    lengths = torch.tensor(
        [end - start for start, end in zip(starts, ends, strict=True)], dtype=torch.float32
    )
    return torch.cat([torch.ones(prefix), (lengths[:, None] * lengths[None, :]).flatten()])
