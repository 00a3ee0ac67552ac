"""Streaming linear discriminant analysis: a mean for each class and one covariance for all of them.

Hayes & Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", CVPRW 2020
(arXiv 1909.01520). With class means mu_c, the covariance S of features around their class's mean, and
shrinkage e (1e-4 as published),

    L = ((1 - e) S + e I)^-1        logit_c = mu_c . L x - (1/2) mu_c . L mu_c

so all classes count as equally likely beforehand.

One deviation. The paper adds a pattern's outer product around its class's mean of that moment, scaled by
t / (t + 1) with t the patterns of all classes; S then depends on the order, and a class's first pattern
enters with its whole length. With t counted within the class the sum is exactly the scatter within classes
of all data seen (Welford; for whole experiences Chan, Golub & LeVeque 1979), whatever the order, and S is
that sum over the number of patterns. So it is here.

Bytes: 8 D^2 for the scatter and 8 D + 8 a class. D = 768: 4.7 MB.

Shapes: N latents, D width, C class indices known so far.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.latents.record import Latents
from vitlr.learning.frozen import (
    class_sums,
    cosine_scores,
    frozen_features,
    grown,
    masked_logits,
    new_patterns,
    pooled,
    stats_of,
    without,
)
from vitlr.learning.learner import COSINE_THRESHOLD, Head, LearnStats, LinearModel
from vitlr.learning.settings import LearnerConfig
from vitlr.storage.saved import saved_count, saved_tensor

__all__ = ["SLDA"]


@dataclass(frozen=True, kw_only=True)
class _Statistics:
    """Patterns and mean of each class, and the scatter of all patterns around their class's mean; float64.

    ``forgotten`` patterns of classes that were removed are still in the scatter.
    """

    counts_C: Tensor
    means_CD: Tensor
    scatter_DD: Tensor
    forgotten: int = 0


class SLDA:
    """Linear discriminants on the frozen head's features; no memory, no gradients, no randomness."""

    summary = "streaming linear discriminant analysis (Hayes & Kanan 2020)"
    remains = "its share of the covariance that all classes share"
    threshold = COSINE_THRESHOLD
    capacity: int | None = None

    def __init__(self, head: Head, shrinkage: float = LearnerConfig.slda_shrinkage) -> None:
        self.head = head
        self.shrinkage = shrinkage
        zeros = torch.zeros(head.width, head.width, dtype=torch.float64)
        self._statistics = _Statistics(counts_C=zeros[:0, 0], means_CD=zeros[:0], scatter_DD=zeros)
        self._solved: tuple[_Statistics, Tensor, Tensor] | None = None

    @classmethod
    def from_config(cls, head: Head, config: LearnerConfig, rng: np.random.Generator) -> SLDA:
        """The learner that ``learner.method slda`` names."""
        return cls(head, config.slda_shrinkage)

    @property
    def known_C(self) -> Tensor:
        """(C,) bool: class indices that have been learned and not forgotten."""
        return self._statistics.counts_C > 0

    @property
    def num_bytes(self) -> int:
        """Bytes of what is remembered of the stream."""
        now = self._statistics
        return now.scatter_DD.nbytes + now.means_CD.nbytes + now.counts_C.nbytes

    def counts(self) -> dict[int, int]:
        """No latents are kept."""
        return {}

    def learn(self, latents: Latents, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn N >= 1 latents with class indices (N,); errors: see ``frozen.new_patterns``."""
        features_ND, labels = new_patterns(self.head, latents, labels_N)
        old = self._statistics
        num_classes = max(len(old.counts_C), int(labels.max()) + 1)
        past_C, past_CD = grown(old.counts_C, num_classes), grown(old.means_CD, num_classes)
        counts_C, sums_CD = class_sums(features_ND, labels, num_classes)
        total_C = past_C + counts_C
        means_CD = sums_CD / counts_C.clamp(min=1).unsqueeze(1)
        # Two groups of n and m patterns of a class, each with its scatter: together they have the sum of both
        # and n m / (n + m) times the outer product of the distance of their means.
        centred_ND, apart_CD = features_ND - means_CD[labels], means_CD - past_CD
        weight_C = past_C * counts_C / total_C.clamp(min=1)
        self._statistics = replace(
            old,
            counts_C=total_C,
            means_CD=past_CD + (counts_C / total_C.clamp(min=1)).unsqueeze(1) * apart_CD,
            scatter_DD=old.scatter_DD
            + centred_ND.T @ centred_ND
            + apart_CD.T @ (weight_C.unsqueeze(1) * apart_CD),
        )
        return stats_of(self._logits(features_ND), labels)

    def classifier(self) -> tuple[Tensor, Tensor]:
        """Weights (C, D) and biases (C,) of the linear map from features to logits, as float64."""
        now = self._statistics
        if self._solved is None or self._solved[0] is not now:
            covariance_DD = now.scatter_DD / (now.counts_C.sum() + now.forgotten).clamp(min=1)
            eye_DD = torch.eye(self.head.width, dtype=torch.float64)
            shrunk_DD = (1 - self.shrinkage) * covariance_DD + self.shrinkage * eye_DD
            weights_CD = torch.cholesky_solve(now.means_CD.T, torch.linalg.cholesky(shrunk_DD)).T
            self._solved = now, weights_CD, -0.5 * (weights_CD * now.means_CD).sum(dim=1)
        return self._solved[1:]

    def answer(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """Discriminants (N, C): log probabilities up to a term all classes share, -inf for classes that are not known;
        and (N,) the largest cosine to a mean."""
        features_ND = frozen_features(self.head, latents)
        scores_N = cosine_scores(features_ND, self._statistics.means_CD, self.known_C)
        return self._logits(features_ND), scores_N

    def logits(self, latents: Latents) -> Tensor:
        """The logits of ``answer``."""
        return self.answer(latents)[0]

    def _logits(self, features_ND: Tensor) -> Tensor:
        weights_CD, bias_C = self.classifier()
        return masked_logits(features_ND @ weights_CD.T + bias_C, self.known_C)

    def forget(self, label: int) -> int:
        """Remove a class's mean and count; its share of the scatter remains."""
        old = self._statistics
        self._statistics = replace(
            old,
            counts_C=without(old.counts_C, label),
            means_CD=without(old.means_CD, label),
            forgotten=old.forgotten + int(old.counts_C[label]),
        )
        return 0

    def regroup(self, index_C: np.ndarray) -> None:
        """Classes under other numbers; those given the same number become one, exactly as if taught as one."""
        self._statistics = _regrouped(self._statistics, torch.from_numpy(index_C))

    def merge(self, other: SLDA) -> None:
        """The sums of both: equal to those of one that learned everything, up to rounding."""
        ours, theirs = self._statistics, other._statistics
        both = _Statistics(
            counts_C=torch.cat([ours.counts_C, theirs.counts_C]),
            means_CD=torch.cat([ours.means_CD, theirs.means_CD]),
            scatter_DD=ours.scatter_DD + theirs.scatter_DD,
            forgotten=ours.forgotten + theirs.forgotten,
        )
        index = torch.cat([torch.arange(len(ours.counts_C)), torch.arange(len(theirs.counts_C))])
        self._statistics = _regrouped(both, index)

    def linear_model(self) -> LinearModel:
        """The frozen head and the discriminants, in float32."""
        weights_CD, bias_C = self.classifier()
        return LinearModel(self.head, weights_CD.float(), bias_C.float())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything learned: tensors and plain data. The frozen head is not part of it."""
        now = self._statistics
        tensors = {"counts": now.counts_C, "means": now.means_CD, "scatter": now.scatter_DD}
        return {name: tensor.clone() for name, tensor in tensors.items()}, {"forgotten": now.forgotten}

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue exactly from a saved state. Raises RunError if it is of another learner."""
        width = self.head.width
        counts_C = saved_tensor(tensors, "counts", (None,), torch.float64)
        means_CD = saved_tensor(tensors, "means", (len(counts_C), width), torch.float64)
        scatter_DD = saved_tensor(tensors, "scatter", (width, width), torch.float64)
        self._statistics = _Statistics(
            counts_C=counts_C.clone(),
            means_CD=means_CD.clone(),
            scatter_DD=scatter_DD.clone(),
            forgotten=saved_count(plain.get("forgotten", 0), "forgotten"),
        )


def _regrouped(statistics: _Statistics, index_C: Tensor) -> _Statistics:
    counts_C, means_CD, between_CD = pooled(statistics.counts_C, statistics.means_CD, index_C)
    return replace(
        statistics,
        counts_C=counts_C,
        means_CD=means_CD,
        scatter_DD=torch.addmm(statistics.scatter_DD, between_CD.T, between_CD),
    )
