"""A pretrained network cut in two: the frozen trunk, fresh heads, and what identifies their latents.

Every part of the program that needs a network has one of these. If latents are cached, the trunk's weights are loaded
only when an image has to be encoded.

Shapes: T tokens at the cut, D width.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vitlr.device import fits
from vitlr.errors import BackboneError, RunError
from vitlr.latents.cache import LatentCache
from vitlr.latents.cached_head import keep_head, kept_head
from vitlr.latents.identity import trunk_identity
from vitlr.latents.record import Latents
from vitlr.latents.settings import BackboneConfig
from vitlr.latents.views import RECIPE
from vitlr.storage.cache_root import cache_root
from vitlr.storage.state import checksum, load_state, write_state
from vitlr.vit import Backbone, Head, ImageHead, ImageTrunk, Trunk, load_backbone
from vitlr.vit.compute.cut import chosen_grid
from vitlr.vit.compute.precision import Compute, resolved
from vitlr.vit.stored import backbone_from_state, backbone_state

__all__ = ["Network", "latents_root"]

_KIND, _VERSION = "backbone", 1
# Settings of a network that its weights do not show.
_TRAITS = (
    *("model_type", "image_size", "patch_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("layer_norm_eps", "qkv_bias", "use_swiglu_ffn", "num_register_tokens"),
)


class Network:
    """A backbone, a cut, a precision and a device.

    Attributes:
        skeleton: the backbone's name and shape, and the head's weights; without the trunk's if those were not loaded.
        cut: blocks in the trunk; in native replay, blocks that stay frozen.
        compute: the device, and the precision of the trunk.
        class_blocks: numbers of the last blocks, whose class tokens the trunk keeps beside the tokens at the cut.
        grid: side of the grid that patch tokens are merged to; None keeps all, auto see ``MemoryConfig.tokens``.
        images: in native replay the latents are images, and the head is the whole network.
        cache: of its latents on disk, or None. view_cache: of the class tokens of random views.
    """

    def __init__(
        self,
        backbone: Backbone | None,
        *,
        cut: int | None = None,
        compute: Compute | None = None,
        class_tokens: tuple[int, int] = (0, 0),
        grid: int | str | None = None,
        images: bool = False,
        skeleton: Backbone | None = None,
        cache: LatentCache | None = None,
        config: BackboneConfig | None = None,
    ) -> None:
        found = skeleton if backbone is None else backbone
        assert found is not None
        self.skeleton = found
        self.compute = resolved("cpu") if compute is None else compute
        self._class_tokens, self._asked_grid, self.images = class_tokens, grid, images
        self.cache, self._config = cache, config
        self.view_cache: LatentCache | None = None
        last = self.skeleton.num_blocks
        kept = 0 if images else _blocks_within(*class_tokens, self.skeleton.width, last)
        self.class_blocks = tuple(range(last - kept + 1, last + 1))
        if backbone is not None:
            self.__dict__["backbone"] = backbone
        frozen = cut  # None: native replay trains the embedding too
        self.cut = cut if cut is not None else 0 if images else self.skeleton.num_blocks - 1
        self.grid = chosen_grid(self.skeleton, self.cut, grid)
        self._head: Head | ImageHead
        if images:
            self._head = ImageHead(self.skeleton, frozen, self.compute.precision, self.device)
        else:
            self._head = Head(self.skeleton, self.cut, self.grid)
        self._head.to(self.device)

    @classmethod
    def open(
        cls,
        config: BackboneConfig,
        *,
        cached: bool = False,
        images: bool = False,
        class_tokens: tuple[int, int] = (0, 0),
        grid: int | str | None = None,
        compute: Compute | None = None,
    ) -> Network:
        """The network that the settings name.

        Args:
            cached: use the latents on disk that ``config.cache`` names, and load the trunk only when needed.
            images: for native replay, which has no latents to keep on disk.
            class_tokens: how many of the last blocks to keep class tokens of, and a bound in bytes on the triangle of a
                float64 matrix over them joined, which may make it fewer, but at least one.
            grid: side of the grid that patch tokens are merged to; None keeps all, auto see ``MemoryConfig.tokens``.
            compute: in place of what the settings say.

        Raises:
            BackboneError: the network cannot be found or used.
            RunError: ``config.cache`` is a directory that cannot be made.
            ConfigError: ``config.device`` is not one of this machine, or cannot compute in ``config.precision``.
        """
        compute = resolved(config.device, config.precision) if compute is None else compute
        kept: dict[str, Any] = {"class_tokens": class_tokens, "grid": grid}
        parts: dict[str, Any] = {
            "compute": compute,
            "images": images,
            "config": config,
            **kept,
        }
        root = latents_root(config.cache) if cached and not images else None
        cache = None
        if root is not None:
            _check_root(root, config.cache)
            cache = LatentCache(root, _identity(config, compute, root, **kept), config.name)
            cut = cache.identity["cut"]
            skeleton = kept_head(cache.directory, config.name, cut) if cache.shape is not None else None
            if skeleton is not None:
                network = cls(None, cut=cut, skeleton=skeleton, cache=cache, **parts)
                if network._cached_shape == cache.shape and cache.class_tokens == len(network.class_blocks):
                    network._open_views()
                    return network
        backbone = load_backbone(config.name, blocks=config.blocks, image_size=config.image_size)
        network = cls(backbone, cut=config.cut, cache=cache, **parts)
        if cache is not None:
            # Its files may have been replaced between the two: then these are not the latents of that identity.
            if _identity(config, compute, root, **kept) != cache.identity:
                raise BackboneError(f"{backbone.name}: its files changed while they were read; start again")
            half, class_tokens_kept = compute.precision == "bfloat16", len(network.class_blocks)
            cache.describe(network._cached_shape, bfloat16=half, class_tokens=class_tokens_kept)
            network._open_views()
        return network

    def _open_views(self) -> None:
        """The cache of random views, of which class tokens alone are kept."""
        kept = len(self.class_blocks)
        if kept and self.cache is not None:
            self.view_cache = LatentCache(
                self.cache.root, self.cache.identity | {"of": "views", "drawn by": repr(RECIPE)}, self.name
            )
            half = self.compute.precision == "bfloat16"
            self.view_cache.describe((kept, self.skeleton.width), bfloat16=half, class_tokens=kept)

    # -- what it gives ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name or directory of the backbone."""
        return self.skeleton.name

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.compute.device

    @property
    def precision(self) -> str:
        """Of the trunk."""
        return self.compute.precision

    def new_head(self) -> Head | ImageHead:
        """A head of its own, with the backbone's weights."""
        return deepcopy(self._head)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(T, D) of one latent's tokens."""
        return self._head.latent_shape

    @property
    def _cached_shape(self) -> tuple[int, int]:
        """Of a row in the cache: tokens and class tokens."""
        tokens, width = self.latent_shape
        return tokens + len(self.class_blocks), width

    @property
    def latent_dtype(self) -> torch.dtype:
        """Type of the numbers of a latent, as the trunk gives them."""
        return torch.uint8 if self.images else torch.float32

    def empty_latents(self, num: int) -> Latents:
        """Latents of ``num`` images, not filled in."""
        tokens_NTD = torch.empty(num, *self.latent_shape, dtype=self.latent_dtype)
        return Latents(tokens_NTD, tokens_NTD.new_empty(num, len(self.class_blocks), self.latent_shape[1]))

    def encode(self, images_NHWC: torch.Tensor) -> Latents:
        """Latents of uint8 images (N, H, W, 3), all of them through the trunk at once."""
        return Latents(*self.trunk.latents(images_NHWC))

    def placed(self, latents: Latents) -> Latents:
        """Latents that are read again and again: on the device if there is room for them, else where they are."""
        return latents.to(self.device) if fits(latents.nbytes, self.device) else latents

    @property
    def trunk_is_loaded(self) -> bool:
        """If the trunk's weights are in memory."""
        return "backbone" in self.__dict__

    @cached_property
    def backbone(self) -> Backbone:
        """The whole network, loaded when it is first asked for.

        Raises:
            BackboneError: its files have changed since the network was opened.
        """
        config, cache = self._config, self.cache
        assert config is not None and cache is not None
        backbone = load_backbone(config.name, blocks=config.blocks, image_size=config.image_size)
        if (
            _identity(
                config, self.compute, cache.root, class_tokens=self._class_tokens, grid=self._asked_grid
            )
            != cache.identity
        ):
            raise BackboneError(f"{backbone.name}: its files have changed since the run began; start again")
        return backbone

    @cached_property
    def trunk(self) -> Trunk | ImageTrunk:
        """The frozen half."""
        if self.images:
            return ImageTrunk(self.backbone)
        return Trunk(
            self.backbone,
            self.cut,
            precision=self.compute.precision,
            device=self.device,
            class_blocks=self.class_blocks,
            grid=self.grid,
        )

    def keep(self) -> None:
        """Write to the disk what a later run starts from: latents still in memory, and the head."""
        if self.cache is None:
            return
        self.cache.commit()
        if self.view_cache is not None:
            self.view_cache.commit()
        if self.trunk_is_loaded and self.cache.writable:
            keep_head(self.cache.directory, self.backbone, self.cut)

    # -- stored beside a taught model -----------------------------------------------------------------

    @cached_property
    def digest(self) -> str:
        """SHA-256 of weights and normalisation, on any machine; ``traits`` has what is not in it."""
        return _digest(*backbone_state(self.backbone))

    @cached_property
    def traits(self) -> dict[str, Any]:
        """Settings that decide how weights become latents and that the weights do not show."""
        return _traits(json.loads(self.backbone.config.to_json_string(use_diff=False)))

    def store(self, directory: Path) -> None:
        """Write the weights into a directory that the caller holds, under a name made from their digest."""
        name = _file_name(self.digest)
        try:
            _, plain = load_state(directory, name=name, kind=_KIND, version=_VERSION)
            stored = _traits(plain["config"]) == self.traits
        except (RunError, LookupError, AttributeError):  # missing or damaged
            stored = False
        if not stored:
            write_state(directory, *backbone_state(self.backbone), name=name, kind=_KIND, version=_VERSION)

    @classmethod
    def restore(
        cls, directory: Path, digest: str, name: str, *, cut: int, compute: Compute, **kept: Any
    ) -> Network:
        """The network that ``store`` wrote there.

        Raises:
            RunError: it is missing, damaged or another one. BackboneError: it cannot be used.
        """
        tensors, plain = load_state(directory, name=_file_name(digest), kind=_KIND, version=_VERSION)
        if _digest(tensors, plain) != digest:
            raise RunError(
                f"{directory} holds another network than its classifier names: use another copy of it"
            )
        return cls(backbone_from_state(name, tensors, plain), cut=cut, compute=compute, **kept)

    @staticmethod
    def discard(directory: Path, *, keep: str | None) -> None:
        """Remove stored networks but the one with that digest."""
        for file in directory.glob(f"backbone-{'[0-9a-f]' * 16}.safetensors"):
            if keep is None or file.stem != _file_name(keep):
                with suppress(OSError):
                    file.unlink()


