"""Statistics of every image ever learned: class means and one covariance of joined class tokens, as pure functions.

The class tokens of K frozen blocks are each layer-normalised without weights and joined to one vector x of width
W = K D. Kept are, for each class, the number of patterns and their mean, and for all classes together the scatter of
patterns around their class's mean: exact sums, whatever the order of the stream (Chan, Golub & LeVeque 1979), that can
be added to those of another robot. Scores are linear discriminants (SLDA, Hayes & Kanan, CVPRW 2020, arXiv 1909.01520;
class tokens of several blocks as in LayUP, Ahrens et al. 2024, arXiv 2312.07474):

    S' = (1 - e) S + e m I,  m the mean of S's diagonal        score_c = mu_c' S'^-1 x - mu_c' S'^-1 mu_c / 2

The shrinkage e is that of OAS (Chen, Wiesel, Eldar & Hero, "Shrinkage Algorithms for MMSE Covariance Estimation",
IEEE TSP 2010, arXiv 0907.4698, equation 23) for n independent patterns. How many are independent nobody knows: N images
of a class in one experience may be near copies, as frames of one video are, and count as one, or photographs taken one
by one, and count as N. They count as the geometric mean of both, the square root of N, times one more for each random
view of an image; and less if there are few of a class in all, since a handful says little of how the class varies
(``_MANY``; docs/LOG.md has what other counts gave). Of any scatter at most six tenths are replaced.

Scores grow with W and shrink with e, without saying more: by them alone nearly every answer would be certain. They are
divided by how far a class is from its nearest one (``_APART``), after which their scale is that of probabilities, for 1
image a class and for hundreds, with views and without (docs/LOG.md).

Bytes: 4 W (W + 1) for the scatter, of which one triangle is kept, and 8 W + 24 a class.

Shapes: N patterns, K blocks, D width of a block, W joined width, C class indices known so far.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from vitlr.learning.frozen import class_sums, grown, pooled, regrouped, without

__all__ = [
    "Statistics",
    "discriminants",
    "joined",
    "oas_shrinkage",
    "packed",
    "scale_of_scores",
    "shrunk_covariance",
    "unpacked",
]


# Scores are scaled so that the squared distance of a class's mean to its nearest one is at most this, in the mean over
# classes: the scale of greatest likelihood on left-out sessions was 7.6 to 13 in twelve situations.
_APART = 9.0
# A class with fewer images counts in proportion, down to that of _FEW. Best shrinkage on left-out sessions for 25
# objects of 6, 12 and 18 images was 4 to 8 times what the count without this gave, and the same for 48.
_FEW, _MANY = 8.0, 48.0
_MOST = 0.6  # shrinkage while there is any scatter


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Sums over everything learned; float64.

    Attributes:
        counts_C: patterns of each class, images and views. means_CW: their mean.
        independent_C: how many of its images count as independent, see above. views_C: random views among its patterns.
        scatter_WW: of all patterns around their class's mean.
        forgotten, forgotten_independent: patterns of removed classes that are still in the scatter, and how many count.
    """

    counts_C: Tensor
    views_C: Tensor
    independent_C: Tensor
    means_CW: Tensor
    scatter_WW: Tensor
    forgotten: float = 0.0
    forgotten_independent: float = 0.0

    @staticmethod
    def empty(width: int) -> Statistics:
        """Of nothing."""
        zeros = torch.zeros(width, width, dtype=torch.float64)
        none = zeros[:0, 0]
        return Statistics(
            counts_C=none, views_C=none, independent_C=none, means_CW=zeros[:0], scatter_WW=zeros
        )

    @property
    def num_bytes(self) -> int:
        """Bytes of the sums, as they are saved."""
        width = len(self.scatter_WW)
        return 4 * width * (width + 1) + self.means_CW.nbytes + 3 * self.counts_C.nbytes

    def added(
        self, images_NW: Tensor, labels_N: Tensor, views_MW: Tensor, view_labels_M: Tensor
    ) -> Statistics:
        """With the images of one experience and the random views of some of them."""
        patterns, labels = torch.cat([images_NW, views_MW]), torch.cat([labels_N, view_labels_M])
        num_classes = max(len(self.counts_C), int(labels.max()) + 1)
        past_C, means_CW = grown(self.counts_C, num_classes), grown(self.means_CW, num_classes).clone()
        counts_C = torch.bincount(labels, minlength=num_classes).double()
        views_C = torch.bincount(view_labels_M, minlength=num_classes).double()
        images_C = torch.bincount(labels_N, minlength=num_classes).double()
        present_P, rows = labels.unique(return_inverse=True)
        counts_P, sums_PW = class_sums(patterns, rows, len(present_P))
        past_P, now_P = past_C[present_P], (past_C + counts_C)[present_P]
        new_PW = sums_PW / counts_P.unsqueeze(1)
        apart_PW = new_PW - means_CW[present_P]
        means_CW[present_P] += (counts_P / now_P).unsqueeze(1) * apart_PW
        # The scatter between what was known of a class and what is new of it is one more pattern (Chan et al. 1979).
        between_PW = (past_P * counts_P / now_P).sqrt().unsqueeze(1) * apart_PW
        deviations = torch.cat([patterns - new_PW[rows], between_PW])
        return replace(
            self,
            counts_C=past_C + counts_C,
            views_C=grown(self.views_C, num_classes) + views_C,
            independent_C=grown(self.independent_C, num_classes) + images_C.sqrt(),
            means_CW=means_CW,
            scatter_WW=torch.addmm(self.scatter_WW, deviations.T, deviations),
        )

    def regrouped(self, index_C: Tensor) -> Statistics:
        """With class i under number ``index_C[i]``; those given the same number become one, as if taught as one."""
        counts_C, means_CW, between_CW = pooled(self.counts_C, self.means_CW, index_C)
        return replace(
            self,
            counts_C=counts_C,
            views_C=regrouped(self.views_C, index_C),
            independent_C=regrouped(self.independent_C, index_C),
            means_CW=means_CW,
            scatter_WW=torch.addmm(self.scatter_WW, between_CW.T, between_CW),
        )

    def merged(self, other: Statistics) -> Statistics:
        """The sums of both: equal to those of one that learned everything, up to rounding."""
        both = Statistics(
            counts_C=torch.cat([self.counts_C, other.counts_C]),
            views_C=torch.cat([self.views_C, other.views_C]),
            independent_C=torch.cat([self.independent_C, other.independent_C]),
            means_CW=torch.cat([self.means_CW, other.means_CW]),
            scatter_WW=self.scatter_WW + other.scatter_WW,
            forgotten=self.forgotten + other.forgotten,
            forgotten_independent=self.forgotten_independent + other.forgotten_independent,
        )
        return both.regrouped(
            torch.cat([torch.arange(len(self.counts_C)), torch.arange(len(other.counts_C))])
        )

    def without_class(self, label: int) -> Statistics:
        """Without a class's mean and counts; its share of the scatter remains."""
        return replace(
            self,
            counts_C=without(self.counts_C, label),
            views_C=without(self.views_C, label),
            independent_C=without(self.independent_C, label),
            means_CW=without(self.means_CW, label),
            forgotten=self.forgotten + float(self.counts_C[label]),
            forgotten_independent=self.forgotten_independent + float(self._counting_C()[label]),
        )

    def independent(self) -> float:
        """n: images that count as independent, times one more for each view an image has in the mean."""
        counts, views = float(self.counts_C.sum()), float(self.views_C.sum())
        images = max(1.0, counts - views)
        return (float(self._counting_C().sum()) + self.forgotten_independent) * (1 + views / images)

    def _counting_C(self) -> Tensor:
        images_C = self.counts_C - self.views_C
        return self.independent_C * (images_C.clamp(min=_FEW) / _MANY).clamp(max=1)


