"""A vision transformer cut in two: the trunk, frozen, and the head, trained; latents go between them.

    images_NHWC -> trunk: normalise, embed, blocks 1..k -> latents_NTD
                   head: blocks k+1..L, final norm      -> features_ND

The features are the class token after the final norm; the linear classifier on top of them belongs to the
learner. At the last cut, k = L, the head reads the class token alone, so the latent is one token. Whichever
half has the last block computes it for the class token only (:mod:`vitlr.vit.class_token`). For every k,
``head(trunk(images))`` is the class token of the whole network up to rounding.

Shapes: N images, H and W their sides, T tokens, D width, L blocks.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn

from vitlr.errors import BackboneError, ConfigError, DataError
from vitlr.vit.backbone import Backbone
from vitlr.vit.class_token import class_token_block
from vitlr.vit.int8 import ROWS, int8_blocks

__all__ = ["PRECISIONS", "Head", "Precision", "Trunk", "check_cut", "normalised", "pixel_scale", "split"]

Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")


def split(
    backbone: Backbone,
    cut: int,
    *,
    precision: Precision = "float32",
    out_dtype: torch.dtype = torch.float32,
) -> tuple[Trunk, Head]:
    """Cut after block ``cut``: 0 leaves only the embedding in the trunk, L only the final norm in the head.

    The trunk reads the backbone's own weights (a copy in bfloat16 and int8), and the head has copies: training
    the head changes neither, and a backbone can be split as often as one likes.

    Args:
        precision: that of the trunk's weights and arithmetic; see :func:`vitlr.vit.default_precision`.
        out_dtype: that of the latents.

    Raises:
        BackboneError: the cut is not one of 0..L.
        ConfigError: the precision is none of PRECISIONS, or int8 where the processor has no int8 products.
    """
    return Trunk(backbone, cut, precision=precision, out_dtype=out_dtype), Head(backbone, cut)


def check_cut(backbone: Backbone, cut: int) -> None:
    """Raise BackboneError unless the cut is one of 0..L."""
    last = backbone.num_blocks
    if not 0 <= cut <= last:
        raise BackboneError(f"{backbone.name}: cut {cut} of {last} is out of range: choose 0 to {last}")


def pixel_scale(backbone: Backbone) -> tuple[list[float], list[float]]:
    """Gain and shift of each colour: (pixel * rescale - mean) / std as one multiply-add."""
    gain = [backbone.rescale_factor / std for std in backbone.std]
    return gain, [-mean / std for mean, std in zip(backbone.mean, backbone.std, strict=True)]


def normalised(images_NHWC: Tensor, gain: list[float], shift: list[float], weight: Tensor) -> Tensor:
    """(N, 3, H, W) in type and place of the patch embedding's ``weight``, of pixels 0..255 of any type."""
    # bfloat16 holds pixels 0..255 exactly but not the gain and shift, so it is rounded to only once, at the
    # end.
    dtype = torch.promote_types(weight.dtype, torch.float32)
    gain_3 = torch.tensor(gain, dtype=dtype, device=weight.device)
    shift_3 = torch.tensor(shift, dtype=dtype, device=weight.device)
    pixels_NHWC = images_NHWC.to(device=weight.device, dtype=dtype) * gain_3 + shift_3
    return pixels_NHWC.permute(0, 3, 1, 2).to(weight.dtype)


