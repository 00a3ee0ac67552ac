"""Plain fine-tuning on each experience: what forgets."""

from __future__ import annotations

from vitlr.learning.method import Method

__all__ = ["METHOD"]

METHOD = Method(
    name="naive",
    summary="plain fine-tuning on each experience",
    replay="none",
    consolidate=False,
)
