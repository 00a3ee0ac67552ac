"""What the methods on frozen features share: they read the head's features and never train it.

At the last cut the head is the final norm alone, so the features are the backbone's own class token and a
latent is one token. At a lower cut the same methods work on whatever the frozen head makes of the latents.

Shape letters: N latents, T tokens, D width, C class indices known so far.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitlr.errors import RunError
from vitlr.learning.learner import UNSEEN, Head, LearnStats, device_of

__all__ = ["class_sums", "frozen_features", "grown", "masked_logits", "new_patterns", "stats_of"]


@torch.no_grad()
def frozen_features(head: Head, latents_NTD: Tensor, batch_size: int = 64) -> Tensor:
    """Features (N, D) as float64 on the host: sums over a long stream then stay exact for all practical purposes."""
    device = device_of(head)
    batches = (batch.to(device).float() for batch in latents_NTD.split(batch_size) if len(batch))
    features = [head(batch).cpu().double() for batch in batches]
    return torch.cat(features) if features else torch.zeros(0, head.width, dtype=torch.float64)


def new_patterns(head: Head, latents_NTD: Tensor, labels_N: np.ndarray) -> tuple[Tensor, Tensor]:
    """Features (N, D) and int64 labels (N,) of an experience, checked before anything is added to a sum.

    Raises:
        ValueError: no latents, or latents and labels of different length.
        RunError: a feature is not finite; it would spoil the sums for good.
    """
    labels_N = np.asarray(labels_N, dtype=np.int64)
    if len(labels_N) == 0 or len(latents_NTD) != len(labels_N):
        raise ValueError(
            f"{len(latents_NTD)} latents and {len(labels_N)} labels: give one label each, at least one"
        )
    features_ND = frozen_features(head, latents_NTD)
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


def class_sums(features_ND: Tensor, labels_N: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Patterns of each class (C,) and the sum of their features (C, D)."""
    counts_C = torch.bincount(labels_N, minlength=num_classes).to(features_ND.dtype)
    sums_CD = features_ND.new_zeros(num_classes, features_ND.shape[1]).index_add_(0, labels_N, features_ND)
    return counts_C, sums_CD


def masked_logits(scores_NC: Tensor, known_C: Tensor) -> Tensor:
    """float32 logits (N, C), -inf for classes never seen."""
    return scores_NC.float().masked_fill(~known_C, UNSEEN)


def stats_of(logits_NC: Tensor, labels_N: Tensor) -> LearnStats:
    """Stats of a method in closed form: loss and accuracy of the new latents right after learning them."""
    return LearnStats(
        num_new=len(labels_N),
        num_replayed=0,
        steps=1,
        loss=functional.cross_entropy(logits_NC, labels_N).item(),
        accuracy=(logits_NC.argmax(dim=1) == labels_N).float().mean().item(),
    )
