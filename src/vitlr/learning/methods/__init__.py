"""Every method: a file here, and a line below.

A gradient method's file has a ``METHOD`` that the one training loop reads (``learning.method``). A method in
closed form's has a ``from_config`` that makes a learner of its own, and is imported when it is asked for.
"""

from __future__ import annotations

import difflib

from vitlr.errors import ConfigError
from vitlr.learning.method import Method
from vitlr.learning.methods import (
    ar1,
    ar1_replay,
    ar1free,
    cumulative,
    cwr,
    der,
    latent_replay,
    naive,
    native,
)

__all__ = ["CLOSED_FORM", "METHODS", "keeps_images", "method_named"]

METHODS: dict[str, Method] = {
    file.METHOD.name: file.METHOD
    for file in (
        latent_replay,
        ar1free,
        ar1_replay,
        native,
        ar1,
        cwr,
        der,
        naive,
        cumulative,
    )
}

# On the features of a head that is never trained.
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
