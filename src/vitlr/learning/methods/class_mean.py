"""Nearest class mean: remember one mean feature a class, predict the class whose mean is nearest.

Mensink et al., "Distance-Based Image Classification: Generalizing to New Classes at Near-Zero Cost", TPAMI
2013; with cosine similarity as in McDonnell et al. 2023 (arXiv 2307.02251, section 3), where the means
are those of the features as they are, not of normalised ones. Cannot forget: a mean is the same in whatever
order its patterns came. Bytes: 8 D + 8 a class.

Shapes: N latents, D width, C class indices known so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitlr.latents.record import Latents
from vitlr.learning.frozen import (
    certainty,
    class_sums,
    cosine_scores,
    frozen_features,
    grown,
    masked_logits,
    new_patterns,
    regrouped,
    stats_of,
    without,
)
from vitlr.learning.learner import COSINE_THRESHOLD, Head, LearnStats
from vitlr.learning.settings import LearnerConfig
from vitlr.storage.saved import saved_tensor

__all__ = ["NearestClassMean"]


@dataclass(frozen=True)
class _Sums:
    """Patterns of each class, and the sum of their features; float64."""

    counts_C: Tensor
    sums_CD: Tensor


class NearestClassMean:
    """Class means of the frozen head's features; no memory, no gradients, no randomness."""

    summary = "nearest class mean of frozen features"
    remains = ""
    threshold = COSINE_THRESHOLD
    capacity: int | None = None

    def __init__(self, head: Head) -> None:
        self.head = head
        zeros = torch.zeros(0, head.width, dtype=torch.float64)
        self._sums = _Sums(zeros[:, 0], zeros)

    @classmethod
    def from_config(cls, head: Head, config: LearnerConfig, rng: np.random.Generator) -> NearestClassMean:
        """The learner that ``learner.method class_mean`` names."""
        return cls(head)

    @property
    def known_C(self) -> Tensor:
        """(C,) bool: class indices that have been learned and not forgotten."""
        return self._sums.counts_C > 0

    @property
    def means_CD(self) -> Tensor:
        """(C, D) mean feature of each class; zero for classes that are not known."""
        return self._sums.sums_CD / self._sums.counts_C.clamp(min=1).unsqueeze(1)

    @property
    def num_bytes(self) -> int:
        """Bytes of what is remembered of the stream."""
        return self._sums.sums_CD.nbytes + self._sums.counts_C.nbytes

    def counts(self) -> dict[int, int]:
        """No latents are kept."""
        return {}

    def learn(self, latents: Latents, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn N >= 1 latents with class indices (N,); errors: see ``frozen.new_patterns``."""
        features_ND, labels = new_patterns(self.head, latents, labels_N)
        old = self._sums
        num_classes = max(len(old.counts_C), int(labels.max()) + 1)
        counts_C, sums_CD = class_sums(features_ND, labels, num_classes)
        self._sums = _Sums(
            grown(old.counts_C, num_classes) + counts_C, grown(old.sums_CD, num_classes) + sums_CD
        )
        return stats_of(self._logits(features_ND), labels)

    def answer(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """Cosine similarities to the means (N, C), scaled (``frozen.certainty``), -inf for classes that are not known,
        and the largest similarity (N,)."""
        features_ND = frozen_features(self.head, latents)
        return self._logits(features_ND), cosine_scores(features_ND, self.means_CD, self.known_C)

    def logits(self, latents: Latents) -> Tensor:
        """The logits of ``answer``."""
        return self.answer(latents)[0]

    def _logits(self, features_ND: Tensor) -> Tensor:
        means_CD = functional.normalize(self.means_CD, dim=1)
        known_CD = means_CD[self.known_C]
        scale = certainty(known_CD @ known_CD.T)
        return masked_logits(scale * (functional.normalize(features_ND, dim=1) @ means_CD.T), self.known_C)

    def forget(self, label: int) -> int:
        """Remove a class's mean and count; nothing of it remains."""
        self._sums = _Sums(without(self._sums.counts_C, label), without(self._sums.sums_CD, label))
        return 0

    def regroup(self, index_C: np.ndarray) -> None:
        """Classes under other numbers; the sums of those given the same number are added."""
        index = torch.from_numpy(index_C)
        self._sums = _Sums(regrouped(self._sums.counts_C, index), regrouped(self._sums.sums_CD, index))

    def merge(self, other: NearestClassMean) -> None:
        """The sums of both: equal to those of one that learned everything, up to rounding."""
        ours, theirs = self._sums, other._sums
        size = max(len(ours.counts_C), len(theirs.counts_C))
        self._sums = _Sums(
            grown(ours.counts_C, size) + grown(theirs.counts_C, size),
            grown(ours.sums_CD, size) + grown(theirs.sums_CD, size),
        )

    def linear_model(self) -> None:
        """Cosine similarity divides by each image's own length, so this is no linear classifier."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything learned: tensors and plain data. The frozen head is not part of it."""
        return {"counts": self._sums.counts_C.clone(), "sums": self._sums.sums_CD.clone()}, {}

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue exactly from a saved state. Raises RunError if it is of another learner."""
        counts_C = saved_tensor(tensors, "counts", (None,), torch.float64)
        sums_CD = saved_tensor(tensors, "sums", (len(counts_C), self.head.width), torch.float64)
        self._sums = _Sums(counts_C.clone(), sums_CD.clone())