class Trunk(nn.Module):
    """The frozen half: uint8 images to latents. Always in eval mode, never with gradients."""

    def __init__(
        self,
        backbone: Backbone,
        cut: int,
        *,
        precision: Precision = "float32",
        out_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        check_cut(backbone, cut)
        if precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.cut = cut
        self.precision = precision
        self.out_dtype = out_dtype
        self.image_size = backbone.image_size
        self.width = backbone.width
        self.tokens = 1 if cut == backbone.num_blocks else backbone.tokens
        self._tokens_inside = backbone.tokens
        self._family = backbone.family
        self._class_token_only = cut == backbone.num_blocks
        self._gain, self._shift = pixel_scale(backbone)

        self.embeddings = backbone.family.embeddings(backbone.model)
        self.blocks = backbone.family.blocks(backbone.model)[:cut]
        if (
            precision == "bfloat16"
        ):  # a plain cast, once: measured faster than autocast, which casts at every call
            self.embeddings = deepcopy(self.embeddings).bfloat16()
            self.blocks = deepcopy(self.blocks).bfloat16()
        if precision == "int8":
            last = self.blocks[cut - 1 :] if self._class_token_only else self.blocks[:0]
            self.blocks = int8_blocks(self.blocks[: cut - len(last)]).extend(deepcopy(last))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Trunk:
        """Stay in eval mode: dropout in the trunk would make latents of another network."""
        return super().train(False)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(T, D) of one latent."""
        return self.tokens, self.width

    @property
    def device(self) -> torch.device:
        """Where it computes, and where its latents lie; images may come from anywhere."""
        return self.get_parameter("embeddings.patch_embeddings.projection.weight").device

    @torch.no_grad()
    def forward(self, images_NHWC: Tensor) -> Tensor:
        """Latents (N, T, D) of uint8 images (N, H, W, 3); T is 1 at the last cut.

        Raises:
            DataError: the images are not uint8 or not of the network's size.
        """
        side = self.image_size
        shape, kind = tuple(images_NHWC.shape), images_NHWC.dtype
        if kind != torch.uint8 or len(shape) != 4 or shape[1:] != (side, side, 3):
            raise DataError(
                f"the network reads uint8 images of shape (N, {side}, {side}, 3), got {kind} {shape}: "
                "resize them or load the network with another image_size"
            )
        if len(images_NHWC) == 0:  # transformers' blocks cannot reshape an empty batch
            return torch.empty(0, *self.latent_shape, dtype=self.out_dtype, device=self.device)
        blocks = list(self.blocks)
        whole = blocks[:-1] if self._class_token_only else blocks
        # Between int8 products lie passes over what they gave, which is therefore kept small enough for the cache.
        size = max(1, ROWS // self._tokens_inside) if self.precision == "int8" else len(images_NHWC)
        latents = torch.cat([self._through(whole, part) for part in images_NHWC.split(size)])
        if self._class_token_only:
            latents = class_token_block(self._family.parts(blocks[-1]), latents)[:, None]
        return latents.to(self.out_dtype)

    def _through(self, blocks: list[nn.Module], images_NHWC: Tensor) -> Tensor:
        """Embedding and these blocks."""
        latents = self.embeddings(self._normalise(images_NHWC))
        for block in blocks:
            latents = block(latents, None)
        return latents

    def _normalise(self, images_NHWC: Tensor) -> Tensor:
        weight = self.get_parameter("embeddings.patch_embeddings.projection.weight")
        return normalised(images_NHWC, self._gain, self._shift, weight)


class Head(nn.Module):
    """The trained half: latents to features, with copies of the backbone's blocks k+1..L and final norm.

    A block is named by its number in the whole network, from 0 as in transformers
    (``blocks.11.mlp.fc1.weight``), so that weights saved with one cut cannot be taken for those of another.
    Dropout is never active, whatever the configuration says: the published networks have it at zero.
    """

    def __init__(self, backbone: Backbone, cut: int) -> None:
        super().__init__()
        check_cut(backbone, cut)
        self.cut = cut
        self.width = backbone.width
        self.tokens = 1 if cut == backbone.num_blocks else backbone.tokens
        self._family = backbone.family
        blocks = enumerate(backbone.family.blocks(backbone.model))
        self.blocks = nn.ModuleDict(
            {str(number): deepcopy(block) for number, block in blocks if number >= cut}
        )
        self.norm = deepcopy(backbone.family.final_norm(backbone.model))
        self.requires_grad_(True)
        self.eval()

    def train(self, mode: bool = True) -> Head:
        """Stay in eval mode: dropout is never active in the head."""
        return super().train(False)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(T, D) of one latent."""
        return self.tokens, self.width

    def forward(self, latents_NTD: Tensor) -> Tensor:
        """Features (N, D): the class token after the final norm.

        Raises:
            ConfigError: the latents are not of this cut's shape.
        """
        if latents_NTD.ndim != 3 or latents_NTD.shape[1:] != self.latent_shape:
            raise ConfigError(
                f"a head cut after block {self.cut} reads latents of shape (N, {self.tokens}, {self.width}), "
                f"got {tuple(latents_NTD.shape)}: they are of another cut or network"
            )
        latents_NTD = latents_NTD.to(self.norm.weight.dtype)
        if not self.blocks or len(latents_NTD) == 0:
            return self.norm(latents_NTD[:, 0])
        *earlier, last = self.blocks.values()
        for block in earlier:
            latents_NTD = block(latents_NTD, None)
        return self.norm(class_token_block(self._family.parts(last), latents_NTD))
