"""AR1*free with latent replay: nothing holds the blocks but what is replayed.

Pellegrini et al., "Latent Replay for Real-Time Continual Learning", IROS 2020 (arXiv 1912.01100).
"""

from __future__ import annotations

from vitlr.learning.method import Method

__all__ = ["METHOD"]

METHOD = Method(
    name="ar1free",
    summary="AR1*free with latent replay: CWR*, no Synaptic Intelligence (Pellegrini et al. 2020)",
    replay="memory",
    consolidate=True,
    synaptic_intelligence=False,
)
