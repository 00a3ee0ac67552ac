"""A vision transformer cut in two, the frozen trunk and the trained head, with latents in between.

    images_NHWC -> trunk: normalise, embed, blocks 1..k -> latents_NTD
                   head: blocks k+1..L, final norm      -> features_ND

The features are the class token after the final norm; the linear classifier on top of them belongs to the
learner. At the last cut, k = L, the head reads only the class token, so the latent is one token. The half that
contains the last block computes it for the class token only (:mod:`vitlr.vit.compute.class_token`). For every k,
``head(trunk(images))`` equals the class token of the whole network up to rounding.

The trunk also gives the class tokens after chosen blocks, on request those of frozen blocks above the cut too.

Shapes: N images, H and W their sides, T tokens, D width, L blocks, K blocks whose class tokens are kept.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn

from vitlr.errors import BackboneError, ConfigError, DataError
from vitlr.vit.backbone import Backbone
from vitlr.vit.compute.class_token import class_token_block
from vitlr.vit.compute.frozen_block import FrozenBlock, FrozenPatches
from vitlr.vit.compute.int8 import ROWS, Int8Linear
from vitlr.vit.compute.merge import merged_sizes, merged_tokens
from vitlr.vit.compute.products import FrozenLinear, trained, with_linears
from vitlr.vit.compute.whole_block import whole_block

__all__ = [
    "PRECISIONS",
    "Head",
    "Precision",
    "Trunk",
    "check_cut",
    "chosen_grid",
    "normalised",
    "pixel_scale",
    "split",
]

Precision = Literal["float32", "bfloat16", "int8"]
_PROJECTION = "patch_embeddings.projection.weight"
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")


def split(
    backbone: Backbone,
    cut: int,
    *,
    precision: Precision = "float32",
    out_dtype: torch.dtype = torch.float32,
) -> tuple[Trunk, Head]:
    """Cut after block ``cut``: with 0 the trunk is only the embedding, with L the head is only the final norm.

    Both have copies of the backbone's weights. Training the head changes neither trunk nor backbone, which can be
    split any number of times.

    Args:
        precision: of the trunk's weights and arithmetic; see :func:`vitlr.vit.default_precision`.
        out_dtype: type of the latents.

    Raises:
        BackboneError: the cut is not one of 0..L.
        ConfigError: the precision is not one of PRECISIONS, or is int8 and the processor has no int8 products.
    """
    return Trunk(backbone, cut, precision=precision, out_dtype=out_dtype), Head(backbone, cut)


def check_cut(backbone: Backbone, cut: int) -> None:
    """Raise BackboneError unless the cut is one of 0..L."""
    last = backbone.num_blocks
    if not 0 <= cut <= last:
        raise BackboneError(f"{backbone.name}: cut {cut} of {last} is out of range: choose 0 to {last}")


def chosen_grid(backbone: Backbone, cut: int, grid: int | str | None) -> int | None:
    """Side of the grid to merge to, where ``auto`` stands for half the side, if the last block alone is above the cut
    and there are 8 x 8 patches or more, and for all of them otherwise."""
    if not isinstance(grid, str):
        return grid
    side = backbone.image_size // backbone.patch_size
    return side // 2 if side >= 8 and cut == backbone.num_blocks - 1 else None


def latent_tokens(backbone: Backbone, cut: int, grid: int | None) -> int:
    """T, tokens of a latent. Raises ConfigError if the grid cannot be merged to."""
    side = backbone.image_size // backbone.patch_size
    if cut == backbone.num_blocks:
        return 1
    if grid is None or grid == side:
        return backbone.tokens
    if not 1 <= grid <= side:
        raise ConfigError(
            f"{backbone.name}: patch tokens can be merged to grids of 1 to {side} a side, got {grid}"
        )
    return backbone.family.prefix_tokens(backbone.config) + grid**2


def check_class_blocks(backbone: Backbone, class_blocks: tuple[int, ...]) -> None:
    """Raise ConfigError unless these are numbers of blocks, ascending."""
    last = backbone.num_blocks
    if list(class_blocks) != sorted(set(class_blocks)) or not all(
        1 <= number <= last for number in class_blocks
    ):
        raise ConfigError(
            f"{backbone.name}: blocks whose class tokens are kept must be ascending numbers of 1 to {last},"
            f" got {', '.join(map(str, class_blocks))}"
        )


def pixel_scale(backbone: Backbone) -> tuple[list[float], list[float]]:
    """Gain and shift of each colour: (pixel * rescale - mean) / std as one multiply-add."""
    gain = [backbone.rescale_factor / std for std in backbone.std]
    return gain, [-mean / std for mean, std in zip(backbone.mean, backbone.std, strict=True)]


def normalised(
    images_NHWC: Tensor, gain: list[float], shift: list[float], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Normalised (N, 3, H, W) of the given type and device, from pixels 0..255 of any type."""
    # bfloat16 represents pixels 0..255 exactly but not the gain and shift, so values are rounded to it only once,
    # at the end.
    exact = torch.promote_types(dtype, torch.float32)
    gain_3 = torch.tensor(gain, dtype=exact, device=device)
    shift_3 = torch.tensor(shift, dtype=exact, device=device)
    pixels_NHWC = images_NHWC.to(device=device, dtype=exact) * gain_3 + shift_3
    return pixels_NHWC.permute(0, 3, 1, 2).to(dtype)


