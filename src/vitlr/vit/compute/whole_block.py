"""A block for training: all tokens in, all tokens out, computed from :class:`BlockParts`.

    h = h + scale1 * attention(norm1(h))
    h = h + scale2 * mlp(norm2(h))

It computes the same as the family's own block. It is written here so that in mixed precision each input is rounded to
bfloat16 once instead of once per product, and attention is computed in the way that is fastest for its type
(:func:`attend`).

Shapes: B mini-batch, T tokens, D width, H heads, d width of a head (D = H d).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vitlr.vit.families import BlockParts

__all__ = ["attend", "product_dtype", "scaled", "whole_block"]


def whole_block(block: BlockParts, latents_BTD: Tensor, log_sizes_T: Tensor | None = None) -> Tensor:
    """(B, T, D): the block's output for (B, T, D).

    ``log_sizes_T`` are added to the attention scores of merged tokens (:mod:`vitlr.vit.compute.merge`).
    """
    B, T, _ = latents_BTD.shape
    dtype = product_dtype(latents_BTD)
    n_BTD = block.norm1(latents_BTD).to(dtype)
    q_BHTd, k_BHTd, v_BHTd = (
        layer(n_BTD).view(B, T, block.heads, -1).transpose(1, 2)
        for layer in (block.query, block.key, block.value)
    )
    value_BHTd = attend(q_BHTd * q_BHTd.shape[-1] ** -0.5, k_BHTd, v_BHTd, log_sizes_T)
    value_BTD = value_BHTd.transpose(1, 2).reshape(B, T, -1)
    latents_BTD = latents_BTD + scaled(block.output(value_BTD), block.scale1_D)
    return latents_BTD + scaled(block.mlp(block.norm2(latents_BTD).to(dtype)), block.scale2_D)


def attend(q_BHTd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor, log_sizes_T: Tensor | None = None) -> Tensor:
    """softmax(q k' + log sizes) v, (B, H, T, d); the queries come with 1 / sqrt(d) in them.

    Uses PyTorch's fused attention, except in bfloat16 on a processor, where that takes two to six times as long,
    forward and backward, as the two products (17, 65 and 197 tokens on two cores of an AMD Zen 5).
    """
    if q_BHTd.device.type != "cpu" or q_BHTd.dtype != torch.bfloat16:
        mask = None if log_sizes_T is None else log_sizes_T.to(q_BHTd.dtype).expand(1, 1, 1, -1)
        return F.scaled_dot_product_attention(q_BHTd, k_BHTd, v_BHTd, attn_mask=mask, scale=1.0)
    scores_BHTT = q_BHTd @ k_BHTd.transpose(2, 3)
    scores_BHTT = scores_BHTT if log_sizes_T is None else scores_BHTT + log_sizes_T
    return scores_BHTT.softmax(-1).to(q_BHTd.dtype) @ v_BHTd


def product_dtype(latents: Tensor) -> torch.dtype:
    """Type of the products: the latents' own, or autocast's in mixed precision."""
    device = latents.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return latents.dtype


def scaled(tokens: Tensor, scale_D: Tensor | None) -> Tensor:
    """Multiply by DINOv2's scale of each channel if there is one."""
    return tokens if scale_D is None else tokens * scale_D
