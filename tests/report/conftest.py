"""Fixtures of runs, for reports too."""

from tests.runs.conftest import flags, tiny_tree, tiny_vit

__all__ = ["flags", "tiny_tree", "tiny_vit"]
