"""The methods that the one training loop runs, as data.

A gradient method is four choices: what is replayed, how the classifier is kept, when the head's blocks
are trained, and whether Synaptic Intelligence holds them. A new one of that kind is one line below.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitlr.errors import ConfigError

__all__ = ["METHODS", "Method", "method_named"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method does, in terms of the training loop.

    Attributes:
        summary: one line for the user, with the source.
        replay: ``memory`` mixes the bounded memory into each mini-batch; ``all`` trains on everything seen
            so far; ``none`` on the new latents alone.
        consolidate: keep the classifier by CWR*; otherwise it is a plain linear layer.
        train_blocks: ``always``, or in the ``first`` experience only.
        synaptic_intelligence: this method is the one without replay that needs lambda > 0 to be itself.
    """

    name: str
    summary: str
    replay: str
    consolidate: bool
    train_blocks: str = "always"
    synaptic_intelligence: bool = False


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="latent_replay",
            summary="latent replay with CWR* (AR1*free; Pellegrini et al. 2020); AR1* with lambda > 0",
            replay="memory",
            consolidate=True,
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


def method_named(name: str) -> Method:
    """The method of that name; ConfigError lists the known ones."""
    if name not in METHODS:
        raise ConfigError(f"learner.method must be one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]
