"""Nearest class mean: remember one mean feature a class, predict the class whose mean is nearest.

Mensink et al., "Distance-Based Image Classification: Generalizing to New Classes at Near-Zero Cost", TPAMI
2013; with cosine similarity as in McDonnell et al. 2023 (arXiv 2307.02251, section 3), where the means
are those of the features as they are, not of normalised ones. Cannot forget: a mean is the same in whatever
order its patterns came. Bytes: 8 D + 8 a class.

Shape letters: N latents, T tokens, D width, C class indices known so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitlr.errors import ConfigError
from vitlr.learning.frozen import class_sums, frozen_features, grown, masked_logits, new_patterns, stats_of
from vitlr.learning.learner import Head, LearnStats
from vitlr.learning.settings import LearnerConfig
from vitlr.storage.saved import saved_tensor

__all__ = ["ClassMeanConfig", "NearestClassMean", "from_config"]

METRICS = ("cosine", "euclidean")


@dataclass(frozen=True, kw_only=True)
class ClassMeanConfig:
    """Attributes: metric: cosine (similarity of directions) or euclidean (distance)."""

    metric: str = "cosine"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"class_mean.metric must be one of {', '.join(METRICS)}, got {self.metric!r}")


class NearestClassMean:
    """Class means of the frozen head's features; no memory, no gradients, no randomness."""

    def __init__(self, head: Head, config: ClassMeanConfig | None = None) -> None:
        self.head = head
        self.config = config or ClassMeanConfig()
        self._counts_C = torch.zeros(0, dtype=torch.float64)
        self._sums_CD = torch.zeros(0, head.width, dtype=torch.float64)

    @property
    def known_C(self) -> Tensor:
        """(C,) bool: class indices that have been learned."""
        return self._counts_C > 0

    @property
    def means_CD(self) -> Tensor:
        """(C, D) mean feature of each class; zero for classes never seen."""
        return self._sums_CD / self._counts_C.clamp(min=1).unsqueeze(1)

    @property
    def num_bytes(self) -> int:
        """Bytes of what is remembered of the stream."""
        return self._sums_CD.nbytes + self._counts_C.nbytes

    def learn(self, latents_NTD: Tensor, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn N >= 1 latents (N, T, D) with class indices (N,); errors: see ``frozen.new_patterns``."""
        features_ND, labels = new_patterns(self.head, latents_NTD, labels_N)
        num_classes = max(len(self._counts_C), int(labels.max()) + 1)
        counts_C, sums_CD = class_sums(features_ND, labels, num_classes)
        self._counts_C = grown(self._counts_C, num_classes) + counts_C
        self._sums_CD = grown(self._sums_CD, num_classes) + sums_CD
        return stats_of(self._logits(features_ND), labels)

    def logits(self, latents_NTD: Tensor) -> Tensor:
        """(N, C): cosine similarity, or minus half the squared distance; -inf for classes never seen."""
        return self._logits(frozen_features(self.head, latents_NTD))

    def _logits(self, features_ND: Tensor) -> Tensor:
        means_CD = self.means_CD
        if self.config.metric == "cosine":
            scores_NC = functional.normalize(features_ND, dim=1) @ functional.normalize(means_CD, dim=1).T
        else:
            # Half of it: the log density of Gaussians of unit covariance, which the softmax then normalises.
            distances_NC = torch.cdist(features_ND, means_CD, compute_mode="donot_use_mm_for_euclid_dist")
            scores_NC = -0.5 * distances_NC**2
        return masked_logits(scores_NC, self.known_C)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything learned: tensors and plain data. The frozen head is not part of it."""
        return {"counts": self._counts_C.clone(), "sums": self._sums_CD.clone()}, {}

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue exactly where the learner whose ``state`` this is stood; RunError where it is of another one."""
        counts_C = saved_tensor(tensors, "counts", (None,), torch.float64)
        sums_CD = saved_tensor(tensors, "sums", (len(counts_C), self.head.width), torch.float64)
        self._counts_C, self._sums_CD = counts_C.clone(), sums_CD.clone()


def from_config(head: Head, config: LearnerConfig, rng: np.random.Generator) -> NearestClassMean:
    """The learner that ``learner.method class_mean`` names."""
    return NearestClassMean(head)
