"""Two scores joined to one, calibrated by images that were predicted before they were learned.

With z_h the logits of a trained head and z_s those of statistics, the answer is softmax(a z_h + b z_s): a product of
experts (Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 2002) whose two
exponents say how far each may be trusted. They maximise the likelihood of held-out images, so that a poor part gets a
small exponent; a prior on their logarithms takes the place of images that are missing. It is also what calibrates the
probabilities.

Shapes: P held-out images, C class indices known so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["PRIOR", "HeldOut", "exponents"]

PRIOR = (0.12, 1.0)  # a and b without a held-out image; chosen on left-out training sessions, docs/LOG.md
# Held-out images that the prior counts as: they are of classes less known then than now, so a few do not move it.
_STRENGTH = 64.0
_EACH = 6  # held-out images kept of a class, the newest: the others were predicted by one who knew less of it
_BYTES = 2**21  # of all their scores; the oldest are dropped


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Scores of images as they were before these images were learned; -inf for classes unknown then.

    ``familiar_P`` is how familiar they looked (``learning.familiarity``).
    """

    head_PC: Tensor
    statistics_PC: Tensor
    labels_P: Tensor
    familiar_P: Tensor

    @staticmethod
    def empty() -> HeldOut:
        """No images."""
        return HeldOut(
            torch.zeros(0, 0), torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        )

    @property
    def num_bytes(self) -> int:
        """Bytes kept."""
        return sum(part.nbytes for part in (self.head_PC, self.statistics_PC, self.labels_P, self.familiar_P))

    def added(self, head_NC: Tensor, statistics_NC: Tensor, labels_N: Tensor, familiar_N: Tensor) -> HeldOut:
        """With new images, of which and of the others the newest are kept."""
        width = max(head_NC.shape[1], self.head_PC.shape[1])
        labels = torch.cat([self.labels_P, labels_N])
        kept = _newest_of_each(labels, _EACH)[-max(16, _BYTES // (8 * max(1, width))) :]

        def together(old: Tensor, new: Tensor) -> Tensor:
            wide = [
                functional.pad(each, (0, width - each.shape[1]), value=float("-inf")) for each in (old, new)
            ]
            return torch.cat(wide)[kept]

        return HeldOut(
            together(self.head_PC, head_NC.float()),
            together(self.statistics_PC, statistics_NC.float()),
            labels[kept],
            torch.cat([self.familiar_P, familiar_N.float()])[kept],
        )

    def without_class(self, label: int) -> HeldOut:
        """Without the images and the scores of a class."""
        kept = self.labels_P != label
        head_PC, statistics_PC = self.head_PC[kept].clone(), self.statistics_PC[kept].clone()
        if label < head_PC.shape[1]:
            head_PC[:, label], statistics_PC[:, label] = float("-inf"), float("-inf")
        return HeldOut(head_PC, statistics_PC, self.labels_P[kept], self.familiar_P[kept])

    def regrouped(self, index_C: np.ndarray) -> HeldOut:
        """With class i under number ``index_C[i]``; of classes that become one the better score counts."""
        index = torch.from_numpy(index_C)
        columns = index[: self.head_PC.shape[1]]
        size = int(columns.max()) + 1 if len(columns) else 0

        def moved(scores_PC: Tensor) -> Tensor:
            empty = scores_PC.new_full((len(scores_PC), size), float("-inf"))
            return empty.scatter_reduce(1, columns.expand(len(scores_PC), -1), scores_PC, "amax")

        return HeldOut(moved(self.head_PC), moved(self.statistics_PC), index[self.labels_P], self.familiar_P)


def exponents(held_out: HeldOut) -> tuple[float, float]:
    """a and b of greatest posterior: likelihood of the held-out images, log-normal prior around ``PRIOR``.

    Two numbers, found by Newton's method with halved steps; the negative log posterior in (log a, log b) has one valley
    in practice and is only ever lowered.
    """
    prior = torch.tensor(PRIOR, dtype=torch.float64).log()
    if len(held_out.labels_P) == 0:
        return PRIOR
    head, statistics = (_finite(each.double()) for each in (held_out.head_PC, held_out.statistics_PC))
    unknown = torch.isinf(held_out.head_PC)

    def loss(logs: Tensor) -> Tensor:
        scores = logs[0].exp() * head + logs[1].exp() * statistics
        likelihood = functional.cross_entropy(scores.masked_fill(unknown, float("-inf")), held_out.labels_P)
        return likelihood * len(held_out.labels_P) + _STRENGTH * (logs - prior).square().sum() / 2

    logs = prior.clone()
    for _ in range(20):
        gradient = torch.autograd.functional.jacobian(loss, logs)
        hessian = torch.autograd.functional.hessian(loss, logs)
        values, vectors = torch.linalg.eigh(hessian)
        step = vectors @ ((vectors.T @ gradient) / values.abs().clamp(min=1e-3))
        step = step / max(1.0, float(step.norm()))
        before, size = loss(logs), 1.0
        while size > 1e-4 and not loss(logs - size * step) < before:
            size /= 2
        if size <= 1e-4 or float((size * step).norm()) < 1e-4:
            break
        logs = logs - size * step
    a, b = logs.exp().tolist()
    return a, b


def _finite(scores_PC: Tensor) -> Tensor:
    """Scores below their row's largest, 0 for unknown classes."""
    shifted = scores_PC - scores_PC.amax(dim=1, keepdim=True)
    return torch.where(torch.isinf(shifted) | torch.isnan(shifted), torch.zeros_like(shifted), shifted)


def _newest_of_each(labels: Tensor, most: int) -> Tensor:
    """Positions, ascending, of the last ``most`` of each label."""
    order = torch.argsort(labels, stable=True)
    counts = labels.unique(return_counts=True)[1]
    from_the_end = counts.repeat_interleave(counts) - torch.cat([torch.arange(int(n)) for n in counts])
    return order[from_the_end <= most].sort().values


def share_of(rows: int, most: int) -> np.ndarray:
    """Up to ``most`` of that many rows, evenly apart."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64))
