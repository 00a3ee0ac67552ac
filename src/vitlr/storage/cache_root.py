"""Where files are kept that can be made again: latents and quantised networks."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_root"]


def cache_root() -> Path:
    """The cache directory: ``$VITLR_CACHE``, else ``$XDG_CACHE_HOME/vitlr``, else ``~/.cache/vitlr``.

    It need not exist; whoever writes makes it. A relative XDG_CACHE_HOME is passed over, as the XDG Base
    Directory Specification asks.
    """
    own = os.environ.get("VITLR_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "vitlr"
