"""From settings to a learner."""

from __future__ import annotations

import numpy as np

from vitlr.learning.gradient import GradientLearner
from vitlr.learning.learner import Head, Learner
from vitlr.learning.methods import CLOSED_FORM, check_method
from vitlr.learning.settings import LearnerConfig
from vitlr.replay.memory import MemoryConfig

__all__ = ["new_learner"]


def new_learner(head: Head, config: LearnerConfig, memory: MemoryConfig, rng: np.random.Generator) -> Learner:
    """The learner that ``config.method`` names; those in closed form keep no replay memory.

    Raises:
        ConfigError: there is no such method, or a setting contradicts it.
    """
    check_method(config)
    if config.method in CLOSED_FORM:
        learner: Learner = CLOSED_FORM[config.method].from_config(head, config, rng)
        return learner
    return GradientLearner(head, config, memory, rng)
