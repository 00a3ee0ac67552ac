"""Latent replay: new and replayed latents in each mini-batch, the classifier kept by CWR*.

Pellegrini, Graffieti, Lomonaco & Maltoni, "Latent Replay for Real-Time Continual Learning", IROS 2020
(arXiv 1912.01100), section III.
"""

from __future__ import annotations

from vitlr.learning.method import Method

__all__ = ["METHOD"]

METHOD = Method(
    name="latent_replay",
    summary="latent replay with CWR*; ar1free or, with lambda > 0, ar1_replay under one name",
    replay="memory",
    consolidate=True,
)
