"""How it learns: from latents and labels, knowing neither images nor data sets."""

from vitlr.learning.learner import GradientLearner, LearnerConfig, LearnStats
from vitlr.learning.methods import CLOSED_FORM, METHODS, Method
from vitlr.learning.registry import Learner, new_learner

__all__ = [
    "CLOSED_FORM",
    "METHODS",
    "GradientLearner",
    "LearnStats",
    "Learner",
    "LearnerConfig",
    "Method",
    "new_learner",
]
