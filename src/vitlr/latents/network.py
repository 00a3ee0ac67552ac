"""The network of a run, split at its cut. Where latents are cached, the trunk is loaded only when it is asked for."""

from __future__ import annotations

import os
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitlr.device import device_named, fits
from vitlr.errors import BackboneError, RunError
from vitlr.latents.cache import LatentCache
from vitlr.latents.cached_head import keep_head, kept_head
from vitlr.latents.identity import trunk_identity
from vitlr.latents.settings import BackboneConfig
from vitlr.storage.cache_root import cache_root
from vitlr.vit import (
    Backbone,
    Head,
    ImageHead,
    ImageTrunk,
    Precision,
    Trunk,
    default_precision,
    load_backbone,
)
from vitlr.vit.compute.precision import check_precision

__all__ = ["Network", "keep", "latents_root", "open_network"]


class Network:
    """A backbone split at the cut.

    ``head`` is fresh: its weights are the backbone's, and it is not to be trained (``new_head`` makes one that
    is). ``outline`` tells name and shape; it is the backbone where that was loaded, and else has no trunk.
    With ``images`` the latents are images and the head is the whole network, of which the first ``config.cut``
    blocks stay frozen where that is given (native replay).
    """

    def __init__(
        self,
        config: BackboneConfig,
        outline: Backbone,
        cut: int,
        precision: Precision,
        cache: LatentCache | None = None,
        images: bool = False,
    ) -> None:
        self.outline, self.cut, self.precision, self.cache = outline, cut, precision, cache
        self.images = images
        self.device = device_named(config.device)
        self.head: Head | ImageHead
        self.head = ImageHead(outline, config.cut, precision, self.device) if images else Head(outline, cut)
        self.head.to(self.device)
        self._config = config

    def new_head(self) -> Head | ImageHead:
        """A head of its own, with the backbone's weights."""
        return deepcopy(self.head)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(T, D) of one latent."""
        return self.head.latent_shape

    @property
    def latent_dtype(self) -> torch.dtype:
        """Type of the numbers of a latent, as the trunk gives them."""
        return torch.uint8 if self.images else torch.float32

    def placed(self, latents_NTD: Tensor) -> Tensor:
        """Latents that are read again and again: on the device if there is room for them, else where they are."""
        return latents_NTD.to(self.device) if fits(latents_NTD.nbytes, self.device) else latents_NTD

    @property
    def trunk_is_loaded(self) -> bool:
        """Whether the trunk's weights are in memory."""
        return "backbone" in self.__dict__

    @cached_property
    def backbone(self) -> Backbone:
        """The whole network, loaded when it is first asked for.

        Raises:
            BackboneError: its files have changed since the run began.
        """
        backbone = _load(self._config)
        if (
            self.cache is not None
            and _identity(self._config, self.precision, self.cache.root) != self.cache.identity
        ):
            raise BackboneError(f"{backbone.name}: its files have changed since the run began; start again")
        return backbone

    @cached_property
    def trunk(self) -> Trunk | ImageTrunk:
        """The frozen half."""
        if self.images:
            return ImageTrunk(self.backbone)
        return Trunk(self.backbone, self.cut, precision=self.precision, device=self.device)


def open_network(config: BackboneConfig, *, cached: bool = False, images: bool = False) -> Network:
    """Load and split.

    Args:
        cached: use the latents on disk that ``config.cache`` names, and load the trunk only when needed.
        images: for native replay, which has no latents to keep on disk.

    Raises:
        BackboneError: names what does not fit.
        RunError: ``config.cache`` is a directory that cannot be written to.
        ConfigError: ``config.device`` is none that is here, or cannot compute in ``config.precision``.
    """
    device = device_named(config.device)
    precision: Precision = default_precision(device) if config.precision == "auto" else config.precision  # type: ignore[assignment]
    check_precision(precision, device)
    root = latents_root(config.cache) if cached and not images else None
    cache = None
    if root is not None:
        _check_root(root, config.cache)
        cache = LatentCache(root, _identity(config, precision, root), config.name)
        cut = cache.identity["cut"]
        outline = kept_head(cache.directory, config.name, cut) if cache.shape is not None else None
        if outline is not None:
            network = Network(config, outline, cut, precision, cache)
            if network.latent_shape == cache.shape:
                return network
    backbone = _load(config)
    cut = config.cut or 0 if images else _cut(config, backbone)
    network = Network(config, backbone, cut, precision, cache, images)
    network.__dict__["backbone"] = backbone
    if cache is not None:
        # Its files may have been replaced between the two: then these are not the latents of that identity.
        if _identity(config, precision, root) != cache.identity:
            raise BackboneError(f"{backbone.name}: its files changed while they were read; start again")
        cache.describe(network.latent_shape, bfloat16=precision == "bfloat16")
    return network


def keep(network: Network) -> None:
    """Put on the disk what a later run starts from: latents still in memory, and the head."""
    if network.cache is None:
        return
    network.cache.commit()
    if network.trunk_is_loaded and network.cache.writable:
        keep_head(network.cache.directory, network.backbone, network.cut)


def latents_root(setting: str | bool) -> Path | None:
    """The directory that ``backbone.cache`` names: ``auto`` for the user's, ``off`` for none."""
    if setting == "off":
        return None
    return cache_root() / "latents" if setting == "auto" else Path(str(setting)).expanduser()


def _check_root(root: Path, setting: str | bool) -> None:
    """RunError where a directory that the user chose cannot be used; the default one is then left out."""
    if setting == "auto":
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"backbone.cache: {root} cannot be made: {error.strerror}; choose another") from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise RunError(f"backbone.cache: {root} cannot be written to; choose another directory, or off")


def _load(config: BackboneConfig) -> Backbone:
    return load_backbone(config.name, blocks=config.blocks, image_size=config.image_size)


def _cut(config: BackboneConfig, backbone: Backbone) -> int:
    return backbone.num_blocks - 1 if config.cut is None else config.cut


def _identity(config: BackboneConfig, precision: str, memo: Path | None) -> dict[str, Any]:
    return trunk_identity(
        config.name,
        blocks=config.blocks,
        image_size=config.image_size,
        cut=config.cut,
        precision=precision,
        batch_size=config.batch_size,
        device=device_named(config.device),
        memo=memo,
    )
