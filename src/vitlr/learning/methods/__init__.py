"""Every method by its name.

A gradient method is a row of ``METHODS``: choices that the one training loop reads and, if it has a loss or state of
its own, a hook in a file here (``learning.method``). A method in closed form is a file with a class that satisfies
``learning.learner.Learner``, and a row of ``CLOSED_FORM``.

Sources: **LR** Pellegrini, Graffieti, Lomonaco & Maltoni, "Latent Replay for Real-Time Continual Learning", IROS 2020
(arXiv 1912.01100), section III. **CWR*, AR1*** Lomonaco, Maltoni & Pellegrini, "Rehearsal-Free Continual Learning over
Small Non-I.I.D. Batches", CLVision 2020 (arXiv 1907.03799), algorithm 1; ``learning.cwr``. **SI** ``learning.si``.
"""

from __future__ import annotations

import difflib
from typing import Any

from vitlr.errors import ConfigError
from vitlr.learning.method import Hook, Method
from vitlr.learning.methods.class_mean import NearestClassMean
from vitlr.learning.methods.der import DarkExperience
from vitlr.learning.methods.lwf import LearningWithoutForgetting
from vitlr.learning.methods.ranpac import RanPAC
from vitlr.learning.methods.slda import SLDA
from vitlr.learning.settings import LearnerConfig
from vitlr.learning.si import SynapticIntelligence

__all__ = ["CLOSED_FORM", "COMPOSED", "METHODS", "check_method", "hook_of", "keeps_images"]


def _table(*rows: tuple[str, str, bool, str, dict[str, Any]]) -> dict[str, Method]:
    return {
        name: Method(name=name, replay=replay, consolidate=consolidate, summary=summary, **others)
        for name, replay, consolidate, summary, others in rows
    }


# name, replay, consolidate by CWR*, summary, what else differs from the defaults
METHODS: dict[str, Method] = _table(
    ("latent_replay", "memory", True, "latent replay with CWR*; with lambda > 0 AR1* with replay (LR)", {}),
    ("ar1free", "memory", True, "AR1*free with latent replay: CWR*, no Synaptic Intelligence (LR)",
     {"synaptic_intelligence": False}),
    ("ar1_replay", "memory", True, "AR1* with latent replay: CWR* and Synaptic Intelligence (LR)",
     {"synaptic_intelligence": True}),
    ("native", "memory", True, "native replay: images are kept, the whole network is trained (LR)", {"images": True}),
    ("ar1", "none", True, "AR1*: CWR* and Synaptic Intelligence, no replay (Lomonaco et al. 2020)",
     {"synaptic_intelligence": True}),
    ("cwr", "none", True, "CWR*: blocks trained in the first experience only, no replay (Lomonaco et al. 2020)",
     {"train_blocks": "first"}),
    ("der", "memory", False, "DER++: replayed latents keep their logits too (Buzzega et al. 2020); policy reservoir",
     {"hook": DarkExperience, "keep_logits": True}),
    ("lwf", "none", False, "Learning without Forgetting: the head so far teaches its own answers (Li & Hoiem 2018)",
     {"hook": LearningWithoutForgetting}),
    ("naive", "none", False, "plain fine-tuning on each experience: the lower bound", {}),
    ("cumulative", "all", False, "retraining on everything seen so far: the upper bound", {}),
)  # fmt: skip

# On the features of a head that is never trained.
CLOSED_FORM: dict[str, Any] = {
    "class_mean": NearestClassMean,
    "slda": SLDA,
    "ranpac": RanPAC,
}


# Of other learners; made in ``learning.registry``.
COMPOSED = ("complementary",)


def check_method(config: LearnerConfig) -> LearnerConfig:
    """The settings, if their method exists and they do not contradict it.

    Raises:
        ConfigError: there is no such method, or Synaptic Intelligence is asked for or left out against its name.
    """
    known = [*COMPOSED, *METHODS, *CLOSED_FORM]
    if config.method not in known:
        near = difflib.get_close_matches(str(config.method), known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"learner.method must be one of {', '.join(known)}, got {config.method!r}{hint}")
    held = METHODS[config.method].synaptic_intelligence if config.method in METHODS else None
    if held is True and config.si_lambda == 0:
        raise ConfigError(
            f"learner.method {config.method} holds parameters by Synaptic Intelligence: give learner.si_lambda > 0"
        )
    if held is False and config.si_lambda > 0:
        raise ConfigError(
            f"learner.method {config.method} is without Synaptic Intelligence: leave learner.si_lambda at 0,"
            " or take method ar1_replay"
        )
    return config


def hook_of(method: Method, config: LearnerConfig) -> Hook:
    """The hook of one experience: the method's own, with Synaptic Intelligence around it if lambda > 0."""
    hook = method.hook(config)
    return SynapticIntelligence(hook) if config.si_lambda > 0 else hook


def keeps_images(name: str) -> bool:
    """If the method of that name learns from images instead of latents."""
    return name in METHODS and METHODS[name].images
