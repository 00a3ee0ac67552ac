"""The methods that the one training loop runs, as data.

A gradient method is a few choices: what is replayed, how the classifier is kept, when the head's blocks
are trained, and whether Synaptic Intelligence holds them. A new one of that kind is one line below.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from vitlr.errors import ConfigError

__all__ = ["CLOSED_FORM", "METHODS", "Method", "keeps_images", "method_named"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method does, in terms of the training loop.

    Attributes:
        summary: one line for the user, with the source.
        replay: ``memory`` mixes the bounded memory into each mini-batch; ``all`` trains on everything seen
            so far; ``none`` on the new latents alone.
        consolidate: keep the classifier by CWR*; otherwise it is a plain linear layer.
        train_blocks: ``always``, or in the ``first`` experience only.
        synaptic_intelligence: True needs lambda > 0 and False lambda = 0 to be what its name says; None
            leaves it to the user.
        keep_logits: the memory keeps logits too, and replayed latents should keep having them (DER++).
        images: what is learned and kept are images, and the head is the whole network (``vit.images``).
    """

    name: str
    summary: str
    replay: str
    consolidate: bool
    train_blocks: str = "always"
    synaptic_intelligence: bool | None = None
    keep_logits: bool = False
    images: bool = False


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="latent_replay",
            summary="latent replay with CWR*; ar1free or, with lambda > 0, ar1_replay under one name",
            replay="memory",
            consolidate=True,
        ),
        Method(
            name="ar1free",
            summary="AR1*free with latent replay: CWR*, no Synaptic Intelligence (Pellegrini et al. 2020)",
            replay="memory",
            consolidate=True,
            synaptic_intelligence=False,
        ),
        Method(
            name="ar1_replay",
            summary="AR1* with latent replay: CWR* and Synaptic Intelligence (Pellegrini et al. 2020)",
            replay="memory",
            consolidate=True,
            synaptic_intelligence=True,
        ),
        Method(
            name="native",
            summary="native replay: images are kept, the whole network is trained (Pellegrini et al. 2020)",
            replay="memory",
            consolidate=True,
            images=True,
        ),
        Method(
            name="ar1",
            summary="AR1*: CWR* and Synaptic Intelligence, no replay (Lomonaco et al. 2020)",
            replay="none",
            consolidate=True,
            synaptic_intelligence=True,
        ),
        Method(
            name="cwr",
            summary="CWR*: blocks trained in the first experience only, no replay (Lomonaco et al. 2020)",
            replay="none",
            consolidate=True,
            train_blocks="first",
        ),
        Method(
            name="der",
            summary="DER++: replayed latents keep their logits too (Buzzega et al. 2020); policy reservoir",
            replay="memory",
            consolidate=False,
            keep_logits=True,
        ),
        Method(
            name="naive", summary="plain fine-tuning on each experience", replay="none", consolidate=False
        ),
        Method(
            name="cumulative",
            summary="retraining on everything seen so far: the upper bound",
            replay="all",
            consolidate=False,
        ),
    )
}


# Methods in closed form on the features of a head that is never trained: each in the file of its name beside this one.
CLOSED_FORM: dict[str, str] = {
    "class_mean": "nearest class mean of frozen features",
    "slda": "streaming linear discriminant analysis (Hayes & Kanan 2020)",
    "ranpac": "random projection and ridge regression (McDonnell et al. 2023)",
}


def keeps_images(name: str) -> bool:
    """Whether the method of that name learns from images instead of latents."""
    return name in METHODS and METHODS[name].images


def method_named(name: str) -> Method:
    """The gradient method of that name; ConfigError lists all known ones."""
    if name not in METHODS:
        known = ", ".join([*METHODS, *CLOSED_FORM])
        near = difflib.get_close_matches(name, [*METHODS, *CLOSED_FORM], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"learner.method must be one of {known}, got {name!r}{hint}")
    return METHODS[name]
