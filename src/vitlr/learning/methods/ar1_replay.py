"""AR1* with latent replay: Synaptic Intelligence holds the blocks as well.

Pellegrini et al., "Latent Replay for Real-Time Continual Learning", IROS 2020 (arXiv 1912.01100); ``learning.si``.
"""

from __future__ import annotations

from vitlr.learning.method import Method

__all__ = ["METHOD"]

METHOD = Method(
    name="ar1_replay",
    summary="AR1* with latent replay: CWR* and Synaptic Intelligence (Pellegrini et al. 2020)",
    replay="memory",
    consolidate=True,
    synaptic_intelligence=True,
)
