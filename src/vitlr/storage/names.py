"""Names of directories."""

from __future__ import annotations

import re

__all__ = ["slug"]


def slug(name: str) -> str:
    """A directory name for a variant of a comparison: letters of all alphabets, digits, dots and dashes."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "variant"
