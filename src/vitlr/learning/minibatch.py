"""How new and replayed latents share a mini-batch: pure index arithmetic.

With N new latents, R stored ones and mini-batches of B, the mini-batch keeps the proportion of the two:
its share of new ones is round(B N / (N + R)), at least 1 and at most B, the rest is replayed (Pellegrini
et al. 2020, section III; the rounding is ours). Every new latent is used exactly once an epoch, so an
epoch has ceil(N / share) mini-batches. CORe50 NICv2-391 with N = 300, R = 1500, B = 128: 21 new and 107
replayed, 15 mini-batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

__all__ = ["epoch_minibatches", "new_share"]


def new_share(num_new: int, num_stored: int, batch_size: int) -> int:
    """New latents in a full mini-batch, 1..batch_size, for any num_new >= 1, num_stored >= 0, batch_size >= 1.

    Halves are rounded up: a share of 2.5 gives 3.
    """
    if num_new < 1 or num_stored < 0 or batch_size < 1:
        raise ValueError(
            f"need num_new >= 1, num_stored >= 0, batch_size >= 1, got {num_new}, {num_stored}, {batch_size}"
        )
    share = math.floor(batch_size * num_new / (num_new + num_stored) + 0.5)
    return min(max(share, 1), batch_size)


def epoch_minibatches(
    num_new: int, num_stored: int, batch_size: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows of the new latents, rows of the memory) for each mini-batch of one epoch.

    New rows: each of 0..num_new-1 exactly once, in random order; the last mini-batch takes what is left,
    with replayed ones in the same proportion. Memory rows: distinct within a mini-batch, taken in turn from
    a fresh shuffle; a mini-batch for which too few are left of it begins another one, so that a row may return
    while those few were never drawn.
    """
    share = new_share(num_new, num_stored, batch_size)
    replayed = min(batch_size - share, num_stored)
    new_order = rng.permutation(num_new)
    stored_order = rng.permutation(num_stored)
    position = 0
    for start in range(0, num_new, share):
        new_rows = new_order[start : start + share]
        count = math.ceil(replayed * len(new_rows) / share)
        if position + count > num_stored:
            stored_order, position = rng.permutation(num_stored), 0
        yield new_rows, stored_order[position : position + count]
        position += count
