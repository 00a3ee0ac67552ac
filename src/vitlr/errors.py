"""The errors a user can cause: one sentence that names the thing and the remedy.

The command line prints the sentence and exits with code 2; a program catches :class:`VitLRError`.
"""

from __future__ import annotations

from vitlr.text import harmless

__all__ = ["BackboneError", "ConfigError", "DataError", "RunError", "VitLRError"]


class VitLRError(ValueError):
    """Base of every error that bad input can cause. Its sentence is one line that any terminal can show."""

    def __str__(self) -> str:
        return harmless(super().__str__())


class ConfigError(VitLRError):
    """A setting that is misspelt, out of range or does not fit the others."""


class DataError(VitLRError):
    """A data set, image or label that is missing, damaged or of another kind than expected."""


class BackboneError(VitLRError):
    """A network directory, name or set of weights that cannot be used."""


class RunError(VitLRError):
    """A run directory, saved state or output file that cannot be used."""
