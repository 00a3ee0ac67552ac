"""RanPAC: a random projection, a ReLU and ridge regression to one-hot targets, streamed exactly.

McDonnell et al., "RanPAC: Random Projections and Pre-trained Models for Continual Learning", NeurIPS 2023
(arXiv 2307.02251), algorithm 1: its phase 2 alone, since phase 1 fine-tunes the backbone on the first task
and the trunk here is frozen. With W (D, M) drawn once from a standard normal and h = relu(W^T x),

    G = sum h h^T        Q = sum h y^T        logits = h^T (G + l I)^-1 Q

G and Q are sums over everything seen, so the order of the stream does not matter and nothing is forgotten.
The ridge l is chosen by held-out error, see :mod:`vitlr.learning.ridge`; then all of it is used.

Bytes: 16 M^2 for both matrices (half with a given ridge), 4 D M for W. D = 768, M = 2000: 70 MB; M = 10000,
the paper's choice: 1.6 GB.

Shape letters: N latents, T tokens, D width, M projected width, C classes, P parts (fit, held out).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.errors import ConfigError, RunError
from vitlr.learning.frozen import class_sums, frozen_features, grown, masked_logits, new_patterns, stats_of
from vitlr.learning.learner import Head, LearnStats
from vitlr.learning.ridge import chosen_ridge, ridge_solution
from vitlr.learning.settings import LearnerConfig
from vitlr.storage.saved import saved_tensor

__all__ = ["RanPAC", "RanPACConfig", "from_config"]

HELD_OUT = 0.2


@dataclass(frozen=True, kw_only=True)
class RanPACConfig:
    """Attributes: width: M, of the projection. ridge: l; None chooses it by held-out error."""

    width: int = 2000
    ridge: float | None = None

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"ranpac.width must be >= 1, got {self.width}")
        if self.ridge is not None and not (math.isfinite(self.ridge) and self.ridge > 0):
            raise ConfigError(f"ranpac.ridge must be a finite number above 0, got {self.ridge}")


class RanPAC:
    """Ridge regression on a random projection of the features; ``rng`` draws it, and what is held out."""

    def __init__(self, head: Head, config: RanPACConfig, rng: np.random.Generator) -> None:
        self.head = head
        self.config = config
        self.rng = rng
        parts, width = 2 if config.ridge is None else 1, config.width
        self._projection_DM = torch.from_numpy(rng.standard_normal((head.width, width), dtype=np.float32))
        self._gram_PMM = torch.zeros(parts, width, width, dtype=torch.float64)
        self._sums_CPM = torch.zeros(0, parts, width, dtype=torch.float64)
        self._counts_CP = torch.zeros(0, parts, dtype=torch.float64)
        self._solved: tuple[Tensor, float] | None = None

    @property
    def known_C(self) -> Tensor:
        """(C,) bool: class indices that have been learned."""
        return self._counts_CP.sum(dim=1) > 0

    @property
    def ridge(self) -> float:
        """The ridge in use, chosen anew after each experience unless it was given."""
        return self._solution()[1]

    @property
    def num_bytes(self) -> int:
        """Bytes of what is remembered of the stream, and of the projection."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def learn(self, latents_NTD: Tensor, labels_N: np.ndarray, experience: int) -> LearnStats:
        """Learn N >= 1 latents (N, T, D) with class indices (N,); errors: see ``frozen.new_patterns``."""
        features_ND, labels = new_patterns(self.head, latents_NTD, labels_N)
        projected_NM = self._project(features_ND)
        num_classes = max(len(self._counts_CP), int(labels.max()) + 1)
        self._counts_CP = grown(self._counts_CP, num_classes)
        self._sums_CPM = grown(self._sums_CPM, num_classes)
        share = HELD_OUT if self.config.ridge is None else 0.0
        part_N = torch.from_numpy(self.rng.random(len(labels)) < share).long()
        for part in range(len(self._gram_PMM)):
            own_NM, own_N = projected_NM[part_N == part], labels[part_N == part]
            counts_C, sums_CM = class_sums(own_NM, own_N, num_classes)
            self._gram_PMM[part].addmm_(own_NM.T, own_NM)
            self._counts_CP[:, part] += counts_C
            self._sums_CPM[:, part] += sums_CM
        self._solved = None
        return stats_of(self._logits(projected_NM), labels)

    def logits(self, latents_NTD: Tensor) -> Tensor:
        """(N, C) estimates of the one-hot targets, about 0..1, no log probabilities; -inf for unseen ones."""
        return self._logits(self._project(frozen_features(self.head, latents_NTD)))

    def _project(self, features_ND: Tensor) -> Tensor:
        return (features_ND.float() @ self._projection_DM).relu_().double()

    def _logits(self, projected_NM: Tensor) -> Tensor:
        return masked_logits(projected_NM @ self._solution()[0], self.known_C)

    def _solution(self) -> tuple[Tensor, float]:
        """Weights (M, C) and the ridge they were found with."""
        if self._solved is None:
            gram_MM, sums_MC = self._gram_PMM.sum(dim=0), self._sums_CPM.sum(dim=1).T
            ridge = self.config.ridge or chosen_ridge(self._gram_PMM, self._sums_CPM.permute(1, 2, 0))
            # A ridge below the rounding of G leaves it singular: the next larger one that does not is taken.
            while (weights_MC := ridge_solution(gram_MM, sums_MC, ridge)) is None:
                ridge *= 10
            self._solved = weights_MC, ridge
        return self._solved

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that later learning depends on: tensors, and plain data that JSON can hold."""
        plain = {"rng": self.rng.bit_generator.state}
        return {name: tensor.clone() for name, tensor in self._tensors().items()}, plain

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"projection": self._projection_DM, "gram": self._gram_PMM}
        return tensors | {"sums": self._sums_CPM, "counts": self._counts_CP}

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue exactly where the learner whose ``state`` this is stood; RunError where it is of another one."""
        own = self._tensors()
        for name in own:
            size = None if name in ("sums", "counts") else own[name].shape[0]  # their rows are classes
            saved_tensor(tensors, name, (size, *own[name].shape[1:]), own[name].dtype)
        if len(tensors["sums"]) != len(tensors["counts"]):
            raise RunError("the saved state has sums and counts of other classes; use another copy of it")
        self._projection_DM, self._gram_PMM = tensors["projection"].clone(), tensors["gram"].clone()
        self._sums_CPM, self._counts_CP = tensors["sums"].clone(), tensors["counts"].clone()
        self.rng.bit_generator.state, self._solved = plain["rng"], None


def from_config(head: Head, config: LearnerConfig, rng: np.random.Generator) -> RanPAC:
    """The learner that ``learner.method ranpac`` names."""
    return RanPAC(head, RanPACConfig(width=config.ranpac_width, ridge=config.ranpac_ridge), rng)
