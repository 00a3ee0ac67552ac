"""A pretrained vision transformer, loaded completely or refused.

A loaded network is never changed: :func:`vitlr.vit.split` copies the parts that are trained.

Shapes: T tokens (class and other prefix tokens, then patches), D width, L blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitlr.errors import BackboneError
from vitlr.vit.families import FAMILIES, Family, family_of
from vitlr.vit.inspection import check_directory
from vitlr.vit.source import Normalisation, find_directory, read_json, read_normalisation

__all__ = ["SHAPES", "Backbone", "load_backbone", "quiet_transformers", "random_backbone"]

# Width, blocks, heads and patch size of the published sizes, for networks with random weights.
_SIZES = {"Ti": (192, 12, 3), "S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16)}
SHAPES = {f"{letter}_{patch}": (*size, patch) for letter, size in _SIZES.items() for patch in (16, 32)}

# Weights in a checkpoint that trunk and head do not use: heads of other tasks, pooler, mask token.
_UNUSED = re.compile(r"(^|\.)((cls_|distillation_)?classifier|pooler|mask_token|decoder)(\.|$)")


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A transformers base model without pooler, in eval mode and never trained, with its image normalisation."""

    name: str
    family: Family
    model: nn.Module
    normalisation: Normalisation
    source: Path | None  # None: random weights

    @property
    def config(self) -> Any:
        """The model's transformers configuration, true for the blocks kept and the image size set."""
        return self.model.config

    @property
    def width(self) -> int:
        """D, numbers a token."""
        return self.config.hidden_size

    @property
    def num_blocks(self) -> int:
        """L, blocks kept."""
        return len(self.family.blocks(self.model))

    @property
    def heads(self) -> int:
        """Attention heads a block."""
        return self.config.num_attention_heads

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return _side(self.config.patch_size, "patch_size", self.name)

    @property
    def image_size(self) -> int:
        """Side of the square images it reads, in pixels."""
        return _side(self.config.image_size, "image_size", self.name)

    @property
    def tokens(self) -> int:
        """T, tokens an image: prefix tokens and patches."""
        return self.family.prefix_tokens(self.config) + (self.image_size // self.patch_size) ** 2

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean of each colour, after rescaling."""
        return self.normalisation.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """Standard deviation of each colour, after rescaling."""
        return self.normalisation.std

    @property
    def rescale_factor(self) -> float:
        """Factor that a uint8 pixel is multiplied by first, nearly always 1/255."""
        return self.normalisation.rescale_factor

    @property
    def resample(self) -> int:
        """Pillow's number of the resampling filter that images are resized with."""
        return self.normalisation.resample


def load_backbone(
    name: str | Path,
    *,
    blocks: int | None = None,
    image_size: int | None = None,
    revision: str | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> Backbone:
    """Load a pretrained network from a directory or by name, with all its weights or not at all.

    Args:
        name: a directory in Hugging Face format; a name of the Hugging Face hub; B_16, B_32, L_16 or L_32,
            alone or followed by _imagenet1k; ``bundled``; or ``random:`` and a key of ``SHAPES`` (random
            weights, seed 0).
        blocks: how many of the first blocks to keep, all by default; the final norm stays.
        image_size: side of the square images to read, the checkpoint's own by default; positions are resized once,
            as transformers would do in every call.
        revision: branch, tag or commit on the hub.
        mean, std: normalisation that replaces the one in ``preprocessor_config.json``.

    Raises:
        BackboneError: not found, damaged, incomplete, of an unsupported kind, or an argument out of range.
    """
    name = str(name)
    if name.startswith("random:"):
        return random_backbone(name, blocks=blocks, image_size=image_size)
    directory = find_directory(name, revision)
    config = read_json(directory / "config.json")
    family = family_of(str(config.get("model_type")), name)
    with quiet_transformers():
        check_directory(directory, family, config)
    normalisation = read_normalisation(directory, default_resample=family.resample, mean=mean, std=std)
    model = _read_model(family, directory, name)
    backbone = Backbone(name=name, family=family, model=model, normalisation=normalisation, source=directory)
    if blocks is not None:
        _keep_blocks(backbone, blocks)
    _set_image_size(backbone, image_size if image_size is not None else backbone.image_size)
    model.requires_grad_(False)
    return backbone


def random_backbone(
    shape: str,
    *,
    blocks: int | None = None,
    image_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Backbone:
    """A ViT with random weights, for measuring speed; normalisation 0.5.

    Args:
        shape: a key of ``SHAPES`` such as ``B_32``, alone or after ``random:``.
        blocks: number of blocks, the shape's own by default.
        image_size: side of the square images, 224 by default.
        generator: source of the weights; one seeded with 0 by default.

    Raises:
        BackboneError: no such shape, or an argument out of range.
    """
    key = shape.removeprefix("random:")
    if key not in SHAPES:
        raise BackboneError(f"there is no random network {shape!r}: choose one of {', '.join(SHAPES)}")
    width, num_blocks, heads, patch = SHAPES[key]
    image_size = image_size if image_size is not None else 224
    _check_blocks(blocks, num_blocks, shape)
    _check_image_size(image_size, patch, shape)
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=blocks or num_blocks,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        patch_size=patch,
        image_size=image_size,
    )
    with torch.device("meta"):  # transformers would draw weights from the global random state
        model = ViTModel(config, add_pooling_layer=False)
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    for parameter_name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=config.initializer_range, generator=generator)
        else:  # norms start as the identity, biases at zero
            parameter.fill_(float("norm" in parameter_name and parameter_name.endswith("weight")))
    half = (0.5, 0.5, 0.5)
    return Backbone(
        name=f"random:{key}",
        family=FAMILIES["vit"],
        model=model,
        normalisation=Normalisation(mean=half, std=half),
        source=None,
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' warnings and progress bars inside; restore its settings afterwards."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _read_model(family: Family, directory: Path, name: str) -> nn.Module:
    """The base model with every weight from safetensors files. Transformers itself draws missing weights at random."""
    import transformers

    try:
        with quiet_transformers():
            model, report = getattr(transformers, family.model_class).from_pretrained(
                directory,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                attn_implementation="sdpa",
                ignore_mismatched_sizes=True,  # so that all of them come into the one report below
                output_loading_info=True,
                **family.model_options,
            )
    except Exception as error:  # damaged files raise errors of several libraries
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"{name}: config.json or weights in {directory} cannot be read: {reason}"
        ) from error
    problems = {
        "missing": [key for key in report["missing_keys"] if not _UNUSED.search(key)],
        "unexpected": [key for key in report["unexpected_keys"] if not _UNUSED.search(key)],
        "of another shape": [
            f"{key} {tuple(shape)} instead of {tuple(wanted)}"
            for key, shape, wanted in report["mismatched_keys"]
        ],
    }
    found = "; ".join(f"{what}: {_some(keys)}" for what, keys in problems.items() if keys)
    if found:
        raise BackboneError(f"{name}: the weights in {directory} do not fit its config.json; {found}")
    return model.eval()


def _some(names: Iterable[str], most: int = 10) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def _keep_blocks(backbone: Backbone, blocks: int) -> None:
    _check_blocks(blocks, backbone.num_blocks, backbone.name)
    del backbone.family.blocks(backbone.model)[blocks:]
    config = backbone.config
    config.num_hidden_layers = blocks
    if hasattr(config, "stage_names"):  # DINOv2's configuration also lists its blocks by name
        config.stage_names = ["stem", *(f"stage{block + 1}" for block in range(blocks))]
        config.set_output_features_output_indices(out_features=None, out_indices=None)


def _set_image_size(backbone: Backbone, image_size: int) -> None:
    """Resize the positions with the family's own function; set the new size wherever transformers reads it."""
    _check_image_size(image_size, backbone.patch_size, backbone.name)
    embeddings: Any = backbone.family.embeddings(backbone.model)
    grid = (image_size, image_size)
    num_patches = (image_size // backbone.patch_size) ** 2
    old_positions = embeddings.position_embeddings
    if (old_positions.shape[1] - backbone.family.positioned_tokens) != num_patches:
        # It reads only the number of tokens, not the tokens.
        tokens = old_positions.new_empty(1, backbone.family.positioned_tokens + num_patches, backbone.width)
        with torch.no_grad():
            positions = embeddings.interpolate_pos_encoding(tokens, *grid)
        embeddings.position_embeddings = nn.Parameter(positions.contiguous())
    embeddings.patch_embeddings.image_size = grid
    embeddings.patch_embeddings.num_patches = num_patches
    if hasattr(embeddings, "image_size"):
        embeddings.image_size = grid
    backbone.config.image_size = image_size


def _check_blocks(blocks: int | None, num_blocks: int, name: str) -> None:
    if blocks is not None and not 1 <= blocks <= num_blocks:
        raise BackboneError(f"{name}: blocks must be from 1 to {num_blocks}, got {blocks}")


def _check_image_size(image_size: int, patch: int, name: str) -> None:
    if image_size < patch or image_size % patch:
        below = max(image_size // patch, 1) * patch
        raise BackboneError(
            f"{name}: image_size must be a multiple of the patch size {patch}, got {image_size}; "
            f"the nearest are {below} and {below + patch}"
        )


def _side(size: int | Iterable[int], what: str, name: str) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise BackboneError(f"{name}: {what} {sorted(sides)} is not square, which is not supported")
    return sides.pop()
