"""What the methods on frozen features share: they read the head's features and never train it.

At the last cut the head is the final norm alone, so the features are the backbone's own class token and a
latent is one token. At a lower cut the same methods work on whatever the frozen head makes of the latents.

Shapes: N latents, D width, C class indices known so far.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitlr.errors import RunError
from vitlr.latents.record import Latents
from vitlr.learning.learner import UNSEEN, Head, LearnStats, check_pairs, device_of

__all__ = [
    "certainty",
    "class_sums",
    "cosine_scores",
    "frozen_features",
    "grown",
    "masked_logits",
    "new_patterns",
    "pooled",
    "regrouped",
    "stats_of",
]

_CERTAIN = 4.5
_BATCH = 64  # latents that go through the head at once


@torch.no_grad()
def frozen_features(head: Head, latents: Latents) -> Tensor:
    """Features (N, D) as float64 on the host: sums over a long stream then stay exact for all practical purposes."""
    device = device_of(head)
    batches = (batch.to(device).float() for batch in latents.tokens_NTD.split(_BATCH) if len(batch))
    features = [head(batch).cpu().double() for batch in batches]
    return torch.cat(features) if features else torch.zeros(0, head.width, dtype=torch.float64)


def new_patterns(head: Head, latents: Latents, labels_N: np.ndarray) -> tuple[Tensor, Tensor]:
    """Features (N, D) and int64 labels (N,) of an experience, checked before anything is added to a sum.

    Raises:
        ValueError: no latents, or latents and labels of different length.
        RunError: a feature is not finite; it would spoil the sums for good.
    """
    labels_N = check_pairs(latents, labels_N)
    features_ND = frozen_features(head, latents)
    finite_N = torch.isfinite(features_ND).all(dim=1)
    if not bool(finite_N.all()):
        raise RunError(
            f"{int((~finite_N).sum())} of {len(labels_N)} images have features that are not finite, nothing"
            " was learned from them; use backbone.precision float32 or leave those images out"
        )
    return features_ND, torch.from_numpy(labels_N.copy())


def grown(rows: Tensor, num_rows: int) -> Tensor:
    """``rows`` with zero rows added below up to ``num_rows``; class indices may appear in any order."""
    missing = num_rows - len(rows)
    if missing <= 0:
        return rows
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])


def without(rows: Tensor, label: int) -> Tensor:
    """A copy of ``rows`` with zeros in the row of a class."""
    rows = rows.clone()
    rows[label] = 0
    return rows


def regrouped(rows: Tensor, index_C: Tensor) -> Tensor:
    """Sums or counts of classes with row i added to row ``index_C[i]``, int64, of the result; there may be more indices
    than rows."""
    index_C = index_C[: len(rows)]
    size = int(index_C.max()) + 1 if len(index_C) else 0
    return rows.new_zeros(size, *rows.shape[1:]).index_add_(0, index_C, rows)


def pooled(counts_C: Tensor, means_CW: Tensor, index_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Groups of patterns put together, group i into number ``index_C[i]``: counts, means, and rows (C, W) whose outer
    products are the scatter that was between the groups (Chan, Golub & LeVeque 1979) and is within them now."""
    index_C = index_C[: len(counts_C)]
    totals = regrouped(counts_C, index_C)
    means = regrouped(counts_C.unsqueeze(1) * means_CW, index_C) / totals.clamp(min=1).unsqueeze(1)
    # A group that stays alone keeps its mean to the last bit.
    alone = torch.bincount(index_C[counts_C > 0], minlength=len(totals))[index_C] == 1
    means[index_C[alone & (counts_C > 0)]] = means_CW[alone & (counts_C > 0)]
    return totals, means, counts_C.sqrt().unsqueeze(1) * (means_CW - means[index_C])


def class_sums(features_ND: Tensor, labels_N: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Patterns of each class (C,) and the sum of their features (C, D)."""
    counts_C = torch.bincount(labels_N, minlength=num_classes).to(features_ND.dtype)
    sums_CD = features_ND.new_zeros(num_classes, features_ND.shape[1]).index_add_(0, labels_N, features_ND)
    return counts_C, sums_CD


def masked_logits(scores_NC: Tensor, known_C: Tensor) -> Tensor:
    """float32 logits (N, C), -inf for class indices that are not known."""
    return scores_NC.float().masked_fill(~known_C, UNSEEN)


def certainty(scores_CC: Tensor) -> float:
    """What to multiply scores by, so that they are about log-probabilities: row c has the scores of class c's own mean.

    Similarities and regression targets differ by less than 1 whatever is asked, so that all classes would have nearly
    the same probability. Scaled, the mean of a class scores 4.5 above the best other one in the mean over classes, as
    the discriminants of ``learning.statistics`` do. The answers stay the same.
    """
    if len(scores_CC) < 2:
        return 1.0
    own_C = scores_CC.diagonal()
    others_CC = scores_CC - torch.diag(torch.full_like(own_C, torch.inf))
    return _CERTAIN / max(1e-3, float((own_C - others_CC.amax(dim=1)).mean()))


def cosine_scores(features_ND: Tensor, rows_CD: Tensor, known_C: Tensor) -> Tensor:
    """float32 (N,): the largest cosine of the features to a known class's row, such as its mean; 1 if only one is
    known, as nothing was learned to tell it from."""
    if int(known_C.sum()) < 2:
        return torch.ones(len(features_ND))
    unit_CD = functional.normalize(rows_CD[known_C], dim=1)
    return (functional.normalize(features_ND, dim=1) @ unit_CD.T).amax(dim=1).float()


def stats_of(logits_NC: Tensor, labels_N: Tensor) -> LearnStats:
    """Stats of a method in closed form: loss and accuracy of the new latents right after learning them."""
    return LearnStats(
        num_new=len(labels_N),
        num_replayed=0,
        steps=1,
        loss=functional.cross_entropy(logits_NC, labels_N).item(),
        accuracy=(logits_NC.argmax(dim=1) == labels_N).float().mean().item(),
        head_passes=len(labels_N),
    )
