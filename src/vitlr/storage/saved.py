"""What a saved state must hold before it is taken over.

A checksum tells damage, not who wrote it: a state from other hands may be whole and fit nowhere. What it would
break later, in the middle of an experience, is refused here, by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vitlr.errors import RunError

__all__ = ["saved_count", "saved_tensor"]

_LARGEST = 2**53  # of any count


def saved_tensor(
    tensors: Mapping[str, Tensor], name: str, shape: Sequence[int | None], dtype: torch.dtype
) -> Tensor:
    """The tensor of that name; RunError where it is missing or of another type or shape (None: any size)."""
    if name not in tensors:
        raise RunError(f"the saved state has no {name}; use another copy of it")
    found = tensors[name]
    fits = found.ndim == len(shape) and all(
        wanted is None or size == wanted for size, wanted in zip(found.shape, shape, strict=True)
    )
    if not fits or found.dtype != dtype:
        sides = ", ".join("any" if side is None else str(side) for side in shape)
        raise RunError(
            f"the saved state has {name} of shape {tuple(found.shape)} and type {found.dtype}, and ({sides}) of"
            f" {dtype} belongs there; use another copy of it, or the settings it began with"
        )
    return found


def saved_count(value: Any, name: str) -> int:
    """A whole number >= 0; RunError for anything else."""
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise RunError(
            f"the saved state has {name} {str(value)[:40]}, which is no count; use another copy of it"
        )
    return value
