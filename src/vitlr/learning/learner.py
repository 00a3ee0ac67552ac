"""The one visible training loop: latents in, a head and a classifier that learned.

Shape letters: N new latents, B mini-batch, T tokens, D width, C class indices known so far.

The learner owns the head (blocks above the cut, final norm), the classifier (a bias-free linear map) and
the replay memory. It does not know what a latent is: in native replay it is an image, and the head the whole
network. ``learn`` is one experience:

1. for each epoch, for each mini-batch: new latents and latents drawn from the memory, through the head,
   cross-entropy over all classes seen so far, one step of SGD with momentum; on a GPU nothing of a step is
   read back before the epoch ends;
2. CWR* consolidates the classifier, Synaptic Intelligence updates its importances;
3. the memory is offered the new pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vitlr.device import has_bfloat16
from vitlr.errors import RunError
from vitlr.learning import cwr, si
from vitlr.learning.method import Method, Step
from vitlr.learning.methods import method_named
from vitlr.learning.minibatch import epoch_minibatches
from vitlr.learning.settings import LearnerConfig
from vitlr.replay.codec import PIXELS
from vitlr.replay.memory import MemoryConfig, ReplayMemory
from vitlr.storage.saved import saved_count, saved_tensor

__all__ = ["UNSEEN", "GradientLearner", "Head", "LearnStats", "device_of"]

UNSEEN = float("-inf")  # logit of a class that has never been seen


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
            require gradients are trained. Where its parameters lie is where everything is learned.
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
        self.device = device_of(head)
        self._consolidated_CD = torch.zeros(0, head.width, device=self.device)
        self._past_C = torch.zeros(0, dtype=torch.float64, device=self.device)
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
    def logits(self, latents_NTD: Tensor, batch_size: int = 64) -> Tensor:
        """(N, C) logits on the host; -inf for class indices below C that have never been seen."""
        features = [self.head(batch.to(self.device).float()) for batch in latents_NTD.split(batch_size)]
        if not features:
            return torch.zeros(0, len(self._past_C))
        logits_NC = torch.cat(features) @ self._consolidated_CD.T
        return logits_NC.masked_fill(~self.known_C, UNSEEN).cpu()

    # -- learning -----------------------------------------------------------------------------------

    def learn(self, latents_NTD: Tensor, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn one experience of N >= 1 latents (N, T, D) with class indices (N,).

        Raises:
            ValueError: no latents, or latents and labels of different length.
            RunError: the loss or a weight is no longer finite.

        Whatever is raised, an interrupt too, everything is back where it was before.
        """
        labels_N = np.asarray(labels_N, dtype=np.int64)
        if len(labels_N) == 0 or len(latents_NTD) != len(labels_N):
            raise ValueError(
                f"{len(latents_NTD)} latents and {len(labels_N)} labels: give one label each, at least one"
            )
        latents_NTD = latents_NTD.to(self.device)
        known = (
            self._consolidated_CD,
            self._past_C,
            self._importance,
            self._anchor,
            self.rng.bit_generator.state,
        )
        self._make_room(int(labels_N.max()) + 1)
        stored = 0 if self.method.replay == "none" else len(self.memory)
        present = np.concatenate([labels_N, self.memory.labels[:stored]])
        counts_C = np.bincount(present, minlength=len(self._past_C)).astype(np.float64)
        current_C = torch.from_numpy(counts_C).to(self.device)

        before = {name: parameter.detach().clone() for name, parameter in self._blocks.items()}
        try:
            temporary_CD, stats = self._train(latents_NTD, labels_N, current_C, experience)
            if self.method.consolidate:
                self._consolidated_CD, self._past_C = cwr.consolidate(
                    self._consolidated_CD, self._past_C, temporary_CD, current_C
                )
            else:
                self._consolidated_CD, self._past_C = temporary_CD, self._past_C + current_C
            if self.method.replay != "none":
                kept_NC = self.logits(latents_NTD) if self.method.keep_logits else None
                self.memory.offer(latents_NTD, labels_N, experience, self.rng, kept_NC)
        except BaseException:  # also an interrupt: half an experience is never left in the head
            for name, parameter in self._blocks.items():
                parameter.data.copy_(before[name])
            (
                self._consolidated_CD,
                self._past_C,
                self._importance,
                self._anchor,
                self.rng.bit_generator.state,
            ) = known
            raise
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
        intelligence = si.PathIntegral(blocks, self._importance, self._anchor, config.si_lambda)

        mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=self.train_precision == "bfloat16")
        steps = replayed = 0
        loss = accuracy = math.nan
        for _ in range(config.epochs):
            losses, hits, sizes = [], [], []
            for latents_BTD, labels_B, memory_rows in self._minibatches(latents_NTD, labels_N):
                with torch.set_grad_enabled(bool(blocks)), mixed:
                    features_BD = self.head(latents_BTD).float()
                logits_BC = (features_BD @ classifier_CD.T).masked_fill(~seen_C, UNSEEN)
                batch_loss = self.method.loss(
                    Step(
                        logits_BC=logits_BC,
                        labels_B=labels_B,
                        num_replayed=len(memory_rows),
                        stored_RC=self._stored_logits(memory_rows),
                    ),
                    config,
                )
                optimizer.zero_grad()
                batch_loss.backward()
                with intelligence.around_step():
                    optimizer.step()
                losses.append(batch_loss.detach())
                hits.append((logits_BC.detach().argmax(dim=1) == labels_B).sum())
                sizes.append(len(labels_B))
                steps, replayed = steps + 1, replayed + len(memory_rows)
            # Read once an epoch, so that a GPU never waits for the host in between.
            values, correct = _read(losses), sum(_read(hits))
            for step, value in enumerate(values, start=steps - len(values) + 1):
                if not math.isfinite(value):
                    raise RunError(
                        f"the loss became {value} in step {step} of experience {experience} at learning rate"
                        f" {lr:g}; lower learner.{'first_lr' if first else 'lr'}"
                    )
            loss = sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
            accuracy = correct / sum(sizes)
        # The last step led to weights that no loss has judged yet.
        if not _all_finite([classifier_CD, *blocks.values()]):
            raise RunError(
                f"weights are no longer finite after step {steps} of experience {experience} at learning rate"
                f" {lr:g}; lower learner.{'first_lr' if first else 'lr'}"
            )
        if config.si_lambda > 0:
            self._importance, self._anchor = intelligence.finish()
        trained = {**blocks, "classifier.weight": classifier_CD}
        sizes_of = {name: weight.grad.abs() for name, weight in trained.items() if weight.grad is not None}
        means = _read([size.mean() for size in sizes_of.values()])
        largest = _read([size.max() for size in sizes_of.values()])
        stats = LearnStats(
            num_new=len(labels_N),
            num_replayed=replayed,
            steps=steps,
            loss=loss,
            accuracy=accuracy,
            gradients=dict(zip(sizes_of, zip(means, largest, strict=True), strict=True)),
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
        rows = epoch_minibatches(len(labels_N), stored, self.config.batch_size, self.rng)
        yield from self._filled(rows, latents_NTD, labels_N)

    def _union_minibatches(
        self, latents_NTD: Tensor, labels_N: np.ndarray
    ) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        stored = len(self.memory)
        union = epoch_minibatches(stored + len(labels_N), 0, self.config.batch_size, self.rng)
        rows = ((rows[rows >= stored] - stored, rows[rows < stored]) for rows, _ in union)
        yield from self._filled(rows, latents_NTD, labels_N)

    def _filled(
        self, minibatches: Iterable[tuple[np.ndarray, np.ndarray]], latents_NTD: Tensor, labels_N: np.ndarray
    ) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        """Latents and labels of these rows, new ones first. Copies from host to GPU are not waited for."""
        for new_rows, memory_rows in minibatches:
            latents_BTD = latents_NTD[_there(new_rows, self.device)].float()
            labels_B = labels_N[new_rows]
            if len(memory_rows):
                drawn = self.memory.draw(memory_rows).to(self.device, non_blocking=True)
                latents_BTD = torch.cat([latents_BTD, drawn])
                labels_B = np.concatenate([labels_B, self.memory.labels[memory_rows]])
            yield latents_BTD, _there(labels_B, self.device), memory_rows

    def _stored_logits(self, memory_rows: np.ndarray) -> Tensor | None:
        """What the memory keeps beside these rows, where the method has it keep logits."""
        if not self.method.keep_logits:
            return None
        return self.memory.draw_logits(memory_rows).to(self.device, non_blocking=True)

    @property
    def train_precision(self) -> str:
        """In which training multiplies, ``float32`` or ``bfloat16``: what was asked for, or what is native here."""
        wanted = self.config.train_precision
        if wanted == "auto":
            return "bfloat16" if has_bfloat16(self.device) else "float32"
        return wanted

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
        """Continue exactly where the learner whose ``state`` this is stood (same head, same configuration).

        Raises:
            RunError: the state belongs to another head or configuration, or its parts do not fit each other.
        """

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        head, importance, anchor = under("head."), under("importance."), under("anchor.")
        if set(head) != set(self._blocks):
            raise RunError(
                "the saved state belongs to another head"
                f" (only there: {sorted(set(head) - set(self._blocks))[:3]},"
                f" only here: {sorted(set(self._blocks) - set(head))[:3]}); use the same backbone, blocks and cut"
            )
        if set(importance) != set(anchor) or set(importance) not in (set(), set(self._blocks)):
            raise RunError("the saved state has importances of another head; use the settings it began with")
        for kind in (head, importance, anchor):
            for name in kind:
                saved_tensor(kind, name, self._blocks[name].shape, self._blocks[name].dtype)
        past_C = saved_tensor(tensors, "past", (None,), torch.float64)
        consolidated_CD = saved_tensor(tensors, "classifier", (len(past_C), self.head.width), torch.float32)
        if not (torch.isfinite(past_C) & (past_C >= 0)).all():
            raise RunError("the saved state has counts below 0 or without end; use another copy of it")
        experiences_learned = saved_count(plain["experiences_learned"], "experiences_learned")
        self.memory.load_state(under("memory."), plain["memory"], self.device)
        labels = self.memory.labels
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(past_C)):
            raise RunError("the saved memory has labels of no class; use another copy of it")
        width, kept = self.memory.logits_width, self.method.keep_logits and len(labels) > 0
        if (width > 0) != kept or width > len(past_C):
            raise RunError("the saved memory has logits of other classes; use another copy of it")
        for name, parameter in self._blocks.items():
            parameter.data.copy_(head[name])
        self._consolidated_CD = consolidated_CD.to(self.device, copy=True)
        self._past_C = past_C.to(self.device, copy=True)
        self._importance, self._anchor = (
            {name: tensor.to(self.device) for name, tensor in kind.items()} for kind in (importance, anchor)
        )
        self.experiences_learned = experiences_learned
        self.rng.bit_generator.state = plain["rng"]


def device_of(head: Head) -> torch.device:
    """Where the head's weights lie."""
    return next((weight.device for _, weight in head.named_parameters()), torch.device("cpu"))


def _there(rows: np.ndarray, device: torch.device) -> Tensor:
    """Row numbers or labels on the device; from page-locked memory where that lets the copy go on by itself."""
    tensor = torch.from_numpy(rows)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _read(scalars: list[Tensor]) -> list[Any]:
    """These numbers on the host, in one go."""
    return torch.stack(scalars).tolist() if scalars else []


def _all_finite(tensors: list[Tensor]) -> bool:
    """Whether all numbers of all tensors are finite, asked in one go."""
    return bool(torch.stack([torch.isfinite(tensor.detach()).all() for tensor in tensors]).all())


class Head(Protocol):
    """What the loop needs of a head: width, parameters, and features (B, D) of latents (B, T, D)."""

    width: int

    def __call__(self, latents_BTD: Tensor) -> Tensor: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