class Trunk(nn.Module):
    """The frozen half: uint8 images to latents. Always in eval mode, never with gradients.

    It is made on the device where it is to compute, and stays there: weights are packed for it.

    Args:
        class_blocks: numbers, 1..L and ascending, of the blocks whose class tokens are kept. Blocks above the cut are
            frozen copies; the highest of them is computed for the class token alone.
        grid: side of the grid that patch tokens are merged to (:mod:`vitlr.vit.compute.merge`); None keeps all. At the
            last cut there are none to merge.

    Raises:
        BackboneError: the cut is not one of 0..L.
        ConfigError: another precision or block.
    """

    def __init__(
        self,
        backbone: Backbone,
        cut: int,
        *,
        precision: Precision = "float32",
        out_dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        class_blocks: tuple[int, ...] = (),
        grid: int | None = None,
    ) -> None:
        super().__init__()
        check_cut(backbone, cut)
        check_class_blocks(backbone, class_blocks)
        if precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.cut = cut
        self.precision = precision
        self.out_dtype = out_dtype
        self.class_blocks = class_blocks
        self.image_size = backbone.image_size
        self.width = backbone.width
        self.tokens = latent_tokens(backbone, cut, grid)
        self._grid, self._prefix = grid, backbone.family.prefix_tokens(backbone.config)
        self._tokens_inside = backbone.tokens
        self._family = family = backbone.family
        self._class_token_only = cut == backbone.num_blocks
        self._gain, self._shift = pixel_scale(backbone)

        blocks = family.blocks(backbone.model)[:cut]
        half = precision == "bfloat16"  # one plain cast is faster than autocast in every call (measured)
        linear = Int8Linear if precision == "int8" else FrozenLinear
        self.embeddings = _placed(family.embeddings(backbone.model), device, half)
        self._dtype = self.embeddings.get_parameter(_PROJECTION).dtype
        self.embeddings.set_submodule(
            "patch_embeddings", FrozenPatches(self.embeddings.patch_embeddings, linear)
        )
        whole = blocks[:-1] if self._class_token_only else blocks
        self.blocks = nn.ModuleList(
            FrozenBlock(family.parts(_placed(block, device, half)), linear) for block in whole
        )
        # For a single token, a product has too few rows to gain from packed or 8-bit weights.
        self.last = _placed(blocks[-1], device, half) if self._class_token_only else None
        highest = max(class_blocks, default=0)
        above = list(family.blocks(backbone.model))[cut : max(cut, highest - 1)]
        self.above = nn.ModuleList(
            FrozenBlock(family.parts(_placed(block, device, half)), linear) for block in above
        )
        top = family.blocks(backbone.model)[highest - 1] if highest > cut else None
        self.top = None if top is None else _placed(top, device, half)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Trunk:
        """Stay in eval mode: with dropout the latents would be those of another network."""
        return super().train(False)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(T, D) of one latent."""
        return self.tokens, self.width

    @property
    def device(self) -> torch.device:
        """Device that it computes on and returns latents on; images may be on any device."""
        return next(self.embeddings.parameters()).device

    def forward(self, images_NHWC: Tensor) -> Tensor:
        """The tokens at the cut, (N, T, D), of uint8 images (N, H, W, 3); see :meth:`latents`."""
        return self.latents(images_NHWC)[0]

    @torch.no_grad()
    def latents(self, images_NHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens at the cut (N, T, D), T being 1 at the last cut, and class tokens (N, K, D) of ``class_blocks``.

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
            empty = torch.empty(0, *self.latent_shape, dtype=self.out_dtype, device=self.device)
            return empty, empty.new_empty(0, len(self.class_blocks), self.width)
        pixels = normalised(images_NHWC, self._gain, self._shift, self._dtype, self.device)
        embedded = self.embeddings(pixels)
        # Between int8 products lie passes over what they gave, which is therefore kept small enough for the cache.
        size = max(1, ROWS // self._tokens_inside) if self.precision == "int8" else len(embedded)
        parts = [self._through(part) for part in embedded.split(size)]
        tokens_NTD = torch.cat([tokens for tokens, _ in parts])
        class_tokens = [torch.cat(each) for each in zip(*(kept for _, kept in parts), strict=True)]
        if self.last is not None:
            tokens_NTD = class_token_block(self._family.parts(self.last), tokens_NTD)[:, None]
            if self.cut in self.class_blocks:
                class_tokens.append(tokens_NTD[:, 0])
        elif self._grid is not None:
            tokens_NTD = merged_tokens(tokens_NTD, self._prefix, self._grid)
        kept_NKD = torch.stack(class_tokens, dim=1) if class_tokens else tokens_NTD[:, :0]
        return tokens_NTD.to(self.out_dtype), kept_NKD.to(self.out_dtype)

    def _through(self, tokens_NTD: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The whole blocks: tokens at the cut (before the last block at the last cut), and class tokens (N, D)."""
        kept = []
        for number, block in enumerate(self.blocks, 1):
            tokens_NTD = block(tokens_NTD)
            if number in self.class_blocks:
                kept.append(tokens_NTD[:, 0])
        at_cut_NTD = tokens_NTD
        for number, block in enumerate(self.above, self.cut + 1):
            tokens_NTD = block(tokens_NTD)
            if number in self.class_blocks:
                kept.append(tokens_NTD[:, 0])
        if self.top is not None:
            kept.append(class_token_block(self._family.parts(self.top), tokens_NTD))
        return at_cut_NTD, kept


