"""From a method's name to a learner.

A new method is one file and one line in ``learning/methods``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from vitlr.learning.learner import GradientLearner, Head, LearnStats
from vitlr.learning.methods import CLOSED_FORM
from vitlr.learning.settings import LearnerConfig
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


def new_learner(head: Head, config: LearnerConfig, memory: MemoryConfig, rng: np.random.Generator) -> Learner:
    """The learner that ``config.method`` names; those in closed form keep no replay memory."""
    if config.method in CLOSED_FORM:
        learner: Learner = import_module(f"vitlr.learning.methods.{config.method}").from_config(
            head, config, rng
        )
        return learner
    return GradientLearner(head, config, memory, rng)