def _digest(tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> str:
    return checksum(tensors, json.dumps(plain["normalisation"], sort_keys=True))


def _traits(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in _TRAITS if name in config}


def _file_name(digest: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):  # it becomes part of a path
        raise RunError(f"a saved classifier names its network {digest[:80]!r}, which is not a SHA-256")
    return f"backbone-{digest[:16]}"


def latents_root(setting: str | bool) -> Path | None:
    """The directory that ``backbone.cache`` names: ``auto`` for the user's, ``off`` for none."""
    if setting == "off":
        return None
    return cache_root() / "latents" if setting == "auto" else Path(str(setting)).expanduser()


def _check_root(root: Path, setting: str | bool) -> None:
    """Raise RunError if a directory that the user chose cannot be made. One that may not be written or read, such as
    another user's, ends in a note: what it holds may be of use."""
    if setting == "auto":
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"backbone.cache: {root} cannot be made: {error.strerror}; choose another") from None


def _blocks_within(most: int, num_bytes: int, width: int, blocks: int) -> int:
    """How many blocks' class tokens, joined, have a covariance within the bound: 4 W (W + 1) bytes for W = K D."""
    kept = min(most, blocks)
    while kept > 1 and 4 * kept * width * (kept * width + 1) > num_bytes:
        kept -= 1
    return kept


def _identity(config: BackboneConfig, compute: Compute, memo: Path | None, **kept: Any) -> dict[str, Any]:
    return trunk_identity(
        config.name,
        blocks=config.blocks,
        image_size=config.image_size,
        cut=config.cut,
        precision=compute.precision,
        batch_size=config.batch_size,
        device=compute.device,
        memo=memo,
        **kept,
    )
