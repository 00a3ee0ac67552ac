"""AR1*: CWR* and Synaptic Intelligence, without replay.

Lomonaco, Maltoni & Pellegrini, "Rehearsal-Free Continual Learning over Small Non-I.I.D. Batches", CLVision 2020
(arXiv 1907.03799); ``learning.cwr`` and ``learning.si``.
"""

from __future__ import annotations

from vitlr.learning.method import Method

__all__ = ["METHOD"]

METHOD = Method(
    name="ar1",
    summary="AR1*: CWR* and Synaptic Intelligence, no replay (Lomonaco et al. 2020)",
    replay="none",
    consolidate=True,
    synaptic_intelligence=True,
)
