"""How it learns: from latents and labels, knowing neither images nor data sets."""

from vitlr.learning.gradient import GradientLearner
from vitlr.learning.learner import Learner, LearnStats, LinearModel
from vitlr.learning.method import Hook, Method, Step, Student
from vitlr.learning.methods import CLOSED_FORM, COMPOSED, METHODS, check_method
from vitlr.learning.registry import Needs, needs_of, new_learner
from vitlr.learning.settings import LearnerConfig

__all__ = [
    "CLOSED_FORM",
    "COMPOSED",
    "METHODS",
    "GradientLearner",
    "Hook",
    "LearnStats",
    "Learner",
    "LearnerConfig",
    "LinearModel",
    "Method",
    "Needs",
    "Step",
    "Student",
    "check_method",
    "needs_of",
    "new_learner",
]
