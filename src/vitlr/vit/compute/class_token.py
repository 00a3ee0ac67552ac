"""The last block for the one token that is read, with keys and values folded. Exact, forward and backward.

The classifier reads only the class token, so in the last block only the class token needs a query, an output
projection and an MLP. With a single query, the keys and values of the T tokens need not be computed either. Let
n_t be token t after norm1's division but before its gain g and shift s, x_t = g n_t + s, and q the query of one
head:

    score_t   = q . (W_k x_t + b_k) = ((W_k g)' q) . n_t + constant
    attention = softmax over t of score_t / sqrt(d)              the constant cancels
    value     = sum_t a_t (W_v x_t + b_v) = (W_v g) (sum_t a_t n_t) + W_v s + b_v        since sum_t a_t = 1

W_k g has the gain multiplied into its columns; ' transposes. The products with W_k and W_v are computed once per
head instead of once per token, and gain and shift are applied to the D x D weights, not to the (B, H, D)
intermediate results.

FLOP per image, forward, 2 per multiply-add, with H heads, width D and an MLP of M weights (8 D^2 in a ViT):
    plain block          T (8 D^2 + 2 M) + 4 T^2 D
    one query            T 4 D^2 + 4 D^2 + 2 M + 4 T D
    folded (this file)   8 D^2 + 2 M + 4 H T D
ViT-B/32 at 128 px (T 17, D 768, H 12): 241, 54 and 15 million.

If the latents come from memory and need no gradient, norm1 has no backward pass, and no gradient of size
(T, D) is computed.

The part of the constant that comes from b_k is kept. It costs almost nothing, and b_k then has a gradient
(zero up to rounding) as in the plain block. The part from s is left out; s receives its gradient through other
terms.

Shapes: B mini-batch, T tokens, D width, H heads, d width of a head (D = H d).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vitlr.vit.compute.whole_block import product_dtype, scaled
from vitlr.vit.families import BlockParts

__all__ = ["class_token_attention", "class_token_block"]


def class_token_block(block: BlockParts, latents_BTD: Tensor, log_sizes_T: Tensor | None = None) -> Tensor:
    """Token 0 of the block's output, (B, D): ``block(latents)[:, 0]`` without computing the other tokens.

    ``log_sizes_T`` are added to the attention scores of merged tokens (:mod:`vitlr.vit.compute.merge`).
    """
    class_BD = latents_BTD[:, 0]
    class_BD = class_BD + scaled(class_token_attention(block, latents_BTD, log_sizes_T), block.scale1_D)
    return class_BD + scaled(block.mlp(block.norm2(class_BD)), block.scale2_D)


def class_token_attention(
    block: BlockParts, latents_BTD: Tensor, log_sizes_T: Tensor | None = None
) -> Tensor:
    """Token 0 of the block's attention over its normalised input, (B, D), after the output projection."""
    B, _, D = latents_BTD.shape
    H, d = block.heads, block.query.out_features // block.heads
    norm, key, value = block.norm1, block.key, block.value
    dtype = product_dtype(latents_BTD)
    n_BTD = F.layer_norm(latents_BTD, norm.normalized_shape, eps=norm.eps)
    q_BD = block.query(n_BTD[:, 0] * norm.weight + norm.bias) * d**-0.5
    n_BTD = n_BTD.to(dtype)  # computed once for both products
    gained_key_HdD = (key.weight * norm.weight).to(dtype).view(H, d, D)
    gained_value_HdD = (value.weight * norm.weight).to(dtype).view(H, d, D)

    q_HBd = q_BD.view(B, H, d).transpose(0, 1)
    folded_BHD = torch.bmm(q_HBd, gained_key_HdD).transpose(0, 1)
    scores_BHT = torch.bmm(folded_BHD, n_BTD.transpose(1, 2))
    if key.bias is not None:
        scores_BHT = scores_BHT + (q_BD * key.bias).view(B, H, d).sum(-1, keepdim=True)
    if log_sizes_T is not None:
        scores_BHT = scores_BHT + log_sizes_T

    mixed_HBD = torch.bmm(scores_BHT.softmax(-1).to(dtype), n_BTD).transpose(0, 1)
    value_HBd = torch.bmm(mixed_HBD, gained_value_HdD.transpose(1, 2))
    value_BD = value_HBd.transpose(0, 1).reshape(B, H * d) + value.weight @ norm.bias
    if value.bias is not None:
        value_BD = value_BD + value.bias
    return block.output(value_BD)
