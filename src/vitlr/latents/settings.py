"""The pretrained network, its cut and the cache of its latents, as settings."""

from __future__ import annotations

from dataclasses import dataclass

from vitlr.configuration import neutral, one_of
from vitlr.errors import ConfigError
from vitlr.vit import PRECISIONS

__all__ = ["BackboneConfig"]


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The pretrained network and where it is cut.

    Attributes:
        name: a Hugging Face name or directory (ViT, DeiT, DINO, DINOv2); B_16, B_32, L_16 or L_32 with or
            without _imagenet1k; bundled for the small network in this package.
        blocks: blocks kept, the first ones (default: all).
        image_size: side in pixels (default: the network's own); positions are resized once.
        cut: blocks in the frozen trunk (default: all but the last; native replay: none, and the embedding is
            trained too).
        precision: of the trunk: auto (the fastest that loses no accuracy on this processor), float32, bfloat16 or int8.
        device: cpu, cuda (a GPU), cuda:NUMBER, or auto for a GPU if there is one.
        batch_size: images that go through the trunk at once.
        cache: where latents are stored for later runs over the same images and trunk:
            auto (latents/ in $VITLR_CACHE, else in vitlr/ in the user's cache directory), off or a directory.
    """

    name: str = "bundled"
    blocks: int | None = None
    image_size: int | None = None
    cut: int | None = None
    precision: str = "auto"
    device: str = "cpu"
    batch_size: int = 64
    cache: str | bool = neutral("auto")

    def __post_init__(self) -> None:
        # YAML reads a bare off as false, and on as true.
        meaning = {"false": "off", "no": "off", "true": "auto", "yes": "auto", "on": "auto"}
        said = str(self.cache)
        object.__setattr__(self, "cache", meaning.get(said.lower(), said))
        if not self.cache:
            raise ConfigError("backbone.cache must be auto, off or a directory, got nothing")
        one_of("backbone.precision", self.precision, ("auto", *PRECISIONS))
        for name in ("blocks", "image_size", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"backbone.{name} must be >= 1, got {value}")
        if self.cut is not None and self.cut < 0:
            raise ConfigError(f"backbone.cut must be >= 0, got {self.cut}")
