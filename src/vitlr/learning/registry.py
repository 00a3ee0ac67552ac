"""From a method's name to a learner. A new method in closed form is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from vitlr.learning.class_mean import NearestClassMean
from vitlr.learning.learner import GradientLearner, Head, LearnerConfig, LearnStats
from vitlr.learning.ranpac import RanPAC, RanPACConfig
from vitlr.learning.slda import SLDA, SLDAConfig
from vitlr.replay.memory import MemoryConfig

__all__ = ["Learner", "new_learner"]


class Learner(Protocol):
    """What every method offers."""

    @property
    def known_C(self) -> Tensor: ...

    def learn(self, latents_NTD: Tensor, labels_N: np.ndarray, experience: int) -> LearnStats: ...

    def logits(self, latents_NTD: Tensor) -> Tensor: ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None: ...


_CLOSED_FORM: dict[str, Callable[[Head, LearnerConfig, np.random.Generator], Learner]] = {
    "class_mean": lambda head, config, rng: NearestClassMean(head),
    "slda": lambda head, config, rng: SLDA(head, SLDAConfig(shrinkage=config.slda_shrinkage)),
    "ranpac": lambda head, config, rng: RanPAC(
        head, RanPACConfig(width=config.ranpac_width, ridge=config.ranpac_ridge), rng
    ),
}


def new_learner(head: Head, config: LearnerConfig, memory: MemoryConfig, rng: np.random.Generator) -> Learner:
    """The learner that ``config.method`` names; those in closed form keep no replay memory."""
    if config.method in _CLOSED_FORM:
        return _CLOSED_FORM[config.method](head, config, rng)
    return GradientLearner(head, config, memory, rng)
