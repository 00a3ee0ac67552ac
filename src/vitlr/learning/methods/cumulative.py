"""Retraining on everything seen so far: an upper bound, with a memory that has none."""

from __future__ import annotations

from vitlr.learning.method import Method

__all__ = ["METHOD"]

METHOD = Method(
    name="cumulative",
    summary="retraining on everything seen so far: the upper bound",
    replay="all",
    consolidate=False,
)
