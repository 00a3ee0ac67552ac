"""From a method's name to a learner. A new method in closed form is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from vitlr.learning.class_mean import NearestClassMean
from vitlr.learning.learner import GradientLearner, Head, LearnerConfig, LearnStats
from vitlr.learning.ranpac import RanPAC, RanPACConfig
from vitlr.learning.slda import SLDA
from vitlr.replay.memory import MemoryConfig

__all__ = ["Learner", "new_learner"]

# Wide enough for a few points over fewer, narrow enough to be solved again after each of 391 experiences.
RANPAC_WIDTH = 1000


class Learner(Protocol):
    """What every method offers."""

    @property
    def known_C(self) -> Tensor: ...

    def learn(self, latents_NTD: Tensor, labels_N: np.ndarray, experience: int) -> LearnStats: ...

    def logits(self, latents_NTD: Tensor) -> Tensor: ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None: ...


_CLOSED_FORM: dict[str, Callable[[Head, np.random.Generator], Learner]] = {
    "class_mean": lambda head, rng: NearestClassMean(head),
    "slda": lambda head, rng: SLDA(head),
    "ranpac": lambda head, rng: RanPAC(head, RanPACConfig(width=RANPAC_WIDTH), rng),
}


def new_learner(head: Head, config: LearnerConfig, memory: MemoryConfig, rng: np.random.Generator) -> Learner:
    """The learner that ``config.method`` names; those in closed form keep no replay memory."""
    if config.method in _CLOSED_FORM:
        return _CLOSED_FORM[config.method](head, rng)
    return GradientLearner(head, config, memory, rng)
