"""What every method is to the rest of the program: one protocol, for trained and closed-form methods alike.

A learner is a value: ``learn``, ``forget`` and ``load_state`` replace what it knows in one assignment and never change
it in place. A shallow copy (``copy.copy``) therefore keeps answering from the state it was copied in, and whatever is
raised, an interrupt too, leaves the learner as it was.

Shapes: N latents, C class indices known so far, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vitlr.latents.record import Latents

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "COSINE_THRESHOLD",
    "UNSEEN",
    "Head",
    "LearnStats",
    "Learner",
    "LinearModel",
    "check_pairs",
    "device_of",
]

UNSEEN = float("-inf")  # logit of a class that has never been seen
COSINE_THRESHOLD = 0.2  # of scores that are cosines


@dataclass(frozen=True, kw_only=True)
class LearnStats:
    """What learning one experience did.

    Attributes:
        num_new: latents of the experience.
        num_replayed: latents drawn from the memory, each time counted.
        steps: of the optimizer; 1 for a method in closed form.
        loss, accuracy: means over the latents, new and replayed, of the last epoch, each taken before the step it led
            to; accuracy is 0..1. Of a method in closed form: over the new latents, after learning them.
        head_passes: latents that went through the head.
        backward: if the head's blocks were trained, so that each pass went back as well.
        gradients: for each trained parameter, mean and largest absolute gradient of the last step.
    """

    num_new: int
    num_replayed: int
    steps: int
    loss: float
    accuracy: float
    head_passes: int = 0
    backward: bool = False
    gradients: dict[str, tuple[float, float]] = field(default_factory=dict)


class LinearModel(NamedTuple):
    """A learner as a network: a head, and a linear classifier on its features, logits = features W' + b.

    With ``tokens_CW``, float64, also on the class tokens of the last frozen blocks, normalised and joined
    (``learning.statistics.joined``), whose products are added.
    """

    head: Head
    weight_CD: Tensor
    bias_C: Tensor | None
    tokens_CW: Tensor | None = None

    @property
    def beyond_transformers(self) -> str:
        """What an image classifier of transformers does not have of it, in words; empty if it is one."""
        if self.tokens_CW is not None:
            return "two memories"
        return "merged tokens" if getattr(self.head, "grid", None) is not None else ""


class Learner(Protocol):
    """A method with what it has learned. Class indices are numbers from 0, in any order, with or without gaps.

    ``remains`` names what ``forget`` cannot remove, for the user; empty if nothing of a class is left. ``threshold`` is
    the score below which an image is of nothing that was taught, unless another one is given.
    """

    remains: str
    threshold: float

    @property
    def head(self) -> Head:
        """From tokens at the cut to features, as learned so far; not to be changed."""

    @property
    def known_C(self) -> Tensor:
        """(C,) bool: class indices that have been learned and not forgotten."""

    @property
    def num_bytes(self) -> int:
        """Bytes of what is remembered of the stream: latents in memory, or sums; weights are not counted."""

    @property
    def capacity(self) -> int | None:
        """Latents kept at most; None for a method that keeps none, or without a bound."""

    def counts(self) -> dict[int, int]:
        """Latents in the replay memory, by class index; empty for a method that keeps none."""

    def learn(self, latents: Latents, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn one experience of N >= 1 latents with class indices (N,).

        Raises:
            ValueError: no latents, or latents and labels of different length.
            RunError: what was learned, or would be, is not finite.
        """

    def answer(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """(N, C) logits and (N,) scores, both float32 on the host.

        Logits of class indices that are not known are -inf. A score, -1..1, says how much a latent looks like the
        nearest known class, whatever the others are: a cosine to that class's row or mean, or a share of taught images
        that would score less.
        """

    def logits(self, latents: Latents) -> Tensor:
        """The logits of ``answer``."""

    def forget(self, label: int) -> int:
        """Remove a class: its row, mean, count and latents. Returns how many latents there were."""

    def regroup(self, index_C: np.ndarray) -> None:
        """Give class i the number ``index_C[i]``, int64; classes that are given the same number become one."""

    def merge(self, other: Self) -> None:
        """Take in what another learner of the same method, settings and network learned, with the same class numbers.

        Raises:
            ConfigError: nothing is kept that could be merged, or it was projected at random in another way.
            RunError: what was learned would not be finite.
        """

    def linear_model(self) -> LinearModel | None:
        """The learner as head and linear classifier, for export; None for a method that is no linear map."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that later learning depends on: tensors, and plain data that JSON can hold."""

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue exactly where the learner whose ``state`` this is stood (same head, same settings).

        Raises:
            RunError: the state belongs to another head or settings, or its parts do not fit each other.
        """


class Head(Protocol):
    """What a learner needs of a head: width, parameters, and features (B, D) of tokens at the cut (B, T, D)."""

    width: int

    def __call__(self, tokens_BTD: Tensor) -> Tensor: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


def device_of(head: Head) -> torch.device:
    """The device of the head's weights."""
    return next((weight.device for _, weight in head.named_parameters()), torch.device("cpu"))


def check_pairs(latents: Latents, labels_N: np.ndarray) -> np.ndarray:
    """The labels as int64. Raises ValueError unless there is one for each latent, and at least one."""
    labels_N = np.asarray(labels_N, dtype=np.int64)
    if len(labels_N) == 0 or len(latents) != len(labels_N):
        raise ValueError(
            f"{len(latents)} latents and {len(labels_N)} labels: give one label each, at least one"
        )
    return labels_N
