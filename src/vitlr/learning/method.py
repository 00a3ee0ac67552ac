"""What a gradient method is: a few choices, and a loss, that the one training loop reads.

Each method is one file in ``learning/methods`` and one line there. What is replayed, how the classifier is kept,
when the head's blocks are trained and whether Synaptic Intelligence holds them are choices; the loss of a
mini-batch is a pure function.

Shape letters: B mini-batch, R of them replayed, C classes known so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:  # the settings are checked against the methods, which therefore cannot read them
    from vitlr.learning.settings import LearnerConfig

__all__ = ["Method", "Step", "cross_entropy"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a mini-batch's loss may depend on.

    Attributes:
        logits_BC: of the classifier in training, -inf for classes never seen.
        labels_B: int64 class indices.
        num_replayed: R, the latents from the memory; they come last.
        stored_RC: logits that were kept with those, where the method has the memory keep them: perhaps fewer
            classes than now, -inf for classes unknown then.
    """

    logits_BC: Tensor
    labels_B: Tensor
    num_replayed: int
    stored_RC: Tensor | None = None


def cross_entropy(step: Step, config: LearnerConfig) -> Tensor:
    """Mean over all latents of the mini-batch, new and replayed alike (Pellegrini et al. 2020, section III)."""
    return functional.cross_entropy(step.logits_BC, step.labels_B)


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method does, in terms of the training loop.

    Attributes:
        name: as ``learner.method`` takes it.
        summary: one line for the user, with the source.
        replay: ``memory`` mixes the bounded memory into each mini-batch; ``all`` trains on everything seen
            so far; ``none`` on the new latents alone.
        consolidate: keep the classifier by CWR*; otherwise it is a plain linear layer.
        loss: of a mini-batch, a scalar that can be differentiated.
        train_blocks: ``always``, or in the ``first`` experience only.
        synaptic_intelligence: True needs lambda > 0 and False lambda = 0 to be what its name says; None
            leaves it to the user.
        keep_logits: the memory keeps logits too, for the loss to read.
        images: what is learned and kept are images, and the head is the whole network (``vit.images``).
    """

    name: str
    summary: str
    replay: str
    consolidate: bool
    loss: Callable[[Step, LearnerConfig], Tensor] = cross_entropy
    train_blocks: str = "always"
    synaptic_intelligence: bool | None = None
    keep_logits: bool = False
    images: bool = False
