"""How it learns: from latents and labels, knowing neither images nor data sets."""

from vitlr.learning.learner import GradientLearner, LearnerConfig, LearnStats
from vitlr.learning.methods import METHODS, Method

__all__ = ["METHODS", "GradientLearner", "LearnStats", "LearnerConfig", "Method"]
