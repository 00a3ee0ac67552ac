"""From settings to a learner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitlr.learning.gradient import GradientLearner
from vitlr.learning.learner import Head, Learner
from vitlr.learning.methods import CLOSED_FORM, check_method, keeps_images
from vitlr.learning.methods.complementary import Complementary
from vitlr.learning.settings import LearnerConfig
from vitlr.replay.memory import MemoryConfig, parse_bytes

__all__ = ["Needs", "needs_of", "new_learner"]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a method needs of the latents it learns.

    Attributes:
        class_tokens: number of the last blocks whose class tokens are kept, at most.
        statistics_bytes: bound on the sums over them, which may make that number smaller.
        views: random views of an image, at most. view_budget: of one experience.
        images: images in place of latents (native replay).
    """

    class_tokens: int = 0
    statistics_bytes: int = 0
    views: int = 0
    view_budget: int = 0
    images: bool = False


def needs_of(config: LearnerConfig) -> Needs:
    """What the method that ``config.method`` names needs."""
    if config.method == "complementary":
        return Needs(
            class_tokens=config.class_tokens,
            statistics_bytes=parse_bytes(config.statistics_bytes),
            views=config.views,
            view_budget=config.view_budget,
        )
    return Needs(images=keeps_images(config.method))


def new_learner(
    head: Head,
    config: LearnerConfig,
    memory: MemoryConfig,
    rng: np.random.Generator,
    class_tokens: int = 0,
) -> Learner:
    """The learner that ``config.method`` names; those in closed form keep no replay memory.

    Args:
        class_tokens: that each latent brings; see ``learning.needs``.

    Raises:
        ConfigError: there is no such method, or a setting contradicts it.
    """
    check_method(config)
    if config.method == "complementary":
        return Complementary(head, config, memory, class_tokens, rng)
    if config.method in CLOSED_FORM:
        learner: Learner = CLOSED_FORM[config.method].from_config(head, config, rng)
        return learner
    return GradientLearner(head, config, memory, rng)
