"""How it learns: from latents and labels, knowing neither images nor data sets."""

from vitlr.learning.learner import GradientLearner, LearnStats
from vitlr.learning.method import Method, Step
from vitlr.learning.methods import CLOSED_FORM, METHODS
from vitlr.learning.registry import Learner, new_learner
from vitlr.learning.settings import LearnerConfig

__all__ = [
    "CLOSED_FORM",
    "METHODS",
    "GradientLearner",
    "LearnStats",
    "Learner",
    "LearnerConfig",
    "Method",
    "Step",
    "new_learner",
]
