"""The training loop: latents in, trained head and classifier out.

The learner owns the head (blocks above the cut, final norm), the classifier (a bias-free linear map) and the replay
memory. It does not know what a latent is: in native replay it is an image, and the head the whole network. One
experience (``learn``) is:

1. for each epoch, for each mini-batch: new latents and latents drawn from the memory, through the head, the loss of
   the hook of the method (cross-entropy over all classes seen so far, unless it has another), one step of SGD with
   momentum; on a GPU nothing of a step is read back before the epoch ends;
2. CWR* consolidates the classifier, and the hook hands over its state;
3. the memory is offered the new pairs;
4. all of it is published in one assignment.

Training works on a copy of the head, and the memory writes into rows that are not in use, so that until the last step
nothing that was learned before has changed.

Shapes: N new latents, B mini-batch, T tokens, D width, C class indices known so far.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vitlr.device import has_bfloat16
from vitlr.errors import ConfigError, RunError
from vitlr.latents.record import Latents
from vitlr.learning import cwr
from vitlr.learning.frozen import pooled
from vitlr.learning.learner import (
    COSINE_THRESHOLD,
    UNSEEN,
    Head,
    LearnStats,
    LinearModel,
    check_pairs,
    device_of,
)
from vitlr.learning.method import Hook, HookState, Method, Step, Student
from vitlr.learning.methods import METHODS, hook_of
from vitlr.learning.minibatch import epoch_minibatches
from vitlr.learning.settings import LearnerConfig
from vitlr.replay.codec import PIXELS
from vitlr.replay.memory import MemoryConfig, ReplayMemory
from vitlr.storage.saved import saved_count, saved_tensor

__all__ = ["GradientLearner"]

_BATCH = 64  # latents that go through the head at once to be answered


@dataclass(frozen=True, kw_only=True, eq=False)
class _Knowledge:
    """Everything that was learned. Never changed, only replaced as a whole.

    Attributes:
        classifier_CD: weights used to predict; rows of classes that are not known are zero.
        past_C: float64, patterns of each class trained on, new and replayed (CWR*'s counts); 0 if not known.
        hook_state: of the method's hook.
        rng: the only source of randomness, as it stands after the last experience.
    """

    head: Head
    classifier_CD: Tensor
    past_C: Tensor
    memory: ReplayMemory
    rng: np.random.Generator
    hook_state: HookState = field(default_factory=dict)
    experiences: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lesson:
    """One experience while it is being learned: what is trained, and what it is trained on."""

    head: Head
    blocks: dict[str, nn.Parameter]
    classifier_CD: nn.Parameter
    seen_C: Tensor
    hook: Hook
    rng: np.random.Generator
    latents: Latents
    labels_N: np.ndarray
    number: int
    lr: float


class GradientLearner:
    """Head, classifier and replay memory, learning one experience at a time; see ``learning.learner.Learner``.

    Args:
        head: module from tokens (B, T, D) to features (B, D = head.width); those of its parameters that
            require gradients are trained, on the device where they are.
        config, memory: settings.
        rng: the only source of randomness (shuffles, draws, the memory's policy); copied.
        method: in place of the one that the settings name.
    """

    remains = "what the blocks above the cut learned from it"
    threshold = COSINE_THRESHOLD

    def __init__(
        self,
        head: Head,
        config: LearnerConfig,
        memory: MemoryConfig,
        rng: np.random.Generator,
        method: Method | None = None,
    ) -> None:
        self.config = config
        self.method = METHODS[config.method] if method is None else method
        self.device = device_of(head)
        self._scale = _feature_scale(head, self.method.feature_norm)
        codec = PIXELS if self.method.images else None
        self._knowledge = _Knowledge(
            head=head,
            classifier_CD=torch.zeros(0, head.width, device=self.device),
            past_C=torch.zeros(0, dtype=torch.float64, device=self.device),
            memory=ReplayMemory(memory, unbounded=self.method.replay == "all", codec=codec),
            rng=rng,
        )

    # -- what it knows ------------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The head as it was learned so far; not to be changed."""
        return self._knowledge.head

    @property
    def memory(self) -> ReplayMemory:
        """The replay memory."""
        return self._knowledge.memory

    @property
    def experiences_learned(self) -> int:
        """Experiences learned so far."""
        return self._knowledge.experiences

    @property
    def known_C(self) -> Tensor:
        """(C,) bool: class indices that have been learned and not forgotten."""
        return self._knowledge.past_C > 0

    @property
    def classifier_CD(self) -> Tensor:
        """(C, D) weights used to predict; rows of classes that are not known are zero."""
        return self._knowledge.classifier_CD

    @property
    def num_bytes(self) -> int:
        """Bytes of the replay memory."""
        return self.memory.num_bytes

    @property
    def capacity(self) -> int | None:
        """Latents kept at most; None without a memory or a bound."""
        return self.memory.capacity if self.method.replay == "memory" else None

    def counts(self) -> dict[int, int]:
        """Latents in the replay memory, by class index."""
        return self.memory.counts()

    @torch.no_grad()
    def answer(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """Logits (N, C) and scores (N,): the largest cosine of the features to a class's row of the classifier."""
        known = self._knowledge
        features_ND = self._features(known.head, latents)
        unit_CD = functional.normalize(known.classifier_CD[known.past_C > 0], dim=1)
        if len(unit_CD) < 2:
            scores_N = torch.ones(len(features_ND))
        else:
            scores_N = (functional.normalize(features_ND, dim=1) @ unit_CD.T).amax(dim=1)
        return self._logits(features_ND), scores_N.cpu()

    @torch.no_grad()
    def logits(self, latents: Latents) -> Tensor:
        """(N, C) logits on the host; -inf for class indices that are not known."""
        return self._logits(self._features(self._knowledge.head, latents))

    def _logits(self, features_ND: Tensor) -> Tensor:
        known = self._knowledge
        return (features_ND @ known.classifier_CD.T).masked_fill(~(known.past_C > 0), UNSEEN).cpu()

    def _features(self, head: Head, latents: Latents) -> Tensor:
        batches = (batch.to(self.device).float() for batch in latents.tokens_NTD.split(_BATCH) if len(batch))
        features = [self._scaled(head(batch)) for batch in batches]
        return torch.cat(features) if features else torch.zeros(0, head.width, device=self.device)

    def _scaled(self, features_BD: Tensor) -> Tensor:
        return features_BD if self._scale is None else features_BD * self._scale

    def linear_model(self) -> LinearModel:
        """Head and classifier, without a bias."""
        scale = 1.0 if self._scale is None else self._scale
        return LinearModel(self.head, self.classifier_CD * scale, None)

    # -- learning -----------------------------------------------------------------------------------

    def learn(self, latents: Latents, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn one experience of N >= 1 latents with class indices (N,).

        Raises:
            ValueError: no latents, or latents and labels of different length.
            RunError: the loss or a weight is no longer finite.
        """
        labels_N = check_pairs(latents, labels_N)
        now = self._with_room(int(labels_N.max()) + 1)
        learned, stats = self._learned(now, latents, labels_N, np.full(len(labels_N), experience))
        self._knowledge = learned
        return stats

    def _learned(
        self, now: _Knowledge, latents: Latents, labels_N: np.ndarray, experiences_N: np.ndarray
    ) -> tuple[_Knowledge, LearnStats]:
        """What is known after these pairs were learned together; ``experiences_N`` says where each came from."""
        latents, experience = latents.to(self.device), int(experiences_N[-1])
        stored = 0 if self.method.replay == "none" else len(now.memory)
        present = np.concatenate([labels_N, now.memory.labels[:stored]])
        counts_C = np.bincount(present, minlength=len(now.past_C)).astype(np.float64)
        current_C = torch.from_numpy(counts_C).to(self.device)
        lesson = self._begin(now, latents, labels_N, current_C, experience)
        stats = self._train(lesson)
        classifier_CD, past_C = lesson.classifier_CD.detach(), now.past_C + current_C
        if self.method.consolidate:
            classifier_CD, past_C = cwr.consolidate(now.classifier_CD, now.past_C, classifier_CD, current_C)
        learned = replace(
            now,
            head=lesson.head,
            classifier_CD=classifier_CD,
            past_C=past_C,
            hook_state=lesson.hook.end(),
            rng=lesson.rng,
            experiences=now.experiences + 1,
        )
        if self.method.replay != "none":
            learned = replace(learned, memory=copy.copy(now.memory))
            kept_NC = self._kept_logits(learned, latents) if self.method.keep_logits else None
            for each in np.unique(experiences_N).tolist():
                rows = np.flatnonzero(experiences_N == each)
                kept = None if kept_NC is None else kept_NC[torch.from_numpy(rows)]
                learned.memory.offer(latents[rows], labels_N[rows], each, learned.rng, kept)
        return learned, stats

    @torch.no_grad()
    def _kept_logits(self, learned: _Knowledge, latents: Latents) -> Tensor:
        """Logits to be stored with the new latents, as the learner gives them after this experience."""
        logits_NC = self._features(learned.head, latents) @ learned.classifier_CD.T
        return logits_NC.masked_fill(~(learned.past_C > 0), UNSEEN).cpu()

    def _with_room(self, num_classes: int) -> _Knowledge:
        """What is known, with rows for that many classes."""
        now = self._knowledge
        missing = max(0, num_classes - len(now.past_C))
        return replace(
            now,
            classifier_CD=functional.pad(now.classifier_CD, (0, 0, 0, missing)),
            past_C=functional.pad(now.past_C, (0, missing)),
        )

    def _begin(
        self, now: _Knowledge, latents: Latents, labels_N: np.ndarray, current_C: Tensor, experience: int
    ) -> _Lesson:
        first, known_C, present_C = now.experiences == 0, now.past_C > 0, current_C > 0
        start_CD = now.classifier_CD
        if self.method.consolidate:
            start_CD = cwr.temporary_weights(start_CD, known_C, present_C)
        head = copy.deepcopy(now.head)
        trained = first or self.method.train_blocks == "always"
        blocks = _trained_parameters(head) if trained else {}
        hook = hook_of(self.method, self.config)
        student = Student(
            head=head, blocks=blocks, before=now.head, classifier_CD=now.classifier_CD, known_C=known_C
        )
        hook.begin(student, now.hook_state)
        return _Lesson(
            head=head,
            blocks=blocks,
            classifier_CD=nn.Parameter(start_CD.clone()),
            seen_C=known_C | present_C,
            hook=hook,
            rng=copy.deepcopy(now.rng),
            latents=latents,
            labels_N=labels_N,
            number=experience,
            lr=self.config.first_lr if first else self.config.lr,
        )

    def _train(self, lesson: _Lesson) -> LearnStats:
        config, hook, classifier_CD = self.config, lesson.hook, lesson.classifier_CD
        optimizer = self._optimizer(lesson)
        mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=self.train_precision == "bfloat16")
        steps = passes = replayed = 0
        loss = accuracy = math.nan
        for epoch in count():
            enough = steps >= self.method.least_steps or passes >= self.method.least_passes
            if epoch >= config.epochs and enough:
                break
            losses, hits, sizes = [], [], []
            for tokens_BTD, labels_B, memory_rows in self._minibatches(lesson):
                with torch.set_grad_enabled(bool(lesson.blocks)), mixed:
                    features_BD = self._scaled(lesson.head(tokens_BTD).float())
                logits_BC = (features_BD @ classifier_CD.T).masked_fill(~lesson.seen_C, UNSEEN)
                step = Step(
                    tokens_BTD=tokens_BTD,
                    logits_BC=logits_BC,
                    labels_B=labels_B,
                    num_replayed=len(memory_rows),
                    stored_RC=self._stored_logits(memory_rows),
                )
                batch_loss = hook.loss(step)
                optimizer.zero_grad()
                batch_loss.backward()
                if self.method.gradient_norm is not None:
                    nn.utils.clip_grad_norm_(
                        [*lesson.blocks.values(), classifier_CD], self.method.gradient_norm
                    )
                with hook.around_step():
                    optimizer.step()
                losses.append(batch_loss.detach())
                hits.append((logits_BC.detach().argmax(dim=1) == labels_B).sum())
                sizes.append(len(labels_B))
                steps, replayed, passes = steps + 1, replayed + len(memory_rows), passes + len(labels_B)
            # Read once an epoch, so that a GPU never waits for the host in between.
            values, correct = _read(losses), sum(_read(hits))
            self._check_losses(values, steps, lesson)
            loss = sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
            accuracy = correct / sum(sizes)
        trained = {**lesson.blocks, "classifier.weight": classifier_CD}
        # The last step led to weights that no loss has judged yet.
        if not _all_finite(list(trained.values())):
            raise self._diverged(f"weights are no longer finite after step {steps}", lesson)
        gradients = _gradients(trained)
        optimizer.zero_grad()  # gradients are not kept beside the weights
        return LearnStats(
            num_new=len(lesson.labels_N),
            num_replayed=replayed,
            steps=steps,
            loss=loss,
            accuracy=accuracy,
            head_passes=passes,
            backward=bool(lesson.blocks),
            gradients=gradients,
        )

    def _optimizer(self, lesson: _Lesson) -> torch.optim.Optimizer:
        config = self.config
        groups = [{"params": [lesson.classifier_CD], "lr": lesson.lr * config.classifier_lr_scale}]
        if lesson.blocks:
            groups.append({"params": list(lesson.blocks.values()), "lr": lesson.lr})
        # One pass over a weight, its gradient and its momentum: the plain steps make copies of each, which took
        # a quarter of the learning time of ViT-B/32 at cut 11 on two cores.
        return torch.optim.SGD(
            groups, lr=lesson.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
        )

    def _check_losses(self, values: list[float], steps: int, lesson: _Lesson) -> None:
        for step, value in enumerate(values, start=steps - len(values) + 1):
            if not math.isfinite(value):
                raise self._diverged(f"the loss became {value} in step {step}", lesson)

    def _diverged(self, what: str, lesson: _Lesson) -> RunError:
        setting = "first_lr" if self._knowledge.experiences == 0 else "lr"
        return RunError(
            f"{what} of experience {lesson.number} at learning rate {lesson.lr:g}; lower learner.{setting}"
        )

    # -- mini-batches -------------------------------------------------------------------------------

    def _minibatches(self, lesson: _Lesson) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        """Tokens (B, T, D), labels (B,) and the memory's rows that they end with, for one epoch."""
        num_new, stored = len(lesson.labels_N), len(self.memory)
        if self.method.replay == "all":
            # Everything seen counts as new, so that each latent is used exactly once an epoch.
            union = epoch_minibatches(stored + num_new, 0, self.config.batch_size, lesson.rng)
            rows = ((rows[rows >= stored] - stored, rows[rows < stored]) for rows, _ in union)
            return self._filled(rows, lesson)
        stored = stored if self.method.replay == "memory" else 0
        return self._filled(epoch_minibatches(num_new, stored, self.config.batch_size, lesson.rng), lesson)

    def _filled(
        self, minibatches: Iterable[tuple[np.ndarray, np.ndarray]], lesson: _Lesson
    ) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        """Tokens and labels of these rows, new ones first. Copies from host to GPU are not waited for."""
        for new_rows, memory_rows in minibatches:
            tokens_BTD = lesson.latents.tokens_NTD[_on(self.device, new_rows)].float()
            labels_B = lesson.labels_N[new_rows]
            if len(memory_rows):
                drawn = self.memory.draw(memory_rows).tokens_NTD.to(self.device, non_blocking=True)
                tokens_BTD = torch.cat([tokens_BTD, drawn])
                labels_B = np.concatenate([labels_B, self.memory.labels[memory_rows]])
            yield tokens_BTD, _on(self.device, labels_B), memory_rows

    def _stored_logits(self, memory_rows: np.ndarray) -> Tensor | None:
        """Logits kept with these rows, for a method that keeps them."""
        if not self.method.keep_logits:
            return None
        return self.memory.draw_logits(memory_rows).to(self.device, non_blocking=True)

    @property
    def train_precision(self) -> str:
        """Precision of the products in training, ``float32`` or ``bfloat16``: as set, or what is native here."""
        wanted = self.config.train_precision
        if wanted == "auto":
            return "bfloat16" if has_bfloat16(self.device) else "float32"
        return wanted

    # -- forgetting, saved state --------------------------------------------------------------------

    def forget(self, label: int) -> int:
        """Remove a class: its latents, its count and its row of the classifier; returns how many latents there were.

        The blocks above the cut keep what they learned from it.
        """
        now = self._knowledge
        memory = copy.copy(now.memory)
        removed = memory.forget(label)
        classifier_CD, past_C = now.classifier_CD.clone(), now.past_C.clone()
        classifier_CD[label], past_C[label] = 0, 0  # for CWR* it has never been seen
        self._knowledge = replace(now, memory=memory, classifier_CD=classifier_CD, past_C=past_C)
        return removed

    def regroup(self, index_C: np.ndarray) -> None:
        """Classes under other numbers. Those given the same number become one: its row of the classifier is their mean,
        weighted by patterns, and their latents have one label."""
        now, index = self._knowledge, torch.from_numpy(index_C).to(self.device)
        memory = copy.copy(now.memory)
        memory.regroup(index_C)
        past_C, weight_CD, _ = pooled(now.past_C, now.classifier_CD.double(), index)
        self._knowledge = replace(now, classifier_CD=weight_CD.float(), past_C=past_C, memory=memory)

    def merge(self, other: GradientLearner) -> None:
        """Learn the other's replay memory as one more experience, and remember it as the experiences it came from.

        Classes that were not known begin with the other's rows of the classifier.

        Raises:
            ConfigError: the method or the other one keeps no latents.
            RunError: the loss or a weight is no longer finite.
        """
        memory, theirs = other.memory, other._knowledge
        if self.method.replay == "none":
            raise ConfigError(
                f"method {self.config.method} keeps nothing of what it was shown that could be merged: teach with"
                " complementary, latent_replay or slda"
            )
        if not len(memory):
            raise ConfigError(
                "the other one keeps no latents, from which its classes could be learned: teach it with a memory"
            )
        now = self._with_room(len(theirs.past_C))
        new_C = torch.zeros_like(now.past_C, dtype=torch.bool)
        new_C[: len(theirs.past_C)] = theirs.past_C.to(self.device) > 0
        new_C &= now.past_C == 0
        rows = new_C.nonzero()[:, 0]
        classifier_CD, past_C = now.classifier_CD.clone(), now.past_C.clone()
        classifier_CD[rows] = theirs.classifier_CD.to(self.device)[rows]
        past_C[rows] = theirs.past_C.to(self.device)[rows]
        now = replace(now, classifier_CD=classifier_CD, past_C=past_C)
        latents = memory.draw(np.arange(len(memory)))
        now, _ = self._learned(now, latents, memory.labels, memory.experiences + now.experiences)
        self._knowledge = replace(now, experiences=self._knowledge.experiences + theirs.experiences)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that later learning depends on: tensors, and plain data that JSON can hold."""
        now = self._knowledge
        blocks = _trained_parameters(now.head).items()
        tensors = {f"head.{name}": parameter.detach().clone() for name, parameter in blocks}
        tensors |= {"classifier": now.classifier_CD.clone(), "past": now.past_C.clone()}
        tensors |= {f"hook.{name}": value.clone() for name, value in now.hook_state.items()}
        memory_tensors, memory_plain = now.memory.state()
        tensors |= {f"memory.{name}": value for name, value in memory_tensors.items()}
        return tensors, {
            "experiences_learned": now.experiences,
            "rng": now.rng.bit_generator.state,
            "memory": memory_plain,
        }

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue exactly where the learner whose ``state`` this is stood (same head, same settings).

        Raises:
            RunError: the state belongs to another head or settings, or its parts do not fit each other.
        """

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        now = self._knowledge
        head, rng = copy.deepcopy(now.head), copy.deepcopy(now.rng)
        blocks, saved = _trained_parameters(head), under("head.")
        if set(saved) != set(blocks):
            raise RunError(
                "the saved state belongs to another head"
                f" (only there: {sorted(set(saved) - set(blocks))[:3]},"
                f" only here: {sorted(set(blocks) - set(saved))[:3]}); use the same backbone, blocks and cut"
            )
        for name, parameter in blocks.items():
            parameter.data.copy_(saved_tensor(saved, name, parameter.shape, parameter.dtype))
        hook_state = under("hook.")
        hook_of(self.method, self.config).check(hook_state, blocks)
        past_C = saved_tensor(tensors, "past", (None,), torch.float64)
        classifier_CD = saved_tensor(tensors, "classifier", (len(past_C), head.width), torch.float32)
        if not (torch.isfinite(past_C) & (past_C >= 0)).all():
            raise RunError("the saved state has counts below 0 or without end; use another copy of it")
        rng.bit_generator.state = plain["rng"]
        self._knowledge = _Knowledge(
            head=head,
            classifier_CD=classifier_CD.to(self.device, copy=True),
            past_C=past_C.to(self.device, copy=True),
            memory=self._loaded_memory(under("memory."), plain["memory"], len(past_C), head),
            rng=rng,
            hook_state={name: tensor.to(self.device, copy=True) for name, tensor in hook_state.items()},
            experiences=saved_count(plain["experiences_learned"], "experiences_learned"),
        )

    def _loaded_memory(
        self, tensors: dict[str, Tensor], plain: Any, num_classes: int, head: Head
    ) -> ReplayMemory:
        memory = copy.copy(self.memory)
        memory.load_state(tensors, plain, self.device)
        labels = memory.labels
        if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
            raise RunError("the saved memory has labels of no class; use another copy of it")
        width, kept = memory.logits_width, self.method.keep_logits and len(labels) > 0
        if (width > 0) != kept or width > num_classes:
            raise RunError("the saved memory has logits of other classes; use another copy of it")
        if len(labels):  # one stored latent through the head shows if they are of this network
            try:
                with torch.no_grad():
                    head(memory.draw(np.zeros(1, dtype=np.int64)).tokens_NTD.to(self.device))
            except ConfigError as error:
                raise RunError(
                    f"the saved memory is of another network: {error}; use another copy of it"
                ) from error
        return memory


def _feature_scale(head: Head, length: float | None) -> float | None:
    """What features are multiplied with. The final norm's gain g and shift s say how long they are: n being of unit
    variance, E |g n + s|^2 = g g + s s."""
    if length is None:
        return None
    norm = [weight.detach() for name, weight in head.named_parameters() if name.startswith("norm.")]
    return length / max(1e-12, float(sum(weight.double().square().sum() for weight in norm) ** 0.5))


def _trained_parameters(head: Head) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in head.named_parameters() if weight.requires_grad}


def _on(device: torch.device, rows: np.ndarray) -> Tensor:
    """Row numbers or labels on the device; from page-locked memory for a GPU, so that nothing waits for the copy."""
    tensor = torch.from_numpy(rows)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _read(scalars: list[Tensor]) -> list[Any]:
    """These numbers on the host, in one go."""
    return torch.stack(scalars).tolist() if scalars else []


def _all_finite(tensors: list[nn.Parameter]) -> bool:
    """If all numbers of all tensors are finite, read in one go."""
    return bool(torch.stack([torch.isfinite(tensor.detach()).all() for tensor in tensors]).all())


def _gradients(trained: dict[str, nn.Parameter]) -> dict[str, tuple[float, float]]:
    """Mean and largest absolute gradient of each trained parameter."""
    sizes = {name: weight.grad.abs() for name, weight in trained.items() if weight.grad is not None}
    means = _read([size.mean() for size in sizes.values()])
    largest = _read([size.max() for size in sizes.values()])
    return dict(zip(sizes, zip(means, largest, strict=True), strict=True))
