"""A loaded network as tensors and plain data, and back: what a saved classifier contains.

A classifier saved on one machine thus works on another that has neither the network's directory nor the hub.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from vitlr.errors import BackboneError
from vitlr.vit.backbone import Backbone
from vitlr.vit.families import Family, family_of
from vitlr.vit.inspection import check_config
from vitlr.vit.source import Normalisation

__all__ = ["backbone_from_state", "backbone_state", "head_state", "skeleton_from_state"]


def backbone_state(backbone: Backbone) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights, and plain data that JSON can hold, of the network as it is (blocks kept, image size set).

    They do not depend on the machine or the precision it is used in: nothing is rounded. Weights that bfloat16 holds
    exactly, such as those of a network that was published in it, are stored in it.
    """
    tensors = {
        key: _packed(value.detach().cpu().float()) for key, value in backbone.model.state_dict().items()
    }
    config = json.loads(backbone.config.to_json_string(use_diff=False))
    config.pop("_name_or_path", None)  # a path of this machine
    return tensors, {"config": config, "normalisation": asdict(backbone.normalisation)}


def _packed(weight: Tensor) -> Tensor:
    half = weight.bfloat16()
    return half if torch.equal(half.float(), weight) else weight


def head_state(backbone: Backbone, cut: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As ``backbone_state``, but of the head's weights only, in float32."""
    tensors, plain = backbone_state(backbone)
    frozen = _frozen(backbone.family, cut)
    return {key: value.float() for key, value in tensors.items() if not key.startswith(frozen)}, plain


def _frozen(family: Family, cut: int) -> tuple[str, ...]:
    """Prefixes of the names of a trunk's weights."""
    return f"{family.embeddings_at}.", *(f"{family.blocks_at}.{number}." for number in range(cut))


def skeleton_from_state(name: str, tensors: dict[str, Tensor], plain: dict[str, Any], cut: int) -> Backbone:
    """The network that ``head_state`` described, without memory for the trunk's weights: a head can be cut
    from it and everything about its shape is known, but it computes nothing.

    Raises:
        BackboneError: weights and configuration do not match.
    """
    return backbone_from_state(name, tensors, plain, without_trunk=cut)


def backbone_from_state(
    name: str, tensors: dict[str, Tensor], plain: dict[str, Any], *, without_trunk: int | None = None
) -> Backbone:
    """The network that ``backbone_state`` described, in float32, with all its weights or not at all.

    Raises:
        BackboneError: weights and configuration do not match.
    """
    import transformers

    try:
        settings = plain["config"]
        family = family_of(str(settings.get("model_type")), name)
        # Checked before any block is made. The blocks of a trunk that was left out have no weights here.
        check_config(name, family, settings, tensors=len(tensors) + (without_trunk or 0))
        model_class = getattr(transformers, family.model_class)
        config = model_class.config_class.from_dict(settings)
        config._attn_implementation = "sdpa"
        with torch.device("meta"):  # draw no weights: all of them are set below
            model = model_class(config, **family.model_options)
        weights = {key: value.float() for key, value in tensors.items()}
        if without_trunk is None:
            model.load_state_dict(weights, assign=True)
        else:
            missing, unexpected = model.load_state_dict(weights, assign=True, strict=False)
            lacking = [key for key in missing if not key.startswith(_frozen(family, without_trunk))]
            if lacking or unexpected:
                raise BackboneError(f"{name}: the stored head is not that of its configuration")
        numbers = plain["normalisation"]
        mean, std = tuple(map(float, numbers["mean"])), tuple(map(float, numbers["std"]))
        normalisation = Normalisation(
            mean=mean,  # type: ignore[arg-type]  # the length is checked there
            std=std,  # type: ignore[arg-type]
            rescale_factor=float(numbers["rescale_factor"]),
            resample=int(numbers["resample"]),
        )
    except BackboneError:
        raise
    except Exception as error:  # transformers may raise anything here
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(f"{name}: the stored network cannot be used: {reason}") from error
    model = model.eval().requires_grad_(False)
    return Backbone(name=name, family=family, model=model, normalisation=normalisation, source=None)
