"""The one directory below which files are kept that can be made again: latents, rendered objects."""

from __future__ import annotations

import os
from pathlib import Path

from vitlr.errors import RunError

__all__ = ["cache_root"]


def cache_root() -> Path:
    """The cache directory: ``$VITLR_CACHE``, else ``$XDG_CACHE_HOME/vitlr``, else ``~/.cache/vitlr``.

    It need not exist; whoever writes makes it. A relative XDG_CACHE_HOME is ignored, as the XDG Base Directory
    Specification asks.

    Raises:
        RunError: it lies in a home directory, and the system names none.
    """
    own = os.environ.get("VITLR_CACHE")
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if own:
            return Path(own).expanduser().absolute()
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "vitlr"
    except RuntimeError as error:
        raise RunError(f"there is no place for a cache ({error}): set VITLR_CACHE to a directory") from error
