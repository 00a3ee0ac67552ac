"""Names of directories."""

from __future__ import annotations

import re

__all__ = ["slug"]


def slug(name: str) -> str:
    """A directory name for a variant of a comparison."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "variant"
