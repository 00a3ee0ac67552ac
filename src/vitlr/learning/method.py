"""What a gradient method is: a few choices that the one training loop reads, and a hook into it.

A method is one row of the table in ``learning.methods``. Its hook says what the loss of a mini-batch is and may keep
state of its own, such as the importances of Synaptic Intelligence, which the loop saves, restores and rolls back
without knowing what it is.

Shapes: B mini-batch, R of them replayed, C class indices known so far, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from vitlr.errors import RunError
from vitlr.learning.learner import Head
from vitlr.learning.settings import LearnerConfig

__all__ = ["Hook", "HookState", "Method", "Step", "Student"]

HookState = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Student:
    """What a hook may look at when an experience begins.

    Attributes:
        head: about to be trained. blocks: its parameters that are trained in this experience, by name.
        before: the same head as it was learned so far; never trained.
        classifier_CD: weights that predict so far; rows of unknown classes are zero.
        known_C: class indices learned so far.
        device: of all of these.
    """

    head: Head
    blocks: dict[str, nn.Parameter]
    before: Head
    classifier_CD: Tensor
    known_C: Tensor


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a mini-batch's loss may depend on.

    Attributes:
        tokens_BTD: tokens at the cut; those of replayed latents come last.
        logits_BC: of the classifier in training, -inf for classes never seen.
        labels_B: int64 class indices.
        num_replayed: R.
        stored_RC: logits that were kept with the replayed latents, for a method that keeps them: perhaps fewer classes
            than now, -inf for classes unknown then.
    """

    tokens_BTD: Tensor
    logits_BC: Tensor
    labels_B: Tensor
    num_replayed: int
    stored_RC: Tensor | None = None


class Hook:
    """A method's part in the training of one experience; a new one is made for each. This one adds nothing.

    State is tensors by name: ``begin`` gets what the last experience's ``end`` returned, {} in the first.
    """

    def __init__(self, config: LearnerConfig) -> None:
        self.config = config

    def begin(self, student: Student, state: HookState) -> None:
        """Called before the first step."""

    def loss(self, step: Step) -> Tensor:
        """A scalar to differentiate: by default the mean cross-entropy over all latents of the mini-batch, new and
        replayed alike (Pellegrini et al. 2020, section III)."""
        return functional.cross_entropy(step.logits_BC, step.labels_B)

    def around_step(self) -> AbstractContextManager[None]:
        """Entered when the gradients are there, left when the optimizer has stepped."""
        return nullcontext()

    def end(self) -> HookState:
        """Called after the last step; returns the state for the next experience."""
        return {}

    def check(self, state: HookState, blocks: dict[str, nn.Parameter]) -> None:
        """Raise RunError unless a saved state is one of this hook for these parameters."""
        if state:
            raise RunError("the saved state has parts of another method; use the settings it began with")


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a gradient method does, in terms of the training loop.

    Attributes:
        name: as ``learner.method`` takes it.
        summary: one line for the user, with the source.
        replay: ``memory`` mixes the bounded memory into each mini-batch; ``all`` trains on everything seen
            so far; ``none`` on the new latents alone.
        consolidate: keep the classifier by CWR*; otherwise it is a plain linear layer.
        hook: makes the hook of an experience.
        train_blocks: ``always``, or in the ``first`` experience only.
        synaptic_intelligence: True needs lambda > 0 and False lambda = 0 to be what its name says; None
            leaves it to the user.
        keep_logits: the memory keeps logits too, for the loss to read.
        images: what is learned and kept are images, and the head is the whole network (native replay).
        feature_norm: features are scaled by one constant, so that those of the untrained final norm have about this
            length: a learning rate then means the same for every backbone. None leaves them as they are.
        least_steps, least_passes: of one experience; epochs are added until there are as many steps, or as many latents
            have gone through the head.
        gradient_norm: a longer gradient is shortened to this length (Pascanu, Mikolov & Bengio, ICML 2013): no single
            experience can throw the weights far away.
    """

    name: str
    summary: str
    replay: str
    consolidate: bool
    hook: Callable[[LearnerConfig], Hook] = Hook
    train_blocks: str = "always"
    synaptic_intelligence: bool | None = None
    keep_logits: bool = False
    images: bool = False
    feature_norm: float | None = None
    least_steps: int = 0
    least_passes: int = 0
    gradient_norm: float | None = None