def joined(class_tokens_NKD: Tensor) -> Tensor:
    """(N, K D) float64 on the host: each block's class token layer-normalised without weights."""
    tokens = functional.layer_norm(class_tokens_NKD.float(), class_tokens_NKD.shape[-1:])
    return tokens.flatten(1).cpu().double()


def oas_shrinkage(covariance_WW: Tensor, independent: float) -> float:
    """e in 0..1 for that many independent patterns (Chen et al. 2010, equation 23); 1 without any scatter."""
    width = len(covariance_WW)
    trace, square = float(covariance_WW.diagonal().sum()), float(covariance_WW.square().sum())
    if trace <= 0:
        return 1.0
    lack = square - trace**2 / width  # 0 for a multiple of the unit matrix
    above = (1 - 2 / width) * square + trace**2
    below = (independent + 1 - 2 / width) * lack
    return 1.0 if below <= above else above / below


def shrunk_covariance(statistics: Statistics, shrinkage: float | None = None) -> Tensor:
    """S' (W, W), with OAS's shrinkage by default. Without any scatter, from one image of each class and no view, it is
    the unit matrix."""
    patterns = float(statistics.counts_C.sum()) + statistics.forgotten
    covariance_WW = statistics.scatter_WW / max(1.0, patterns)
    level = float(covariance_WW.diagonal().mean())
    if level <= 0:
        return torch.eye(len(covariance_WW), dtype=torch.float64)
    e = min(_MOST, oas_shrinkage(covariance_WW, statistics.independent())) if shrinkage is None else shrinkage
    shrunk_WW = covariance_WW.mul_(1 - e)
    shrunk_WW.diagonal().add_(e * level)
    return shrunk_WW


def discriminants(statistics: Statistics, shrinkage: float | None = None) -> tuple[Tensor, Tensor]:
    """Weights (C, W) and biases (C,) of the linear map from joined tokens to scores, float64; nearest class mean if
    nothing but one image of each class was seen. ``shrinkage`` is OAS's by default."""
    factor_WW = torch.linalg.cholesky(shrunk_covariance(statistics, shrinkage))
    weights_CW = torch.cholesky_solve(statistics.means_CW.T, factor_WW).T
    return weights_CW, -0.5 * (weights_CW * statistics.means_CW).sum(dim=1)


def scale_of_scores(weights_CW: Tensor, statistics: Statistics) -> float:
    """What to multiply discriminants by, so that they are log-probabilities about as sure as they should be."""
    known_C = statistics.counts_C > 0
    products_CC = weights_CW[known_C] @ statistics.means_CW[known_C].T
    squares_C = products_CC.diagonal()
    distances_CC = squares_C[:, None] + squares_C[None, :] - products_CC - products_CC.T
    if len(distances_CC) < 2:
        return 1.0
    distances_CC.fill_diagonal_(float("inf"))
    return min(1.0, _APART / max(1e-12, float(distances_CC.amin(dim=1).mean())))


def packed(matrix_WW: Tensor) -> Tensor:
    """One triangle of a symmetric matrix, (W (W + 1) / 2,)."""
    rows, columns = torch.tril_indices(len(matrix_WW), len(matrix_WW))
    return matrix_WW[rows, columns]


def unpacked(triangle: Tensor, width: int) -> Tensor:
    """The symmetric matrix (W, W) of ``packed``."""
    matrix = triangle.new_zeros(width, width)
    rows, columns = torch.tril_indices(width, width)
    matrix[rows, columns] = triangle
    matrix[columns, rows] = triangle
    return matrix
