"""Labels and images as programs give them, checked.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitlr.data.images import as_images
from vitlr.data.video import Video
from vitlr.errors import DataError

__all__ = ["Label", "checked_images", "checked_label", "checked_labels", "label_array"]

Label = str | int


def checked_images(X: Any) -> list[Any]:
    """One image or many as a list. Raises DataError if there is none."""
    images = [X] if isinstance(X, Video) else as_images(X)
    if not images:
        raise DataError("no images were given; give at least one array, path or PIL image")
    return images


def checked_label(label: Any) -> Label:
    """A plain str or int. Raises DataError for anything else, True and False included."""
    if isinstance(label, str):
        return str.__str__(label)  # of an enumeration too the text, not its name
    if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
        return int(label)
    raise DataError(f"a label must be a string or an integer, got {label!r} ({type(label).__name__})")


def checked_labels(y: Any, num: int) -> list[Label]:
    """``num`` labels from one for all or one for each. Raises DataError for another number or type."""
    y = y.tolist() if hasattr(y, "tolist") else y  # NumPy, PyTorch, pandas
    if isinstance(y, (str, bytes)) or not hasattr(y, "__iter__"):
        return [checked_label(y)] * num
    labels = [checked_label(label) for label in y]
    if len(labels) != num:
        raise DataError(f"{num} images came with {len(labels)} labels; give one label for all or one each")
    return labels


def label_array(labels: Sequence[Label]) -> np.ndarray:
    """Labels as NumPy has them: int64, text, or objects if they are mixed or too large."""
    if all(isinstance(label, str) for label in labels):
        array = np.array(labels, dtype=str)
        if array.tolist() == list(labels):  # NumPy drops NUL at the end
            return array
    elif all(isinstance(label, int) and -(2**63) <= label < 2**63 for label in labels):
        return np.array(labels, dtype=np.int64)
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array
