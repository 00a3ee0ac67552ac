"""A loaded network as tensors and plain data, and back: what a saved classifier carries with it.

So a classifier saved on one machine works on another that has neither the network's directory nor the hub.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from vitlr.errors import BackboneError
from vitlr.vit.backbone import Backbone
from vitlr.vit.cut import Precision
from vitlr.vit.families import family_of
from vitlr.vit.inspection import check_config
from vitlr.vit.source import Normalisation

__all__ = ["backbone_from_state", "backbone_state"]


def backbone_state(
    backbone: Backbone, cut: int, precision: Precision
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights, and plain data that JSON can hold, of the network as it is (blocks kept, image size set).

    What a trunk of that cut and precision reads is stored in that precision: in bfloat16 the trunk's weights
    take half the bytes and come back as the trunk has them, bit by bit. The rest stays float32.
    """
    family = backbone.family
    frozen = (f"{family.embeddings_at}.", *(f"{family.blocks_at}.{number}." for number in range(cut)))
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    tensors = {
        key: value.detach().to(dtype if key.startswith(frozen) else torch.float32)
        for key, value in backbone.model.state_dict().items()
    }
    config = json.loads(backbone.config.to_json_string(use_diff=False))
    config.pop("_name_or_path", None)  # a path of this machine
    return tensors, {"config": config, "normalisation": asdict(backbone.normalisation)}


def backbone_from_state(name: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> Backbone:
    """The network that ``backbone_state`` described, in float32, with all its weights or not at all.

    Raises:
        BackboneError: weights and configuration do not fit each other.
    """
    import transformers

    try:
        settings = plain["config"]
        family = family_of(str(settings.get("model_type")), name)
        check_config(name, family, settings, tensors=len(tensors))  # before any block is made
        model_class = getattr(transformers, family.model_class)
        config = model_class.config_class.from_dict(settings)
        config._attn_implementation = "sdpa"
        with torch.device("meta"):  # no weights are drawn: all of them are set below
            model = model_class(config, **family.model_options)
        model.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
        numbers = plain["normalisation"]
        mean, std = tuple(map(float, numbers["mean"])), tuple(map(float, numbers["std"]))
        normalisation = Normalisation(
            mean=mean,  # type: ignore[arg-type]  # the length is checked there
            std=std,  # type: ignore[arg-type]
            rescale_factor=float(numbers["rescale_factor"]),
            resample=int(numbers["resample"]),
        )
    except (
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        ValueError,
        ArithmeticError,
        LookupError,
    ) as error:
        if isinstance(error, BackboneError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(f"{name}: the stored network cannot be used: {reason}") from error
    model = model.eval().requires_grad_(False)
    return Backbone(name=name, family=family, model=model, normalisation=normalisation, source=None)
