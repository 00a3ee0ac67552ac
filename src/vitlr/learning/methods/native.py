"""Native replay: the memory keeps images, and the whole network is trained on them.

The rehearsal that latent replay is compared with by Pellegrini et al. 2020 (arXiv 1912.01100); ``vit.images``.
"""

from __future__ import annotations

from vitlr.learning.method import Method

__all__ = ["METHOD"]

METHOD = Method(
    name="native",
    summary="native replay: images are kept, the whole network is trained (Pellegrini et al. 2020)",
    replay="memory",
    consolidate=True,
    images=True,
)
