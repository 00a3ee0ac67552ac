"""Ridge regression from sums alone, and its ridge by held-out error, as pure functions.

McDonnell et al. 2023 (arXiv 2307.02251), which tries l = 10^-8 .. 10^8: fit four fifths of the patterns, take
the l of least squared error on the fifth held out. One deviation: the paper looks at the patterns of the last
task alone, and an experience here may hold a single class, which says nothing about telling classes apart.
So both parts are summed over the whole stream, which the error needs no patterns for. With inputs h, one-hot
targets y, G = sum h h^T and Q = sum h y^T over a part,

    A = (G_fit + l I)^-1 Q_fit
    sum |y - A^T h|^2 over the n held out  =  n - 2 tr(A^T Q_held) + tr(A^T G_held A)

Shape letters: M width of the inputs, C classes, P two parts (fit, held out).
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

__all__ = ["RIDGES", "chosen_ridge", "ridge_solution"]

RIDGES = tuple(10.0**power for power in range(-8, 9))


def ridge_solution(gram_MM: Tensor, sums_MC: Tensor, ridge: float) -> Tensor | None:
    """(G + l I)^-1 Q, or None where that matrix is singular as far as float64 can tell."""
    shifted_MM = gram_MM.clone()
    shifted_MM.diagonal().add_(ridge)
    factor_MM, failed = torch.linalg.cholesky_ex(shifted_MM)
    return None if int(failed) else torch.cholesky_solve(sums_MC, factor_MM)


def chosen_ridge(gram_PMM: Tensor, sums_PMC: Tensor) -> float:
    """The ridge of least held-out error, walking downhill from the mean eigenvalue of G.

    The error has one valley in the ridge in practice, so few of the 17 systems need solving.
    """
    means_P = gram_PMM.diagonal(dim1=1, dim2=2).mean(dim=1)
    if not bool((means_P > 0).all()):  # one of the parts has no pattern yet
        return max(float(means_P.sum()), RIDGES[0])

    @cache
    def error(index: int) -> float:
        inside = 0 <= index < len(RIDGES)
        weights_MC = ridge_solution(gram_PMM[0], sums_PMC[0], RIDGES[index]) if inside else None
        if weights_MC is None:
            return math.inf
        # Without the constant n, the number of patterns held out.
        return float((weights_MC * (gram_PMM[1] @ weights_MC - 2 * sums_PMC[1])).sum())

    index = min(max(round(math.log10(means_P[0])) + 8, 0), len(RIDGES) - 1)
    for step in (-1, 1):
        while error(index + step) < error(index):
            index += step
    return RIDGES[index]
