"""RanPAC: a random projection, a ReLU and ridge regression to one-hot targets, streamed exactly.

McDonnell et al., "RanPAC: Random Projections and Pre-trained Models for Continual Learning", NeurIPS 2023
(arXiv 2307.02251), algorithm 1: its phase 2 alone, since phase 1 fine-tunes the backbone on the first task
and the trunk here is frozen. With W (D, M) drawn once from a standard normal and h = relu(W^T x),

    G = sum h h^T        Q = sum h y^T        logits = h^T (G + l I)^-1 Q

G and Q are sums over everything seen, so the order of the stream does not matter and nothing is forgotten.
The ridge l is chosen by held-out error, see :mod:`vitlr.learning.ridge`; then all of it is used.

Bytes: 16 M^2 for both matrices (half with a given ridge), 4 D M for W. D = 768, M = 2000: 70 MB; M = 10000,
the paper's choice: 1.6 GB.

Shapes: N latents, D width, M projected width, C class indices known so far, P parts (fit, held out).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.errors import ConfigError, RunError
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
from vitlr.learning.ridge import chosen_ridge, ridge_solution
from vitlr.learning.settings import LearnerConfig
from vitlr.storage.saved import saved_tensor

__all__ = ["RanPAC"]

HELD_OUT = 0.2


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """G, Q and the patterns of each class, float64, and the random state that draws what is held out next."""

    gram_PMM: Tensor
    sums_CPM: Tensor
    counts_CP: Tensor
    rng: np.random.Generator


class RanPAC:
    """Ridge regression on a random projection of the features; ``rng`` draws it, and what is held out.

    Args:
        width: M. ridge: l; None chooses it by held-out error.
    """

    summary = "random projection and ridge regression (McDonnell et al. 2023)"
    remains = "its share of the Gram matrix that all classes share"
    threshold = COSINE_THRESHOLD
    capacity: int | None = None

    def __init__(self, head: Head, width: int, ridge: float | None, rng: np.random.Generator) -> None:
        self.head, self._ridge = head, ridge
        parts = 2 if ridge is None else 1
        self._projection_DM = torch.from_numpy(rng.standard_normal((head.width, width), dtype=np.float32))
        self._sums = _Sums(
            gram_PMM=torch.zeros(parts, width, width, dtype=torch.float64),
            sums_CPM=torch.zeros(0, parts, width, dtype=torch.float64),
            counts_CP=torch.zeros(0, parts, dtype=torch.float64),
            rng=rng,
        )
        self._solved: tuple[_Sums, Tensor, float, float] | None = None

    @classmethod
    def from_config(cls, head: Head, config: LearnerConfig, rng: np.random.Generator) -> RanPAC:
        """The learner that ``learner.method ranpac`` names."""
        return cls(head, config.ranpac_width, config.ranpac_ridge, rng)

    @property
    def known_C(self) -> Tensor:
        """(C,) bool: class indices that have been learned and not forgotten."""
        return self._sums.counts_CP.sum(dim=1) > 0

    @property
    def ridge(self) -> float:
        """The ridge in use, chosen anew after each experience unless it was given."""
        return self._solution()[1]

    @property
    def num_bytes(self) -> int:
        """Bytes of what is remembered of the stream, and of the projection."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def counts(self) -> dict[int, int]:
        """No latents are kept."""
        return {}

    def learn(self, latents: Latents, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn N >= 1 latents with class indices (N,); errors: see ``frozen.new_patterns``."""
        features_ND, labels = new_patterns(self.head, latents, labels_N)
        projected_NM, old = self._project(features_ND), self._sums
        num_classes, rng = max(len(old.counts_CP), int(labels.max()) + 1), copy.deepcopy(old.rng)
        share = HELD_OUT if self._ridge is None else 0.0
        part_N = torch.from_numpy(rng.random(len(labels)) < share).long()
        gram_PMM = old.gram_PMM.clone()
        counts_CP, sums_CPM = (
            grown(old.counts_CP, num_classes).clone(),
            grown(old.sums_CPM, num_classes).clone(),
        )
        for part in range(len(gram_PMM)):
            own_NM, own_N = projected_NM[part_N == part], labels[part_N == part]
            counts_C, sums_CM = class_sums(own_NM, own_N, num_classes)
            gram_PMM[part].addmm_(own_NM.T, own_NM)
            counts_CP[:, part] += counts_C
            sums_CPM[:, part] += sums_CM
        self._sums = _Sums(gram_PMM=gram_PMM, sums_CPM=sums_CPM, counts_CP=counts_CP, rng=rng)
        return stats_of(self._logits(projected_NM), labels)

    def answer(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """Estimates of the one-hot targets (N, C), scaled (``frozen.certainty``); -inf for classes that are not known.
        And (N,) the largest cosine to a class's mean in the projected space."""
        projected_NM = self._project(frozen_features(self.head, latents))
        scores_N = cosine_scores(projected_NM, self._sums.sums_CPM.sum(dim=1), self.known_C)
        return self._logits(projected_NM), scores_N

    def logits(self, latents: Latents) -> Tensor:
        """The logits of ``answer``."""
        return self.answer(latents)[0]

    def _project(self, features_ND: Tensor) -> Tensor:
        return (features_ND.float() @ self._projection_DM).relu_().double()

    def _logits(self, projected_NM: Tensor) -> Tensor:
        weights_MC, _, scale = self._solution()
        return masked_logits(scale * (projected_NM @ weights_MC), self.known_C)

    def _solution(self) -> tuple[Tensor, float, float]:
        """Weights (M, C), the ridge they were found with, and what estimates are scaled by."""
        now = self._sums
        if self._solved is None or self._solved[0] is not now:
            gram_MM, sums_MC = now.gram_PMM.sum(dim=0), now.sums_CPM.sum(dim=1).T
            ridge = self._ridge or chosen_ridge(now.gram_PMM, now.sums_CPM.permute(1, 2, 0))
            # A ridge below the rounding of G leaves it singular: the next larger one that does not is taken.
            while (weights_MC := ridge_solution(gram_MM, sums_MC, ridge)) is None:
                ridge *= 10
            counts_C, known_C = now.counts_CP.sum(dim=1), self.known_C
            means_CM = now.sums_CPM.sum(dim=1)[known_C] / counts_C[known_C].unsqueeze(1)
            self._solved = now, weights_MC, ridge, certainty(means_CM @ weights_MC[:, known_C])
        return self._solved[1:]

    def forget(self, label: int) -> int:
        """Remove a class's targets and count; its share of the Gram matrix remains."""
        old = self._sums
        self._sums = _Sums(
            gram_PMM=old.gram_PMM,
            sums_CPM=without(old.sums_CPM, label),
            counts_CP=without(old.counts_CP, label),
            rng=old.rng,
        )
        return 0

    def regroup(self, index_C: np.ndarray) -> None:
        """Classes under other numbers; the sums of those given the same number are added."""
        now, index = self._sums, torch.from_numpy(index_C)
        self._sums = replace(
            now, sums_CPM=regrouped(now.sums_CPM, index), counts_CP=regrouped(now.counts_CP, index)
        )

    def merge(self, other: RanPAC) -> None:
        """The sums of both. Raises ConfigError if the other's projection is another one, or holds nothing out."""
        if not torch.equal(self._projection_DM, other._projection_DM):
            raise ConfigError(
                "the two were projected at random in different ways: teach both with the same random_state and"
                " ranpac_width"
            )
        ours, theirs = self._sums, other._sums
        if ours.gram_PMM.shape != theirs.gram_PMM.shape:
            raise ConfigError(
                "one of the two chooses its ridge by what it holds out and the other was given one: teach both with the"
                " same ranpac_ridge, or both without"
            )
        size = max(len(ours.counts_CP), len(theirs.counts_CP))
        self._sums = replace(
            ours,
            gram_PMM=ours.gram_PMM + theirs.gram_PMM,
            sums_CPM=grown(ours.sums_CPM, size) + grown(theirs.sums_CPM, size),
            counts_CP=grown(ours.counts_CP, size) + grown(theirs.counts_CP, size),
        )

    def linear_model(self) -> None:
        """A ReLU stands between the features and the classifier."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that later learning depends on: tensors, and plain data that JSON can hold."""
        plain = {"rng": self._sums.rng.bit_generator.state}
        return {name: tensor.clone() for name, tensor in self._tensors().items()}, plain

    def _tensors(self) -> dict[str, Tensor]:
        now = self._sums
        tensors = {"projection": self._projection_DM, "gram": now.gram_PMM}
        return tensors | {"sums": now.sums_CPM, "counts": now.counts_CP}

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue exactly from a saved state. Raises RunError if it is of another learner."""
        own, rng = self._tensors(), copy.deepcopy(self._sums.rng)
        for name in own:
            size = None if name in ("sums", "counts") else own[name].shape[0]  # their rows are classes
            saved_tensor(tensors, name, (size, *own[name].shape[1:]), own[name].dtype)
        if len(tensors["sums"]) != len(tensors["counts"]):
            raise RunError("the saved state has sums and counts of other classes; use another copy of it")
        rng.bit_generator.state = plain["rng"]
        self._projection_DM = tensors["projection"].clone()
        self._sums = _Sums(
            gram_PMM=tensors["gram"].clone(),
            sums_CPM=tensors["sums"].clone(),
            counts_CP=tensors["counts"].clone(),
            rng=rng,
        )
