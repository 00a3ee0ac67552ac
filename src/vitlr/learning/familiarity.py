"""How much an image looks like something that was taught, whatever else is known: the score behind "unknown".

Two or more classes. With x the joined class tokens (``learning.statistics``), g the mean of the class means mu_c and
S' the shared covariance, the score is the largest cosine between the whitened x - g and mu_c - g, whitened by a
strongly shrunk S', plus a fifth of the relative Mahalanobis distance (Ren et al., "A Simple Fix to Mahalanobis Distance
for Improving Near-OOD Detection", 2021, arXiv 2106.09022): the distance to the background, whose covariance is S' and
the scatter of the class means, less that to the nearest class, as a share of the mean distance of a class mean from g.
The cosine is better for few classes and its scale is the same for many; the distance is better for many classes
(docs/LOG.md has both alone). By the matrix inversion lemma the relative distance needs the discriminants' weights only:

    u_c = (x - g)' S'^-1 (mu_c - g)      max_c (2 u_c - K_cc) - u' (C I + K)^-1 u,   K_cd = (mu_c - g)' S'^-1 (mu_d - g)

One class. There is no background. The squared distance to its mean is compared with that of what was taught: the score
is the logarithm of what is expected over what is found. A few images show less scatter than there is; expected is
1 + 3.4 / n times theirs, n the images that count as independent (measured on left-out sessions).

A score becomes the share of taught images that would look even less familiar: a p-value (Bates et al., "Testing for
outliers with conformal p-values", Annals of Statistics 2023), of a normal distribution fitted to the scores of held-out
images, with a prior for as long as there are few.

Shapes: N images, P held-out images, W joined width, C known classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from vitlr.learning.statistics import Statistics, shrunk_covariance

__all__ = ["THRESHOLD", "Familiarity", "familiarity", "shares"]

THRESHOLD = 0.05  # below it an image is unknown: 95 % of taught ones are kept
_SHRINKAGE = 0.8  # of the cosine's covariance
_RELATIVE = 0.2  # of the relative distance beside the cosine
# Mean and s.d. of the scores of taught images in another place than where they were taught, on left-out sessions.
_PRIOR, _PRIOR_ALONE = (0.28, 0.12), (0.0, 0.1)
_STRENGTH = 16.0  # held-out images that the prior counts as
_MORE = 3.4  # see above: one class


class Familiarity(Protocol):
    """Gives images a score of familiarity."""

    def scores(self, images_NW: Tensor) -> Tensor:
        """(N,) float64 scores of joined class tokens, higher for what is more familiar."""


@dataclass(frozen=True, eq=False)
class _Alone:
    """One class: its mean (1, W), and the squared distance from it that an image of the class is expected to have."""

    mean_1W: Tensor
    expected: float

    def scores(self, images_NW: Tensor) -> Tensor:
        if not self.expected:  # nothing is known of its scatter
            return torch.zeros(len(images_NW), dtype=torch.float64)
        found_N = (images_NW - self.mean_1W).square().sum(dim=1)
        return (self.expected / found_N.clamp(min=1e-12)).log()


@dataclass(frozen=True, eq=False)
class _Among:
    """Several classes: g; for the cosine, whitening and whitened directions in float32; for the relative distance, the
    weights S'^-1 (mu_c - g), and K."""

    background_W: Tensor
    whitening_WW: Tensor
    directions_CW: Tensor
    weights_CW: Tensor
    products_CC: Tensor

    def scores(self, images_NW: Tensor) -> Tensor:
        apart_NW = images_NW - self.background_W
        white_NW = functional.normalize(apart_NW.float() @ self.whitening_WW.T, dim=1)
        cosines_N = (white_NW @ self.directions_CW.T).amax(dim=1).double()
        u_NC, own_C = apart_NW @ self.weights_CW.T, self.products_CC.diagonal()
        eye_CC = torch.eye(len(own_C), dtype=torch.float64)
        background_N = (u_NC @ torch.linalg.inv(len(own_C) * eye_CC + self.products_CC) * u_NC).sum(dim=1)
        relative_N = (2 * u_NC - own_C).amax(dim=1) - background_N
        return cosines_N + _RELATIVE * relative_N / own_C.mean().clamp(min=1e-12)


def familiarity(statistics: Statistics, weights_CW: Tensor) -> Familiarity:
    """From statistics of at least one class and the weights of their discriminants (``statistics.discriminants``)."""
    known_C = statistics.counts_C > 0
    means_CW = statistics.means_CW[known_C]
    if len(means_CW) == 1:
        patterns = float(statistics.counts_C.sum()) + statistics.forgotten
        own = float(statistics.scatter_WW.diagonal().sum()) / max(1.0, patterns)
        independent = float(statistics.independent_C[known_C].sum())
        return _Alone(means_CW, own * (1 + _MORE / max(1.0, independent)))
    factor_WW = torch.linalg.cholesky(shrunk_covariance(statistics, _SHRINKAGE))
    eye_WW = torch.eye(len(factor_WW), dtype=torch.float64)
    whitening_WW = torch.linalg.solve_triangular(factor_WW, eye_WW, upper=False).float()
    background_W = means_CW.mean(dim=0)
    apart_CW, weights_CW = means_CW - background_W, weights_CW[known_C]
    weights_CW = weights_CW - weights_CW.mean(dim=0)
    return _Among(
        background_W=background_W,
        whitening_WW=whitening_WW,
        directions_CW=functional.normalize(apart_CW.float() @ whitening_WW.T, dim=1),
        weights_CW=weights_CW,
        products_CC=apart_CW @ weights_CW.T,
    )


def shares(scores_N: Tensor, held_out_P: Tensor, classes: int) -> Tensor:
    """(N,) float32 in 0..1: the share of taught images that would score less; ``held_out_P`` are scores of some."""
    if classes < 2:
        mean, deviation = _PRIOR_ALONE
    else:
        mean, deviation = _PRIOR
        held_out_P = held_out_P.double()
        total = len(held_out_P) + _STRENGTH
        squares = _STRENGTH * (deviation**2 + mean**2) + float(held_out_P.square().sum())
        mean = (_STRENGTH * mean + float(held_out_P.sum())) / total
        deviation = math.sqrt(max(1e-8, squares / total - mean**2))
    return torch.special.log_ndtr((scores_N.double() - mean) / deviation).exp().float()
