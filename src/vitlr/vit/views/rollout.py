"""Attention rollout: how much of each patch reaches the class token, through all blocks.

Abnar & Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, section 3, equation 1. Of block l's
attention A_l (T, T), with queries as rows and keys as columns, fused over heads:

    A'_l = 0.5 A_l + 0.5 I               half of a token's output is the token itself (residual)
    R_l  = A'_l R_{l-1},   R_0 = I

R_L[0] holds the shares of the class token that come from each token of the embedding. The shares of the patches
are the map. Those of the class token itself, DeiT's distillation token and registers are left out, so a map
sums to less than 1. The product is linear and ignores values and MLPs: a map shows where
attention can bring information from, not what decided the answer.

Two options are not in the paper but common since: fusing heads by their maximum or minimum instead of the
mean, and discarding the lowest attention, which removes haze from the map. Both leave rows that do not sum
to 1, so every row of A' is divided by its sum.

The head computes its last block for the class token only, and the blocks of this package do not return their
attention, so it is computed here from the weights of query and key.

Shapes: N images, H heads, T tokens, D width, L blocks, h and w patches down and across.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn

from vitlr.errors import BackboneError, ConfigError
from vitlr.vit.backbone import Backbone
from vitlr.vit.compute.cut import Head, Trunk
from vitlr.vit.families import BlockParts

__all__ = [
    "FUSIONS",
    "attention",
    "attention_maps",
    "attention_rollout",
    "check_options",
    "discard_lowest",
    "fuse_heads",
    "rollout",
    "with_residual",
]

FUSIONS = ("mean", "max", "min")

_LARGEST = 2**24  # numbers of one block's attention held at once, 64 MiB in float32


# -- maths ------------------------------------------------------------------------------------------


def fuse_heads(attention_NHTT: Tensor, fuse: str = "mean") -> Tensor:
    """(N, T, T): mean, max or min over the heads. Max and min leave rows that do not sum to 1."""
    check_options(fuse=fuse)
    if fuse == "mean":
        return attention_NHTT.mean(dim=1)
    return attention_NHTT.amax(dim=1) if fuse == "max" else attention_NHTT.amin(dim=1)


def discard_lowest(attention_NTT: Tensor, share: float) -> Tensor:
    """(N, T, T) with the lowest ``share`` of an image's attention set to zero.

    floor(share * T * (T - 1)) entries are discarded, counted over the whole matrix of an image
    without the class token's column: attention to the class token is never discarded.
    """
    check_options(discard=share)
    N, T, _ = attention_NTT.shape
    fewer = int(share * T * (T - 1))
    if fewer == 0:
        return attention_NTT
    others_NM = attention_NTT[:, :, 1:].reshape(N, -1)
    lowest_NK = others_NM.topk(fewer, dim=1, largest=False).indices
    others_NTT = others_NM.scatter(1, lowest_NK, 0.0).view(N, T, T - 1)
    return torch.cat([attention_NTT[:, :, :1], others_NTT], dim=2)


def with_residual(attention_NTT: Tensor) -> Tensor:
    """(N, T, T): 0.5 A + 0.5 I, every row divided by its sum."""
    identity_TT = torch.eye(attention_NTT.shape[-1], dtype=attention_NTT.dtype, device=attention_NTT.device)
    mixed_NTT = 0.5 * attention_NTT + 0.5 * identity_TT
    return mixed_NTT / mixed_NTT.sum(dim=-1, keepdim=True)


def rollout(attention_LNHTT: Iterable[Tensor], *, fuse: str = "mean", discard: float = 0.0) -> Tensor:
    """R_L (N, T, T): the share of each token of the embedding (column) in each token of the output (row).

    Args:
        attention_LNHTT: (N, H, T, T) of each block, first to last, rows summing to 1; H may differ.
        fuse: ``mean`` (the paper's), ``max`` or ``min`` over heads.
        discard: share of the fused attention set to zero, lowest first; see :func:`discard_lowest`.

    Raises:
        ConfigError: ``fuse`` or ``discard`` is invalid.
        ValueError: there is no block.
    """
    check_options(fuse=fuse, discard=discard)
    rolled_NTT: Tensor | None = None
    for attention_NHTT in attention_LNHTT:
        block_NTT = with_residual(discard_lowest(fuse_heads(attention_NHTT, fuse), discard))
        rolled_NTT = block_NTT if rolled_NTT is None else block_NTT @ rolled_NTT
    if rolled_NTT is None:
        raise ValueError("a rollout needs the attention of at least one block")
    return rolled_NTT


def check_options(*, fuse: str = "mean", discard: float = 0.0) -> None:
    """Raise ConfigError if an option is invalid."""
    if fuse not in FUSIONS:
        raise ConfigError(f"fuse must be one of {', '.join(FUSIONS)}, got {fuse!r}")
    if not 0 <= discard < 1:
        raise ConfigError(f"discard must be a share from 0 to less than 1, got {discard}")


def attention(block: BlockParts, tokens_NTD: Tensor) -> Tensor:
    """(N, H, T, T) softmax(q k' / sqrt(d)) of a block for its input; rows are queries and sum to 1."""
    N, T, _ = tokens_NTD.shape
    normed_NTD = block.norm1(tokens_NTD)
    query_NHTd = block.query(normed_NTD).view(N, T, block.heads, -1).transpose(1, 2)
    key_NHTd = block.key(normed_NTD).view(N, T, block.heads, -1).transpose(1, 2)
    return (query_NHTd @ key_NHTd.transpose(2, 3) * query_NHTd.shape[-1] ** -0.5).softmax(dim=-1)


# -- networks ---------------------------------------------------------------------------------------


def attention_maps(backbone: Backbone, images_NHWC: Tensor, head: Head | None = None) -> Iterator[Tensor]:
    """Yield (N, H, T, T) for each block, first to last, on the backbone's device.

    Args:
        images_NHWC: uint8, of the backbone's image size.
        head: trained blocks that replace the backbone's own above the cut; on any device.

    Raises:
        BackboneError: the head is of another network.
        DataError: the images do not have the network's type or size.
    """
    weight = next(backbone.model.parameters())
    blocks = _blocks(backbone, head, weight.device)
    tokens_NTD = Trunk(backbone, 0, out_dtype=weight.dtype, device=weight.device)(images_NHWC)
    with torch.no_grad():
        for number, block in enumerate(blocks, start=1):
            yield attention(backbone.family.parts(block), tokens_NTD)
            if number < len(blocks):
                tokens_NTD = block(tokens_NTD, None)


def attention_rollout(
    backbone: Backbone,
    images_NHWC: Tensor,
    head: Head | None = None,
    *,
    fuse: str = "mean",
    discard: float = 0.0,
) -> Tensor:
    """(N, h, w): the share of each patch in the class token, 0..1, through all blocks; on the backbone's device.

    Computed a few images at a time, so that attention takes at most about 64 MiB whatever N and the image
    size; arguments and errors as in :func:`attention_maps` and :func:`rollout`.
    """
    check_options(fuse=fuse, discard=discard)
    side = backbone.image_size // backbone.patch_size
    prefix = backbone.tokens - side * side
    batch = max(1, _LARGEST // (backbone.heads * backbone.tokens**2))
    maps = [torch.empty(0, side, side, device=next(backbone.model.parameters()).device)]
    for part in images_NHWC.split(batch) if len(images_NHWC) else ():
        rolled_NTT = rollout(attention_maps(backbone, part, head), fuse=fuse, discard=discard)
        maps.append(rolled_NTT[:, 0, prefix:].reshape(len(part), side, side))
    return torch.cat(maps)


def _blocks(backbone: Backbone, head: Head | None, device: torch.device) -> list[nn.Module]:
    """All blocks on one device, those above the cut from the head if there is one."""
    blocks: list[nn.Module] = list(backbone.family.blocks(backbone.model))
    if head is None:
        return blocks
    numbers = [str(number) for number in range(head.cut, len(blocks))]
    if head.width != backbone.width or list(head.blocks) != numbers:
        raise BackboneError(
            f"the head was not cut from {backbone.name}: give the network that it was cut from, with as many blocks"
        )
    above = head.blocks
    if next(head.parameters()).device != device:
        above = deepcopy(above).to(device)
    return blocks[: head.cut] + list(above.values())
