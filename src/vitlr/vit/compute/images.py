"""The network without a cut: trunk and head for native replay, in which the memory stores images.

    images_NHWC uint8 -> ImageTrunk: a reshape                      -> pixels_NTD uint8, T = H, D = 3 W
                         ImageHead: normalise, embed, every block   -> features_ND

An image is then a latent of 3 H W bytes, and memory, training loop and evaluation treat it like any other.
The price is the whole network in every mini-batch and every evaluation.

Shapes: N images, H and W their sides, T tokens, D width.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from vitlr.errors import ConfigError, DataError
from vitlr.vit.backbone import Backbone
from vitlr.vit.compute.cut import Head, Precision, Trunk, normalised, pixel_scale

__all__ = ["ImageHead", "ImageTrunk"]


class ImageTrunk(nn.Module):
    """Reshapes images to the shape of latents: row by row, the colours of a pixel side by side."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.image_size = backbone.image_size

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(T, D) of one image: its height and three times its width."""
        return self.image_size, 3 * self.image_size

    def latents(self, images_NHWC: Tensor) -> tuple[Tensor, Tensor]:
        """The images in the shape of latents, and no class tokens (N, 0, D)."""
        pixels_NTD = self(images_NHWC)
        return pixels_NTD, pixels_NTD[:, :0]

    def forward(self, images_NHWC: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) as uint8 (N, H, 3 W). DataError: they are not uint8 or not of the network's size."""
        side, shape = self.image_size, tuple(images_NHWC.shape)
        if images_NHWC.dtype != torch.uint8 or len(shape) != 4 or shape[1:] != (side, side, 3):
            raise DataError(
                f"the network reads uint8 images of shape (N, {side}, {side}, 3), got {images_NHWC.dtype} {shape}:"
                " resize them or load the network with another image_size"
            )
        return images_NHWC.reshape(shape[0], *self.latent_shape)


class ImageHead(nn.Module):
    """The whole network, from pixels (N, H, 3 W) to features.

    Args:
        frozen: None trains all of it, the embedding too, as native rehearsal does (Pellegrini et al. 2020,
            arXiv 1912.01100: replay at the input trains every layer). A number k freezes the embedding and
            blocks 1..k, though each mini-batch still goes through them. This computes the same as latent
            replay at cut k, up to rounding, without storing latents.
        precision, device: of the frozen part.

    Raises:
        BackboneError: ``frozen`` is not one of 0..L.
    """

    def __init__(
        self,
        backbone: Backbone,
        frozen: int | None = None,
        precision: Precision = "float32",
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.width, self.image_size = backbone.width, backbone.image_size
        self._gain, self._shift = pixel_scale(backbone)
        self.head = Head(backbone, frozen or 0)
        self.trunk = None if frozen is None else Trunk(backbone, frozen, precision=precision, device=device)
        self.embeddings: nn.Module | None = None
        if frozen is None:
            self.embeddings = deepcopy(backbone.family.embeddings(backbone.model))
            for name, parameter in self.embeddings.named_parameters():
                parameter.requires_grad_("mask_token" not in name)  # only used in pretraining
        self.eval()

    def train(self, mode: bool = True) -> ImageHead:
        """Stay in eval mode: dropout is never active."""
        return super().train(False)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(T, D) of one image."""
        return self.image_size, 3 * self.image_size

    def forward(self, pixels_NTD: Tensor) -> Tensor:
        """Features (N, D) of pixels 0..255, of any type; ConfigError if their shape is not the network's."""
        if pixels_NTD.ndim != 3 or pixels_NTD.shape[1:] != self.latent_shape:
            raise ConfigError(
                f"native replay reads images of shape (N, {self.latent_shape[0]}, {self.latent_shape[1]}),"
                f" got {tuple(pixels_NTD.shape)}: they are latents, or images of another size"
            )
        images_NHWC = pixels_NTD.reshape(len(pixels_NTD), self.image_size, self.image_size, 3)
        if self.trunk is not None:
            with torch.autocast(
                images_NHWC.device.type, enabled=False
            ):  # the trunk has a precision of its own
                latents_NTD = self.trunk(images_NHWC.to(torch.uint8))
            return self.head(latents_NTD)
        assert self.embeddings is not None
        weight = self.embeddings.get_parameter("patch_embeddings.projection.weight")
        if len(images_NHWC) == 0:  # transformers' blocks cannot reshape an empty batch
            return weight.new_empty(0, self.width)
        return self.head(
            self.embeddings(normalised(images_NHWC, self._gain, self._shift, weight.dtype, weight.device))
        )
