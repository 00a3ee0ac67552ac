"""Two memories: statistics of every image, and a head trained by replay of a few, joined by held-out error.

Complementary learning systems (McClelland, McNaughton & O'Reilly, Psychological Review 1995) are the idea: one memory
that takes in every image at once and forgets none, one that learns slowly from a mixture of new and old. Here the first
is ``learning.statistics``, the second latent replay (Pellegrini et al. 2020, arXiv 1912.01100) with a plain linear
classifier, and ``learning.joining`` says how far each is trusted.

One experience:

1. images of known classes are predicted by both parts as they stand; the scores are kept as held-out ones;
2. means and scatter take in the class tokens of every image and of the random views that were encoded;
3. the head learns new and replayed latents;
4. all of it is published in one assignment.

Shapes: N latents, M views, K blocks, W = K D joined width, C class indices known so far.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.errors import RunError
from vitlr.latents.record import Latents
from vitlr.learning.familiarity import THRESHOLD, Familiarity, familiarity, shares
from vitlr.learning.frozen import grown
from vitlr.learning.gradient import GradientLearner
from vitlr.learning.joining import HeldOut, exponents, share_of
from vitlr.learning.learner import UNSEEN, Head, LearnStats, LinearModel, check_pairs
from vitlr.learning.method import Method
from vitlr.learning.settings import LearnerConfig
from vitlr.learning.statistics import (
    Statistics,
    discriminants,
    joined,
    packed,
    scale_of_scores,
    unpacked,
)
from vitlr.replay.memory import MemoryConfig
from vitlr.storage.saved import saved_tensor

__all__ = ["Complementary"]

# The part that is trained: a plain classifier, as CWR*'s averages would be calibrated anew with every experience.
REPLAY = Method(
    name="replay",
    summary="",
    replay="memory",
    consolidate=False,
    feature_norm=60.0,
    least_steps=24,
    least_passes=768,
    gradient_norm=1.0,
)
_HELD_OUT = 32  # images of one experience that are kept as held out
# Predicting them takes a solution of the statistics: after some experiences only every so many are asked.
_EVERY_FROM, _EVERY = 16, 8


@dataclass(frozen=True, kw_only=True, eq=False)
class _Knowledge:
    """Both memories and what joins them. Never changed, only replaced as a whole."""

    statistics: Statistics
    replay: GradientLearner
    held_out: HeldOut


class Complementary:
    """Statistics and replay, joined; see ``learning.learner.Learner``.

    Args:
        head: from tokens at the cut to features. config, memory: settings.
        class_tokens: K, class tokens that each latent brings.
        rng: of the replay's shuffles and draws; copied.
    """

    summary = "two memories: statistics of every image, and a head trained by replay"
    remains = "its share of the covariance that all classes share, and what the blocks above the cut learned from it"
    threshold = THRESHOLD

    def __init__(
        self,
        head: Head,
        config: LearnerConfig,
        memory: MemoryConfig,
        class_tokens: int,
        rng: np.random.Generator,
    ) -> None:
        self.config = config
        self._width = class_tokens * head.width
        self._knowledge = _Knowledge(
            statistics=Statistics.empty(self._width),
            replay=GradientLearner(head, config, memory, rng, method=REPLAY),
            held_out=HeldOut.empty(),
        )
        self._solved: tuple[Statistics, Tensor, Tensor, Tensor] | None = None
        self._familiarity: tuple[Statistics, Familiarity] | None = None
        self._joined: tuple[HeldOut, tuple[float, float]] | None = None

    # -- what it knows ------------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The head as it was learned so far; not to be changed."""
        return self._knowledge.replay.head

    @property
    def replay(self) -> GradientLearner:
        """The part that is trained."""
        return self._knowledge.replay

    @property
    def statistics(self) -> Statistics:
        """The part in closed form."""
        return self._knowledge.statistics

    @property
    def known_C(self) -> Tensor:
        """(C,) bool: class indices that have been learned and not forgotten."""
        return self._knowledge.statistics.counts_C > 0

    @property
    def num_bytes(self) -> int:
        """Bytes of both memories and of the held-out scores."""
        now = self._knowledge
        return now.statistics.num_bytes + now.replay.num_bytes + now.held_out.num_bytes

    @property
    def capacity(self) -> int | None:
        """Latents kept at most."""
        return self._knowledge.replay.capacity

    def counts(self) -> dict[int, int]:
        """Latents in the replay memory, by class index."""
        return self._knowledge.replay.counts()

    @property
    def exponents(self) -> tuple[float, float]:
        """How far the head and the statistics are trusted; see ``learning.joining``."""
        held_out = self._knowledge.held_out
        if self._joined is None or self._joined[0] is not held_out:
            self._joined = held_out, exponents(held_out)
        return self._joined[1]

    # -- answers --------------------------------------------------------------------------------------

    def answer(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """Calibrated log-probabilities (N, C), -inf for classes that are not known, and scores (N,), 0..1: the share of
        taught images that would look less familiar (``learning.familiarity``)."""
        familiar_N = self._familiar(latents.class_tokens_NKD)
        classes = int(self.known_C.sum())
        return self.logits(latents), shares(familiar_N, self._knowledge.held_out.familiar_P, classes)

    def logits(self, latents: Latents) -> Tensor:
        """The log-probabilities of ``answer``."""
        return self._log_probabilities(*self.parts(latents))

    def parts(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """Logits (N, C) of the head alone and of the statistics alone."""
        return self._knowledge.replay.logits(latents), self._scores(latents.class_tokens_NKD)

    def _familiar(self, class_tokens_NKD: Tensor) -> Tensor:
        """(N,) scores of ``learning.familiarity``; 0 if nothing is known."""
        now = self._knowledge.statistics
        if not bool(self.known_C.any()):
            return torch.zeros(len(class_tokens_NKD))
        if self._familiarity is None or self._familiarity[0] is not now:
            self._familiarity = now, familiarity(now, self._discriminants()[2])
        return self._familiarity[1].scores(joined(class_tokens_NKD))

    def _log_probabilities(self, head_NC: Tensor, statistics_NC: Tensor) -> Tensor:
        a, b = self.exponents
        known_C = self.known_C
        scores_NC = a * head_NC.double() + b * statistics_NC.double()
        return scores_NC.masked_fill(~known_C, UNSEEN).log_softmax(dim=1).float()

    def _scores(self, class_tokens_NKD: Tensor) -> Tensor:
        """(N, C) discriminants, float32, -inf for classes that are not known."""
        now = self._knowledge.statistics
        if len(now.counts_C) == 0:
            return torch.zeros(len(class_tokens_NKD), 0)
        weights_CW, bias_C, _ = self._discriminants()
        scores_NC = joined(class_tokens_NKD) @ weights_CW.T + bias_C
        return scores_NC.masked_fill(~(now.counts_C > 0), UNSEEN).float()

    def _discriminants(self) -> tuple[Tensor, Tensor, Tensor]:
        """(C, W) weights and (C,) biases of the statistics' scores, and the weights before these were scaled; solved
        when they are first asked for."""
        now = self._knowledge.statistics
        if self._solved is None or self._solved[0] is not now:
            weights_CW, bias_C = discriminants(now)
            scale = scale_of_scores(weights_CW, now)
            self._solved = now, scale * weights_CW, scale * bias_C, weights_CW
        return self._solved[1:]

    # -- learning -------------------------------------------------------------------------------------

    def learn(self, latents: Latents, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn one experience of N >= 1 latents with class indices (N,).

        Raises:
            ValueError: no latents, or latents and labels of different length, or without class tokens.
            RunError: a class token, the loss or a weight is not finite.
        """
        labels_N, now = check_pairs(latents, labels_N), self._knowledge
        labels = torch.from_numpy(labels_N.copy())
        images_NW, views_MW = joined(latents.class_tokens_NKD), joined(latents.views_MKD)
        if images_NW.shape[1] != self._width:
            raise ValueError(f"latents bring class tokens of width {images_NW.shape[1]}, not {self._width}")
        if not bool(torch.isfinite(images_NW).all() and torch.isfinite(views_MW).all()):
            raise RunError(
                "class tokens of an image are not finite, nothing was learned; use backbone.precision float32 or leave"
                " that image out"
            )
        held_out = self._predicted(latents, labels_N)
        view_labels = labels[torch.from_numpy(latents.view_rows_M)]
        replay = copy.copy(now.replay)
        stats = replay.learn(latents, labels_N, experience)
        self._knowledge = _Knowledge(
            statistics=now.statistics.added(images_NW, labels, views_MW, view_labels),
            replay=replay,
            held_out=held_out,
        )
        return stats

    def _predicted(self, latents: Latents, labels_N: np.ndarray) -> HeldOut:
        """Held-out scores with those of images whose class is known already, before they are learned."""
        now = self._knowledge
        known, lessons = np.flatnonzero(self.known_C.numpy()), now.replay.experiences_learned
        rows = np.flatnonzero(np.isin(labels_N, known))
        if len(rows) == 0 or len(known) < 2 or (lessons >= _EVERY_FROM and lessons % _EVERY):
            return now.held_out
        rows = rows[share_of(len(rows), _HELD_OUT)]
        chosen = latents[rows]
        familiar_P = self._familiar(chosen.class_tokens_NKD)
        return now.held_out.added(*self.parts(chosen), torch.from_numpy(labels_N[rows]), familiar_P)

    def forget(self, label: int) -> int:
        """Remove a class from both memories; returns how many latents there were."""
        now, replay = self._knowledge, copy.copy(self._knowledge.replay)
        removed = replay.forget(label)
        self._knowledge = _Knowledge(
            statistics=now.statistics.without_class(label),
            replay=replay,
            held_out=now.held_out.without_class(label),
        )
        return removed

    def regroup(self, index_C: np.ndarray) -> None:
        """Classes under other numbers; those given the same number become one in both memories."""
        now, replay = self._knowledge, copy.copy(self._knowledge.replay)
        replay.regroup(index_C)
        self._knowledge = _Knowledge(
            statistics=now.statistics.regrouped(torch.from_numpy(index_C)),
            replay=replay,
            held_out=now.held_out.regrouped(index_C),
        )

    def merge(self, other: Complementary) -> None:
        """The statistics of both, exactly; the head learns the other's replay memory as one more experience."""
        now, replay = self._knowledge, copy.copy(self._knowledge.replay)
        replay.merge(other.replay)
        self._knowledge = replace(now, statistics=now.statistics.merged(other.statistics), replay=replay)

    def linear_model(self) -> LinearModel | None:
        """Both parts, each with its exponent; None before anything was learned."""
        now = self._knowledge
        if not bool(self.known_C.any()):
            return None
        a, b = self.exponents
        weights_CW, bias_C, _ = self._discriminants()
        model = now.replay.linear_model()
        return LinearModel(model.head, a * model.weight_CD, b * bias_C, b * weights_CW)

    # -- saved state ------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that later learning depends on: tensors, and plain data that JSON can hold."""
        now = self._knowledge
        tensors, plain = now.replay.state()
        tensors = {f"replay.{name}": tensor for name, tensor in tensors.items()}
        tensors |= {
            "statistics.counts": now.statistics.counts_C.clone(),
            "statistics.views": now.statistics.views_C.clone(),
            "statistics.independent": now.statistics.independent_C.clone(),
            "statistics.means": now.statistics.means_CW.clone(),
            "statistics.scatter": packed(now.statistics.scatter_WW),
            "held_out.head": now.held_out.head_PC.clone(),
            "held_out.statistics": now.held_out.statistics_PC.clone(),
            "held_out.labels": now.held_out.labels_P.clone(),
            "held_out.familiar": now.held_out.familiar_P.clone(),
        }
        forgotten = [now.statistics.forgotten, now.statistics.forgotten_independent]
        return tensors, {"replay": plain, "forgotten": forgotten}

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue exactly from a saved state. Raises RunError if it is of another learner."""
        width, real = self._width, torch.float64
        counts_C = saved_tensor(tensors, "statistics.counts", (None,), real)
        num = len(counts_C)
        triangle = saved_tensor(tensors, "statistics.scatter", (width * (width + 1) // 2,), real)
        forgotten, forgotten_independent = (float(number) for number in plain["forgotten"])
        statistics = Statistics(
            counts_C=counts_C.clone(),
            views_C=saved_tensor(tensors, "statistics.views", (num,), real).clone(),
            independent_C=saved_tensor(tensors, "statistics.independent", (num,), real).clone(),
            means_CW=saved_tensor(tensors, "statistics.means", (num, width), real).clone(),
            scatter_WW=unpacked(triangle, width),
            forgotten=forgotten,
            forgotten_independent=forgotten_independent,
        )
        head_PC = saved_tensor(tensors, "held_out.head", (None, None), torch.float32)
        labels_P = saved_tensor(tensors, "held_out.labels", (len(head_PC),), torch.int64)
        if len(labels_P) and not (labels_P.min() >= 0 and labels_P.max() < head_PC.shape[1] <= num):
            raise RunError("the saved state has held-out scores of other classes; use another copy of it")
        held_out = HeldOut(
            head_PC.clone(),
            saved_tensor(tensors, "held_out.statistics", tuple(head_PC.shape), torch.float32).clone(),
            labels_P.clone(),
            saved_tensor(tensors, "held_out.familiar", (len(labels_P),), torch.float32).clone(),
        )
        replay = copy.copy(self._knowledge.replay)
        own = {name.removeprefix("replay."): t for name, t in tensors.items() if name.startswith("replay.")}
        replay.load_state(own, plain["replay"])
        if replay.known_C.tolist() != (grown(counts_C, len(replay.known_C)) > 0).tolist():
            raise RunError("the saved state has two memories of other classes; use another copy of it")
        self._knowledge = _Knowledge(statistics=statistics, replay=replay, held_out=held_out)
        self._solved = self._joined = self._familiarity = None