def _placed(module: nn.Module, device: torch.device | str, half: bool) -> nn.Module:
    """A frozen copy on the device, in bfloat16 if that is the precision."""
    return deepcopy(module).to(device, torch.bfloat16 if half else None).requires_grad_(False)


class Head(nn.Module):
    """The trained half: latents to features, with copies of the backbone's blocks k+1..L and final norm.

    A block is named by its number in the whole network, from 0 as in transformers
    (``blocks.11.mlp.fc1.weight``), so that weights saved with one cut cannot be taken for those of another.
    Dropout is never active, whatever the configuration says: the published networks have it at zero.

    Args:
        grid: of the merged tokens that it reads, as the trunk was given.
    """

    _log_sizes_T: Tensor | None

    def __init__(self, backbone: Backbone, cut: int, grid: int | None = None) -> None:
        super().__init__()
        check_cut(backbone, cut)
        self.cut = cut
        self.width = backbone.width
        self.tokens = latent_tokens(backbone, cut, grid)
        self.grid = grid if 1 < self.tokens < backbone.tokens else None  # of the merged tokens that it reads
        sizes_T = None
        if self.grid is not None:
            side, prefix = (
                backbone.image_size // backbone.patch_size,
                backbone.family.prefix_tokens(backbone.config),
            )
            sizes_T = merged_sizes(side, prefix, self.grid)
        self.register_buffer("_log_sizes_T", None if sizes_T is None else sizes_T.log(), persistent=False)
        self._family = backbone.family
        blocks = enumerate(backbone.family.blocks(backbone.model))
        self.blocks = nn.ModuleDict(
            {str(number): deepcopy(block) for number, block in blocks if number >= cut}
        )
        with_linears(self.blocks, trained)
        self.norm = deepcopy(backbone.family.final_norm(backbone.model))
        self.requires_grad_(True)
        self.eval()

    def train(self, mode: bool = True) -> Head:
        """Stay in eval mode: dropout is never active in the head."""
        return super().train(False)

    @property
    def log_sizes_T(self) -> Tensor | None:
        """Logarithms of how many tokens each one stands for, if they are merged."""
        return self._log_sizes_T

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
            latents_NTD = whole_block(self._family.parts(block), latents_NTD, self._log_sizes_T)
        return self.norm(class_token_block(self._family.parts(last), latents_NTD, self._log_sizes_T))
