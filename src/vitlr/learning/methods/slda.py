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

Shape letters: N latents, T tokens, D width, C class indices known so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.errors import ConfigError
from vitlr.learning.frozen import class_sums, frozen_features, grown, masked_logits, new_patterns, stats_of
from vitlr.learning.learner import Head, LearnStats
from vitlr.learning.settings import LearnerConfig
from vitlr.storage.saved import saved_tensor

__all__ = ["SLDA", "SLDAConfig", "from_config"]


@dataclass(frozen=True, kw_only=True)
class SLDAConfig:
    """Attributes: shrinkage: of the covariance towards the unit matrix, above 0 and at most 1."""

    shrinkage: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.shrinkage <= 1:
            raise ConfigError(f"slda.shrinkage must be above 0 and at most 1, got {self.shrinkage}")


class SLDA:
    """Linear discriminants on the frozen head's features; no memory, no gradients, no randomness."""

    def __init__(self, head: Head, config: SLDAConfig | None = None) -> None:
        self.head = head
        self.config = config or SLDAConfig()
        self._counts_C = torch.zeros(0, dtype=torch.float64)
        self._means_CD = torch.zeros(0, head.width, dtype=torch.float64)
        self._scatter_DD = torch.zeros(head.width, head.width, dtype=torch.float64)
        self._solved: tuple[Tensor, Tensor] | None = None

    @property
    def known_C(self) -> Tensor:
        """(C,) bool: class indices that have been learned."""
        return self._counts_C > 0

    @property
    def num_bytes(self) -> int:
        """Bytes of what is remembered of the stream."""
        return self._scatter_DD.nbytes + self._means_CD.nbytes + self._counts_C.nbytes

    def learn(self, latents_NTD: Tensor, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn N >= 1 latents (N, T, D) with class indices (N,); errors: see ``frozen.new_patterns``."""
        features_ND, labels = new_patterns(self.head, latents_NTD, labels_N)
        num_classes = max(len(self._counts_C), int(labels.max()) + 1)
        past_C, past_CD = grown(self._counts_C, num_classes), grown(self._means_CD, num_classes)
        counts_C, sums_CD = class_sums(features_ND, labels, num_classes)
        total_C = past_C + counts_C
        means_CD = sums_CD / counts_C.clamp(min=1).unsqueeze(1)
        # Two groups of n and m patterns of a class, each with its scatter: together they have the sum of both
        # and n m / (n + m) times the outer product of the distance of their means.
        centred_ND, apart_CD = features_ND - means_CD[labels], means_CD - past_CD
        weight_C = past_C * counts_C / total_C.clamp(min=1)
        self._scatter_DD = (
            self._scatter_DD + centred_ND.T @ centred_ND + apart_CD.T @ (weight_C.unsqueeze(1) * apart_CD)
        )
        self._means_CD = past_CD + (counts_C / total_C.clamp(min=1)).unsqueeze(1) * apart_CD
        self._counts_C, self._solved = total_C, None
        return stats_of(self._logits(features_ND), labels)

    def classifier(self) -> tuple[Tensor, Tensor]:
        """Weights (C, D) and biases (C,) of the linear map from features to logits, as float64."""
        if self._solved is None:
            shrinkage, width = self.config.shrinkage, self.head.width
            covariance_DD = self._scatter_DD / self._counts_C.sum().clamp(min=1)
            shrunk_DD = (1 - shrinkage) * covariance_DD + shrinkage * torch.eye(width, dtype=torch.float64)
            weights_CD = torch.cholesky_solve(self._means_CD.T, torch.linalg.cholesky(shrunk_DD)).T
            self._solved = weights_CD, -0.5 * (weights_CD * self._means_CD).sum(dim=1)
        return self._solved

    def logits(self, latents_NTD: Tensor) -> Tensor:
        """(N, C) discriminants: log probabilities up to a term all classes share; -inf for unseen ones."""
        return self._logits(frozen_features(self.head, latents_NTD))

    def _logits(self, features_ND: Tensor) -> Tensor:
        weights_CD, bias_C = self.classifier()
        return masked_logits(features_ND @ weights_CD.T + bias_C, self.known_C)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything learned: tensors and plain data. The frozen head is not part of it."""
        tensors = {"counts": self._counts_C, "means": self._means_CD, "scatter": self._scatter_DD}
        return {name: tensor.clone() for name, tensor in tensors.items()}, {}

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue exactly where the learner whose ``state`` this is stood; RunError where it is of another one."""
        width = self.head.width
        counts_C = saved_tensor(tensors, "counts", (None,), torch.float64)
        means_CD = saved_tensor(tensors, "means", (len(counts_C), width), torch.float64)
        scatter_DD = saved_tensor(tensors, "scatter", (width, width), torch.float64)
        self._counts_C, self._means_CD = counts_C.clone(), means_CD.clone()
        self._scatter_DD, self._solved = scatter_DD.clone(), None


def from_config(head: Head, config: LearnerConfig, rng: np.random.Generator) -> SLDA:
    """The learner that ``learner.method slda`` names."""
    return SLDA(head, SLDAConfig(shrinkage=config.slda_shrinkage))
