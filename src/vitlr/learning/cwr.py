"""CWR*: the classifier's double memory, as pure functions.

Lomonaco, Maltoni & Pellegrini, "Rehearsal-Free Continual Learning over Small Non-I.I.D. Batches",
CLVision 2020 (arXiv 1907.03799), algorithm 1; with replayed patterns counted like new ones as in
Pellegrini et al. 2020 (arXiv 1912.01100).

Each class j owns a row of consolidated weights cw_j, used to predict, and a row of temporary weights tw_j,
trained in one experience. Shape letters: C classes, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["consolidate", "temporary_weights"]


def temporary_weights(consolidated_CD: Tensor, known_C: Tensor, present_C: Tensor) -> Tensor:
    """Where training of an experience starts: cw_j for known classes that are present, 0 for all others.

    ``known_C`` and ``present_C`` are bool: seen in an earlier experience; in this one or in the memory.
    """
    return consolidated_CD * (known_C & present_C).unsqueeze(1)


def consolidate(
    consolidated_CD: Tensor, past_C: Tensor, temporary_CD: Tensor, current_C: Tensor
) -> tuple[Tensor, Tensor]:
    """New consolidated weights and counts after training.

    ``past_C``: patterns of each class trained on in earlier experiences; ``current_C``: in this one, new and
    replayed, zero for classes not present. With m the mean of all entries of the present rows tw_j,

        first seen:  cw_j = tw_j - m
        known:       cw_j = (w cw_j + tw_j - m) / (w + 1),   w = sqrt(past_j / current_j)

    and past_j grows by current_j. Rows of classes not present stay as they are. Subtracting m makes the
    rows of experiences with different classes comparable. Each class counts once however many of its
    patterns there are: the maths runs over rows, not over patterns.
    """
    present_C = current_C > 0
    if not bool(present_C.any()):
        return consolidated_CD.clone(), past_C.clone()
    centred_CD = temporary_CD - temporary_CD[present_C].mean()
    # A class that is new has past 0, hence w = 0 and cw_j = tw_j - m: both cases in one line.
    weight_C1 = torch.sqrt(past_C / current_C.clamp(min=1)).to(consolidated_CD.dtype).unsqueeze(1)
    blended_CD = (weight_C1 * consolidated_CD + centred_CD) / (weight_C1 + 1)
    return torch.where(present_C.unsqueeze(1), blended_CD, consolidated_CD), past_C + current_C
