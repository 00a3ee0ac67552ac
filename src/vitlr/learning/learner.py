"""The one visible training loop: latents in, a head and a classifier that learned.

Shape letters: N new latents, B mini-batch, T tokens, D width, C class indices known so far.

The learner owns the head (blocks above the cut, final norm), the classifier (a bias-free linear map) and
the replay memory. It does not know what a latent is: in native replay it is an image, and the head the whole
network. ``learn`` is one experience:

1. for each epoch, for each mini-batch: new latents and latents drawn from the memory, through the head,
   cross-entropy over all classes seen so far, one step of SGD with momentum;
2. CWR* consolidates the classifier, Synaptic Intelligence updates its importances;
3. the memory is offered the new pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vitlr.errors import ConfigError, RunError
from vitlr.learning import cwr, si
from vitlr.learning.der import dark_loss
from vitlr.learning.methods import CLOSED_FORM, Method, method_named
from vitlr.learning.minibatch import epoch_minibatches
from vitlr.replay.codec import PIXELS
from vitlr.replay.memory import MemoryConfig, ReplayMemory

__all__ = ["CLOSED_FORM_SETTINGS", "GradientLearner", "LearnStats", "LearnerConfig"]

_LARGEST = 1e38  # of any setting: float32, in which is learned, ends above it
_WIDEST = 20_000  # random features: 6.4 GB of matrices
# Settings that only the methods in closed form read.
CLOSED_FORM_SETTINGS = ("slda_shrinkage", "ranpac_width", "ranpac_ridge")
_PRECISIONS = ("float32", "bfloat16")
UNSEEN = float("-inf")  # logit of a class that has never been seen


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """How an experience is learned. Defaults: see docs/results.md for how they were chosen.

    Attributes:
        method: latent_replay, ar1free, ar1_replay, native, ar1, cwr, der, naive or cumulative; class_mean,
            slda or ranpac, which learn in closed form and use the last three settings only.
        epochs: passes over the new latents of each experience.
        batch_size: latents in a mini-batch, new and replayed.
        first_lr, lr: learning rate of the head's blocks and norm in the first and in later experiences.
        classifier_lr_scale: the classifier learns at this multiple of those rates.
        momentum, weight_decay: of SGD; momentum starts at zero in each experience.
        train_precision: of the products in training, float32 or bfloat16 (mixed precision: weights, gradients, norms
            and the loss stay float32; faster only where bfloat16 products are native). Predictions are float32.
        si_lambda: strength of Synaptic Intelligence (AR1*); 0 switches it off (AR1*free).
        der_alpha, der_beta: of method der, weight of the replayed latents' logits and of their labels.
        slda_shrinkage: of method slda, of the covariance towards the unit matrix, above 0 and at most 1.
        ranpac_width: of method ranpac, random features; it keeps 16 bytes for the square of them.
        ranpac_ridge: of method ranpac; by default the one of least held-out error.
    """

    method: str = "latent_replay"
    epochs: int = 4
    batch_size: int = 128
    first_lr: float = 1e-2
    lr: float = 1e-2
    classifier_lr_scale: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    train_precision: str = "float32"
    si_lambda: float = 0.0
    der_alpha: float = 0.1
    der_beta: float = 0.5
    slda_shrinkage: float = 1e-4
    ranpac_width: int = 1000
    ranpac_ridge: float | None = None

    def __post_init__(self) -> None:
        held = None if self.method in CLOSED_FORM else method_named(self.method).synaptic_intelligence
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"learner.{name} must be >= 1, got {getattr(self, name)}")
        if self.train_precision not in _PRECISIONS:
            raise ConfigError(
                f"learner.train_precision must be one of {', '.join(_PRECISIONS)}, got {self.train_precision!r}"
            )
        rates = ("first_lr", "lr", "classifier_lr_scale", "momentum", "weight_decay")
        for name in (*rates, "si_lambda", "der_alpha", "der_beta"):
            value = getattr(self, name)
            if not 0 <= value <= _LARGEST:  # false for NaN as well
                raise ConfigError(f"learner.{name} must be a number from 0 to {_LARGEST:g}, got {value}")
        if max(self.first_lr, self.lr) * self.classifier_lr_scale > _LARGEST:
            raise ConfigError("learner.lr times learner.classifier_lr_scale is too large; lower one of them")
        if self.momentum >= 1:
            raise ConfigError(f"learner.momentum must be below 1, got {self.momentum}")
        if held is True and self.si_lambda == 0:
            raise ConfigError(
                f"learner.method {self.method} holds parameters by Synaptic Intelligence: give learner.si_lambda > 0"
            )
        if held is False and self.si_lambda > 0:
            raise ConfigError(
                f"learner.method {self.method} is without Synaptic Intelligence: leave learner.si_lambda at 0,"
                " or take method ar1_replay"
            )
        if not 0 < self.slda_shrinkage <= 1:
            raise ConfigError(
                f"learner.slda_shrinkage must be above 0 and at most 1, got {self.slda_shrinkage}"
            )
        if not 1 <= self.ranpac_width <= _WIDEST:
            raise ConfigError(f"learner.ranpac_width must be 1 to {_WIDEST}, got {self.ranpac_width}")
        if self.ranpac_ridge is not None and not 0 < self.ranpac_ridge <= _LARGEST:
            raise ConfigError(f"learner.ranpac_ridge must be above 0, got {self.ranpac_ridge}")


@dataclass(frozen=True, kw_only=True)
class LearnStats:
    """What one experience's training did.

    ``loss`` and ``accuracy`` (0..1) are means over the latents, new and replayed, of the last epoch, each
    taken before the step it led to. ``gradients`` holds, for each trained parameter, the mean and the
    largest absolute gradient of the last step.
    """

    num_new: int
    num_replayed: int
    steps: int
    loss: float
    accuracy: float
    gradients: dict[str, tuple[float, float]] = field(default_factory=dict)


class GradientLearner:
    """Head, classifier and replay memory, learning one experience at a time.

    Args:
        head: module from latents (B, T, D) to features (B, D = head.width); those of its parameters that
            require gradients are trained.
        config, memory: settings.
        rng: the only source of randomness (shuffles, draws, the memory's policy).
    """

    def __init__(
        self, head: Head, config: LearnerConfig, memory: MemoryConfig, rng: np.random.Generator
    ) -> None:
        self.head = head
        self.config = config
        self.method: Method = method_named(config.method)
        self.rng = rng
        codec = PIXELS if self.method.images else None
        self.memory = ReplayMemory(memory, unbounded=self.method.replay == "all", codec=codec)
        self.experiences_learned = 0
        self._blocks = {name: weight for name, weight in head.named_parameters() if weight.requires_grad}
        self._consolidated_CD = torch.zeros(0, head.width)
        self._past_C = torch.zeros(0, dtype=torch.float64)
        self._importance: dict[str, Tensor] = {}
        self._anchor: dict[str, Tensor] = {}

    # -- what it knows ------------------------------------------------------------------------------

    @property
    def known_C(self) -> Tensor:
        """(C,) bool: class indices that have been learned."""
        return self._past_C > 0

    @property
    def classifier_CD(self) -> Tensor:
        """(C, D) weights used to predict; rows of classes never seen are zero."""
        return self._consolidated_CD

    @torch.no_grad()
    def logits(self, latents_NTD: Tensor, batch_size: int = 256) -> Tensor:
        """(N, C) logits; -inf for class indices below C that have never been seen."""
        features = [self.head(batch.float()) for batch in latents_NTD.split(batch_size)]
        if not features:
            return torch.zeros(0, len(self._past_C))
        logits_NC = torch.cat(features) @ self._consolidated_CD.T
        return logits_NC.masked_fill(~self.known_C, UNSEEN)

    # -- learning -----------------------------------------------------------------------------------

    def learn(self, latents_NTD: Tensor, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn one experience of N >= 1 latents (N, T, D) with class indices (N,).

        Raises:
            ValueError: no latents, or latents and labels of different length.
            RunError: the loss or a weight is no longer finite; everything is back where it was before.
        """
        labels_N = np.asarray(labels_N, dtype=np.int64)
        if len(labels_N) == 0 or len(latents_NTD) != len(labels_N):
            raise ValueError(
                f"{len(latents_NTD)} latents and {len(labels_N)} labels: give one label each, at least one"
            )
        known = (self._consolidated_CD, self._past_C, self.rng.bit_generator.state)
        self._make_room(int(labels_N.max()) + 1)
        stored = 0 if self.method.replay == "none" else len(self.memory)
        present = np.concatenate([labels_N, self.memory.labels[:stored]])
        current_C = torch.from_numpy(np.bincount(present, minlength=len(self._past_C)).astype(np.float64))

        before = {name: parameter.detach().clone() for name, parameter in self._blocks.items()}
        try:
            temporary_CD, stats = self._train(latents_NTD, labels_N, current_C, experience)
        except BaseException:  # also an interrupt: half an experience is never left in the head
            for name, parameter in self._blocks.items():
                parameter.data.copy_(before[name])
            self._consolidated_CD, self._past_C, self.rng.bit_generator.state = known
            raise
        if self.method.consolidate:
            self._consolidated_CD, self._past_C = cwr.consolidate(
                self._consolidated_CD, self._past_C, temporary_CD, current_C
            )
        else:
            self._consolidated_CD, self._past_C = temporary_CD, self._past_C + current_C
        if self.method.replay != "none":
            kept_NC = self.logits(latents_NTD) if self.method.keep_logits else None
            self.memory.offer(latents_NTD, labels_N, experience, self.rng, kept_NC)
        self.experiences_learned += 1
        return stats

    def _make_room(self, num_classes: int) -> None:
        missing = num_classes - len(self._past_C)
        if missing > 0:
            self._consolidated_CD = functional.pad(self._consolidated_CD, (0, 0, 0, missing))
            self._past_C = functional.pad(self._past_C, (0, missing))

    def _train(
        self, latents_NTD: Tensor, labels_N: np.ndarray, current_C: Tensor, experience: int
    ) -> tuple[Tensor, LearnStats]:
        config, first = self.config, self.experiences_learned == 0
        lr = config.first_lr if first else config.lr
        present_C = current_C > 0
        seen_C = self.known_C | present_C
        start_CD = self._consolidated_CD
        if self.method.consolidate:
            start_CD = cwr.temporary_weights(start_CD, self.known_C, present_C)
        classifier_CD = nn.Parameter(start_CD.clone())

        blocks = self._blocks if first or self.method.train_blocks == "always" else {}
        groups = [{"params": [classifier_CD], "lr": lr * config.classifier_lr_scale}]
        if blocks:
            groups.append({"params": list(blocks.values()), "lr": lr})
        # One pass over a weight, its gradient and its momentum: the plain steps make copies of each, which took
        # a quarter of the learning time of ViT-B/32 at cut 11 on two cores.
        optimizer = torch.optim.SGD(
            groups, lr=lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
        )
        intelligence = _PathIntegral(blocks, self._importance, self._anchor, config.si_lambda)

        mixed = torch.autocast("cpu", torch.bfloat16, enabled=config.train_precision == "bfloat16")
        steps = replayed = 0
        loss_sum = correct = count = 0.0
        for _ in range(config.epochs):
            loss_sum = correct = count = 0.0
            for latents_BTD, labels_B, memory_rows in self._minibatches(latents_NTD, labels_N):
                with torch.set_grad_enabled(bool(blocks)), mixed:
                    features_BD = self.head(latents_BTD).float()
                logits_BC = (features_BD @ classifier_CD.T).masked_fill(~seen_C, UNSEEN)
                if self.method.keep_logits:
                    kept_RC = self.memory.draw_logits(memory_rows)
                    loss = dark_loss(logits_BC, labels_B, kept_RC, config.der_alpha, config.der_beta)
                else:
                    loss = functional.cross_entropy(logits_BC, labels_B)
                optimizer.zero_grad()
                loss.backward()
                with intelligence.around_step():
                    optimizer.step()
                steps, replayed = steps + 1, replayed + len(memory_rows)
                loss_sum += loss.item() * len(labels_B)
                correct += (logits_BC.argmax(dim=1) == labels_B).sum().item()
                count += len(labels_B)
                if not math.isfinite(loss_sum):
                    raise RunError(
                        f"the loss became {loss.item()} in step {steps} of experience {experience} at learning rate"
                        f" {lr:g}; lower learner.{'first_lr' if first else 'lr'}"
                    )
        # The last step led to weights that no loss has judged yet.
        if not all(bool(torch.isfinite(weight).all()) for weight in [classifier_CD, *blocks.values()]):
            raise RunError(
                f"weights are no longer finite after step {steps} of experience {experience} at learning rate"
                f" {lr:g}; lower learner.{'first_lr' if first else 'lr'}"
            )
        if config.si_lambda > 0:
            self._importance, self._anchor = intelligence.finish()
        gradients = {
            name: (parameter.grad.abs().mean().item(), parameter.grad.abs().max().item())
            for name, parameter in [*blocks.items(), ("classifier.weight", classifier_CD)]
            if parameter.grad is not None
        }
        stats = LearnStats(
            num_new=len(labels_N),
            num_replayed=replayed,
            steps=steps,
            loss=loss_sum / count,
            accuracy=correct / count,
            gradients=gradients,
        )
        return classifier_CD.detach(), stats

    def _minibatches(
        self, latents_NTD: Tensor, labels_N: np.ndarray
    ) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        """Latents (B, T, D), labels (B,) and the memory's rows that they end with, for one epoch."""
        if self.method.replay == "all":
            # Everything seen counts as new, so that each latent is used exactly once an epoch.
            yield from self._union_minibatches(latents_NTD, labels_N)
            return
        stored = len(self.memory) if self.method.replay == "memory" else 0
        for new_rows, memory_rows in epoch_minibatches(
            len(labels_N), stored, self.config.batch_size, self.rng
        ):
            latents_BTD = latents_NTD[torch.from_numpy(new_rows)].float()
            labels_B = labels_N[new_rows]
            if len(memory_rows):
                latents_BTD = torch.cat([latents_BTD, self.memory.draw(memory_rows)])
                labels_B = np.concatenate([labels_B, self.memory.labels[memory_rows]])
            yield latents_BTD, torch.from_numpy(labels_B), memory_rows

    def _union_minibatches(
        self, latents_NTD: Tensor, labels_N: np.ndarray
    ) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        stored, new = len(self.memory), len(labels_N)
        for rows, _ in epoch_minibatches(stored + new, 0, self.config.batch_size, self.rng):
            old, fresh = rows[rows < stored], rows[rows >= stored] - stored
            latents_BTD = latents_NTD[torch.from_numpy(fresh)].float()
            if len(old):
                latents_BTD = torch.cat([latents_BTD, self.memory.draw(old)])
            labels_B = np.concatenate([labels_N[fresh], self.memory.labels[old]])
            yield latents_BTD, torch.from_numpy(labels_B), old

    # -- state --------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that later learning depends on: tensors, and plain data that JSON can hold."""
        tensors = {f"head.{name}": parameter.detach().clone() for name, parameter in self._blocks.items()}
        tensors |= {"classifier": self._consolidated_CD.clone(), "past": self._past_C.clone()}
        tensors |= {f"importance.{name}": value for name, value in self._importance.items()}
        tensors |= {f"anchor.{name}": value for name, value in self._anchor.items()}
        memory_tensors, memory_plain = self.memory.state()
        tensors |= {f"memory.{name}": value for name, value in memory_tensors.items()}
        plain = {
            "experiences_learned": self.experiences_learned,
            "rng": self.rng.bit_generator.state,
            "memory": memory_plain,
        }
        return tensors, plain

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue exactly where the learner whose ``state`` this is stood (same head, same configuration)."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        head = under("head.")
        if set(head) != set(self._blocks):
            raise RunError(
                "the saved state belongs to another head"
                f" (only there: {sorted(set(head) - set(self._blocks))[:3]},"
                f" only here: {sorted(set(self._blocks) - set(head))[:3]}); use the same backbone, blocks and cut"
            )
        for name, parameter in self._blocks.items():
            if parameter.shape != head[name].shape:
                raise RunError(
                    f"the saved state has {name} of shape {tuple(head[name].shape)} and this head of shape"
                    f" {tuple(parameter.shape)}; use the same backbone, image size and cut"
                )
        for name, parameter in self._blocks.items():
            parameter.data.copy_(head[name])
        self._consolidated_CD, self._past_C = tensors["classifier"].clone(), tensors["past"].clone()
        self._importance, self._anchor = under("importance."), under("anchor.")
        self.memory.load_state(under("memory."), plain["memory"])
        self.experiences_learned = plain["experiences_learned"]
        self.rng.bit_generator.state = plain["rng"]


class Head(Protocol):
    """What the loop needs of a head: width, parameters, and features (B, D) of latents (B, T, D)."""

    width: int

    def __call__(self, latents_BTD: Tensor) -> Tensor: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


class _PathIntegral:
    """Synaptic Intelligence around the optimizer's steps of one experience; does nothing at strength 0."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        importance: dict[str, Tensor],
        anchor: dict[str, Tensor],
        strength: float,
    ) -> None:
        self._parameters = parameters if strength > 0 else {}
        self._strength = strength
        self._importance = importance
        self._anchor = anchor
        self._start = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._path = {name: torch.zeros_like(p) for name, p in self._parameters.items()}

    def around_step(self) -> _PathIntegral:
        return self

    def __enter__(self) -> None:
        # The loss's own gradient goes into the path integral; the penalty joins it only for the step.
        self._gradient, self._before = {}, {}
        for name, parameter in self._parameters.items():
            assert parameter.grad is not None
            self._gradient[name] = parameter.grad.clone()
            self._before[name] = parameter.detach().clone()
            if name in self._importance:
                parameter.grad += si.penalty_gradient(
                    self._importance[name], parameter.detach(), self._anchor[name], self._strength
                )

    def __exit__(self, *exception: object) -> None:
        for name, parameter in self._parameters.items():
            self._path[name] += si.path_step(self._gradient[name], self._before[name], parameter.detach())

    def finish(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Importances and anchors for the next experience."""
        importance = {
            name: si.grown_importance(
                self._importance.get(name, torch.zeros_like(parameter)),
                self._path[name],
                self._start[name],
                parameter.detach(),
            )
            for name, parameter in self._parameters.items()
        }
        return importance, {name: p.detach().clone() for name, p in self._parameters.items()}
