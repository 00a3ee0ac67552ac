"""How an experience is learned: the settings of every method, with their ranges.

Which methods there are, and what they need of the settings, ``learning.methods`` checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitlr.configuration import read_by, unread_by
from vitlr.errors import ConfigError

__all__ = ["LearnerConfig", "own_defaults"]

_LARGEST = 1e38  # of any setting: float32, in which is learned, ends above it
_WIDEST = 20_000  # random features: 6.4 GB of matrices
_CLOSED_FORM = (
    "class_mean",
    "slda",
    "ranpac",
)  # methods that train nothing; their table imports these settings
_PRECISIONS = ("auto", "float32", "bfloat16")

# Defaults of settings that are not the same for every method: a rate that works with replay ends at chance without.
_COMMON: dict[str, Any] = {
    "epochs": 4,
    "first_lr": 1e-2,
    "lr": 1e-2,
    "momentum": 0.9,
    "si_lambda": 0.0,
    "der_beta": 0.5,
}
_OWN: dict[str, dict[str, Any]] = {
    "complementary": {"epochs": 1, "first_lr": 5e-2, "lr": 5e-2, "momentum": 0.0},
    "naive": {"lr": 1e-3},
    "lwf": {"lr": 1e-3},
    "cwr": {"lr": 3e-4},
    "ar1": {"lr": 3e-4, "si_lambda": 1e7},
    "ar1_replay": {"si_lambda": 100.0},
    "der": {"lr": 3e-4, "der_beta": 10.0},
    "cumulative": {"epochs": 1},
    "native": {"first_lr": 3e-3, "lr": 3e-3},
}


def own_defaults(method: str) -> dict[str, Any]:
    """Defaults of the settings that are not the same for every method."""
    return _COMMON | _OWN.get(method, {})


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """How an experience is learned. What is not given, or None, is what was best for the method: docs/search.md.

    Attributes:
        method: complementary (statistics of every image and a head trained by replay, joined); latent_replay, ar1free,
            ar1_replay, native, ar1, cwr, der, lwf, naive or cumulative; class_mean, slda or ranpac, which learn in
            closed form.
        epochs: passes over the new latents of each experience.
        batch_size: latents in a mini-batch, new and replayed.
        first_lr: learning rate of the head's blocks and norm in the first experience.
        lr: the same in later experiences.
        classifier_lr_scale: the classifier learns at this multiple of those rates.
        momentum: of SGD; it starts at zero in each experience.
        weight_decay: of SGD.
        train_precision: of the products in training, float32 or bfloat16 (mixed precision: weights, gradients, norms
            and the loss stay float32); auto is bfloat16 where such products are native, and float32 elsewhere.
            Predictions are float32.
        si_lambda: strength of Synaptic Intelligence (AR1*); 0 switches it off (AR1*free).
        der_alpha: of method der, weight of the replayed latents' logits.
        der_beta: of method der, weight of the replayed latents' labels.
        class_tokens: of method complementary, the last blocks whose class tokens its statistics read, at most.
        statistics_bytes: of method complementary, bound on its statistics; fewer blocks are read if they need more.
        views: of method complementary, random views of an image that its statistics take in, at most; 0 for none.
        view_budget: of method complementary, random views of a class in one experience, at most.
        lwf_lambda: of method lwf, weight of the teacher's answers.
        lwf_temperature: of method lwf, by which logits are divided for the teacher's answers.
        slda_shrinkage: of method slda, of the covariance towards the unit matrix, above 0 and at most 1.
        ranpac_width: of method ranpac, random features; it keeps 16 bytes for the square of them.
        ranpac_ridge: of method ranpac; by default the one of least held-out error.
    """

    method: str = "complementary"
    epochs: int = unread_by(*_CLOSED_FORM, default=None)
    batch_size: int = unread_by(*_CLOSED_FORM, default=128)
    first_lr: float = unread_by(*_CLOSED_FORM, default=None)
    lr: float = unread_by(*_CLOSED_FORM, default=None)
    classifier_lr_scale: float = unread_by(*_CLOSED_FORM, default=1.0)
    momentum: float = unread_by(*_CLOSED_FORM, default=None)
    weight_decay: float = unread_by(*_CLOSED_FORM, default=5e-4)
    train_precision: str = unread_by(*_CLOSED_FORM, default="auto")
    si_lambda: float = unread_by(*_CLOSED_FORM, default=None)
    der_alpha: float = read_by("der", default=0.1)
    der_beta: float = read_by("der", default=None)
    class_tokens: int = read_by("complementary", default=8)
    statistics_bytes: str | int = read_by("complementary", default="40MB")
    views: int = read_by("complementary", default=8)
    view_budget: int = read_by("complementary", default=64)
    lwf_lambda: float = read_by("lwf", default=1.0)
    lwf_temperature: float = read_by("lwf", default=2.0)
    slda_shrinkage: float = read_by("slda", default=1e-4)
    ranpac_width: int = read_by("ranpac", default=1000)
    ranpac_ridge: float | None = read_by("ranpac", default=None)

    def __post_init__(self) -> None:
        for name, value in own_defaults(self.method).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"learner.{name} must be a whole number >= 1, got {value!r}")
        for name, least in (("class_tokens", 1), ("views", 0), ("view_budget", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"learner.{name} must be a whole number >= {least}, got {value!r}")
        if self.train_precision not in _PRECISIONS:
            raise ConfigError(
                f"learner.train_precision must be one of {', '.join(_PRECISIONS)}, got {self.train_precision!r}"
            )
        rates = ("first_lr", "lr", "classifier_lr_scale", "momentum", "weight_decay")
        for name in (*rates, "si_lambda", "der_alpha", "der_beta", "lwf_lambda"):
            value = getattr(self, name)
            if not 0 <= value <= _LARGEST:  # false for NaN as well
                raise ConfigError(f"learner.{name} must be a number from 0 to {_LARGEST:g}, got {value}")
        if max(self.first_lr, self.lr) * self.classifier_lr_scale > _LARGEST:
            raise ConfigError("learner.lr times learner.classifier_lr_scale is too large; lower one of them")
        if self.momentum >= 1:
            raise ConfigError(f"learner.momentum must be below 1, got {self.momentum}")
        if not 0 < self.lwf_temperature <= _LARGEST:
            raise ConfigError(f"learner.lwf_temperature must be above 0, got {self.lwf_temperature}")
        if not 0 < self.slda_shrinkage <= 1:
            raise ConfigError(
                f"learner.slda_shrinkage must be above 0 and at most 1, got {self.slda_shrinkage}"
            )
        if not 1 <= self.ranpac_width <= _WIDEST:
            raise ConfigError(f"learner.ranpac_width must be 1 to {_WIDEST}, got {self.ranpac_width}")
        if self.ranpac_ridge is not None and not 0 < self.ranpac_ridge <= _LARGEST:
            raise ConfigError(f"learner.ranpac_ridge must be above 0, got {self.ranpac_ridge}")
