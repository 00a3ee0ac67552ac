"""Fixtures of the network's tests, for latents too."""

from tests.vit.conftest import directories, directory, kind, one_thread

__all__ = ["directories", "directory", "kind", "one_thread"]
