"""Inspect a network directory before anything is built from it.

Transformers follows whatever ``config.json`` and the weights' index say: files outside the directory, adapters
of other networks, layers and widths that no memory can hold. Here these claims are compared with the weights that
are actually present, whose headers are cheap to read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from vitlr.errors import BackboneError
from vitlr.storage.reading import header_excess
from vitlr.vit.families import Family
from vitlr.vit.source import read_json

__all__ = ["check_config", "check_directory"]

_SHARD = re.compile(r"[\w-][\w.-]*\.safetensors", re.ASCII)
_LARGEST = 2**20  # of any size in a configuration
_SLACK = (
    2**20
)  # numbers that the weights may lack, such as a mask token, before the missing are listed by name
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_channels")
# Settings that make transformers read files, or kinds of weights, other than those beside them.
_REFUSED = ("quantization_config", "transformers_weights", "compression_config")


def check_directory(directory: Path, family: Family, config: Mapping[str, Any]) -> None:
    """Refuse a directory that refers to files elsewhere, or whose configuration asks for more than its weights.

    Raises:
        BackboneError: names the fault.
    """
    if (directory / "adapter_config.json").exists():
        raise BackboneError(f"{directory} holds an adapter for another network: merge it and give the result")
    counts = [_numbers_in(path) for path in _weight_files(directory)]
    check_config(str(directory), family, config, tensors=sum(number for number, _ in counts))
    wanted = _parameters(family, config, str(directory))
    stored = sum(numbers for _, numbers in counts)
    if wanted > stored + _SLACK:
        raise BackboneError(
            f"{directory}: config.json describes a network of {wanted:,} weights, its files hold {stored:,}"
        )


def check_config(name: str, family: Family, config: Mapping[str, Any], *, tensors: int) -> None:
    """Refuse sizes that no network of this kind can have, before modules are made; BackboneError names them.

    ``tensors`` is the number of tensors in the weights, an upper bound for the number of blocks.
    """
    for key in _REFUSED:
        if config.get(key) is not None:
            raise BackboneError(
                f"{name}: config.json has {key}, which is not supported: remove it, or convert"
            )
    for key in _SIZES:
        value = config.get(key, 1)
        if not (type(value) is int and 1 <= value <= _LARGEST):
            raise BackboneError(f"{name}: {key} must be a whole number >= 1, got {value!r:.40}")
    for key, value in config.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BackboneError(f"{name}: {key} must be a finite number, got {value}")
    epsilon = config.get("layer_norm_eps", 0.0)
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 <= epsilon <= 1:
        raise BackboneError(f"{name}: layer_norm_eps must be a number from 0 to 1, got {epsilon!r:.40}")
    if config.get("num_channels", 3) != 3:
        raise BackboneError(f"{name} reads images of {config['num_channels']} channels: 3 are supported")
    if config.get("num_hidden_layers", 1) > tensors:
        raise BackboneError(
            f"{name}: the weights are not those of its configuration: it asks for more blocks"
        )
    heads, width = config.get("num_attention_heads", 1), config.get("hidden_size", 1)
    if "hidden_size" in config and width % heads:
        raise BackboneError(f"{name}: width {width} cannot be shared among {heads} attention heads")


def _weight_files(directory: Path) -> list[Path]:
    """``model.safetensors``, or what the index names: files of this directory and no others."""
    if (directory / "model.safetensors").is_file():
        return [directory / "model.safetensors"]
    index = directory / "model.safetensors.index.json"
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise BackboneError(f"{index} has no weight_map: it is not an index of weights")
    names = set(map(str, places.values()))
    for name in sorted(names):
        if not _SHARD.fullmatch(name):
            raise BackboneError(f"{index} names {name[:80]!r}, which is not a safetensors file beside it")
        if not (directory / name).is_file():
            raise BackboneError(f"{directory} has no {name}, which its index names: download it again")
    return [directory / name for name in sorted(names)]


def _numbers_in(path: Path) -> tuple[int, int]:
    """Tensors in a file, and numbers in all of them."""
    try:
        if above := header_excess(path):
            raise BackboneError(f"{path} is damaged: its header claims {above}; download it again")
        with safe_open(path, framework="pt") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    except OSError as error:
        raise BackboneError(
            f"{path} cannot be read ({error.strerror or error}): check that it is there and its permissions"
        ) from None
    except SafetensorError as error:
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"{path} cannot be read: it is damaged or not a safetensors file ({reason})"
        ) from error
    return len(shapes), sum(torch.Size(shape).numel() for shape in shapes)


def _parameters(family: Family, config: Mapping[str, Any], name: str) -> int:
    """Number of weights in the network that the configuration describes, counted without allocating them."""
    import transformers

    try:
        model_class = getattr(transformers, family.model_class)
        with torch.device("meta"):
            model = model_class(model_class.config_class.from_dict(dict(config)), **family.model_options)
    except Exception as error:  # transformers may raise anything here
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BackboneError(f"{name}: config.json cannot be used: {reason}") from error
    return sum(parameter.numel() for parameter in model.parameters())
