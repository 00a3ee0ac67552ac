"""Labels and images as programs give them, checked.

Shapes: C classes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from vitlr.data.images import as_images
from vitlr.data.names import checked_name
from vitlr.data.video import Video
from vitlr.errors import DataError

__all__ = [
    "Label",
    "check_classes",
    "check_weights",
    "checked_images",
    "checked_label",
    "checked_labels",
    "known_label",
    "label_array",
    "restored_labels",
    "sorted_labels",
]

Label = str | int


def checked_images(X: Any) -> list[Any]:
    """One image or many as a list. Raises DataError if there is none."""
    images = [X] if isinstance(X, Video) else as_images(X)
    if not images:
        raise DataError("no images were given; give at least one array, path or PIL image")
    return images


def checked_label(label: Any) -> Label:
    """A plain str, in Unicode's composed form, or an int.

    Raises:
        DataError: anything else, True and False included; text that :func:`vitlr.data.names.checked_name` refuses.
    """
    if isinstance(label, str):
        return checked_name(str.__str__(label))  # of an enumeration too the text, not its name
    if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
        return int(label)
    raise DataError(f"a label must be a string or an integer, got {label!r} ({type(label).__name__})")


def checked_labels(y: Any, num: int) -> list[Label]:
    """``num`` labels from one for all or one for each.

    Raises:
        DataError: another number or type; a set, which has no order.
    """
    y = y.tolist() if hasattr(y, "tolist") else y  # NumPy, PyTorch, pandas
    if isinstance(y, (str, bytes)) or not hasattr(y, "__iter__"):
        return [checked_label(y)] * num
    if isinstance(y, (Set, Mapping)):
        raise DataError(f"labels came as a {type(y).__name__}, which has no order; give a list")
    labels = [checked_label(label) for label in y]
    if len(labels) != num:
        raise DataError(f"{num} images came with {len(labels)} labels; give one label for all or one each")
    return labels


def sorted_labels(labels: Iterable[Label]) -> list[Label]:
    """Each label once, in the order of ``numpy.unique``; numbers before text if both are there."""
    return sorted(set(labels), key=lambda label: (isinstance(label, str), label))


def known_label(text: str, known: Iterable[Label]) -> Label:
    """The known label that reads so, with its own type; the text if there is none."""
    return next((label for label in known if str(label) == text), text)


def restored_labels(labels: Iterable[Any]) -> tuple[Label | None, ...]:
    """Labels of a saved classifier, in the composed form unless two would then be the same; DataError for others."""
    found = tuple(labels)
    composed = tuple(unicodedata.normalize("NFC", each) if isinstance(each, str) else each for each in found)
    if len(set(composed)) == len(set(found)):
        found = composed
    for label in found:
        if label is not None and (isinstance(label, bool) or not isinstance(label, (str, int))):
            raise DataError(f"a label must be a string or an integer, got {label!r} ({type(label).__name__})")
    return found


def check_classes(classes: Any, labels: Iterable[Label]) -> None:
    """DataError if ``classes``, the labels that may come, are given and lack one of these."""
    if classes is None:
        return
    classes = classes.tolist() if hasattr(classes, "tolist") else classes
    if isinstance(classes, (str, bytes)) or not hasattr(classes, "__iter__"):
        raise DataError(f"classes must be a list of the labels that may come, got {classes!r:.60}")
    allowed = {checked_label(label) for label in classes}
    missing = sorted_labels(set(labels) - allowed)
    if missing:
        raise DataError(f"label {missing[0]!r} is not in classes; leave classes out, or add it there")


def check_weights(sample_weight: Any, num: int) -> None:
    """DataError unless the weights are None, or ``num`` equal positive numbers: every image counts the same."""
    if sample_weight is None:
        return
    try:
        weights = np.asarray(sample_weight, dtype=float)
    except (TypeError, ValueError):
        raise DataError(
            "sample_weight must be numbers; leave it out, as every image counts the same"
        ) from None
    if weights.shape not in ((), (num,)) or not (weights > 0).all() or np.ptp(weights) != 0:
        raise DataError(
            "sample_weight must be left out or the same positive number for each image, as every image counts the"
            " same; give an image more often in its place"
        )


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
