"""CWR*: the blocks are trained in the first experience only, without replay.

Lomonaco, Maltoni & Pellegrini, "Rehearsal-Free Continual Learning over Small Non-I.I.D. Batches", CLVision 2020
(arXiv 1907.03799), algorithm 1; ``learning.cwr``.
"""

from __future__ import annotations

from vitlr.learning.method import Method

__all__ = ["METHOD"]

METHOD = Method(
    name="cwr",
    summary="CWR*: blocks trained in the first experience only, no replay (Lomonaco et al. 2020)",
    replay="none",
    consolidate=True,
    train_blocks="first",
)
