"""Data sets of a program as a stream: anything with a length whose items begin with an image and its label.

Such are torchvision's data sets, ``torch.utils.data.Subset``, the data sets of scenarios by Avalanche and
Continuum, and Hugging Face's ``Dataset``. Images are fetched when they are encoded. An array or tensor with
channels first, as torch has them, is an image here; values are uint8 or floats within 0..1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vitlr.data.experience import TEST, Experience, Item, Stream
from vitlr.data.hub import HubPairs, is_hub_object
from vitlr.data.names import checked_name
from vitlr.errors import DataError

__all__ = ["stream_from_datasets"]


def stream_from_datasets(
    experiences: Iterable[Any],
    test: Any,
    *,
    class_names: Sequence[str] | None = None,
    name: str = "data sets",
) -> Stream:
    """A stream of an experience from each data set, tested on another one.

    Args:
        experiences: data sets in the order in which they are learned.
        test: a data set, or several that are joined.
        class_names: names of the labels 0, 1, ...; without them the labels' own text, sorted, numbers by number.
        name: of the stream.

    Raises:
        DataError: no data set, an empty one, items that are not (image, label), a label out of range.
    """
    parts = [_pairs(part) for part in experiences]
    tests = [_pairs(part) for part in (test if isinstance(test, (list, tuple)) else [test])]
    if not parts or not tests:
        raise DataError("a stream needs at least one data set to learn from and one to test on")
    labels = [_labels(part, f"data set {place}") for place, part in enumerate(parts)]
    tested = [_labels(part, f"test data set {place}") for place, part in enumerate(tests)]
    names, index = _classes([*labels, *tested], class_names)
    return Stream(
        name=name,
        root=None,
        experiences=tuple(
            _experience(place, f"experience {place}", [(part, each)], index, name)
            for place, (part, each) in enumerate(zip(parts, labels, strict=True))
        ),
        test=_experience(TEST, "test", list(zip(tests, tested, strict=True)), index, name),
        class_names=names,
    )


def _pairs(dataset: Any) -> Any:
    return HubPairs(dataset) if is_hub_object(dataset) else dataset


def _labels(dataset: Any, what: str) -> list[Any]:
    """The label of each item, without fetching images if the data set lists its labels."""
    try:
        length = len(dataset)
    except TypeError:
        raise DataError(f"{what} has no length; give a data set with len() and items by number") from None
    if not length:
        raise DataError(f"{what} is empty; leave it out")
    listed = _listed(dataset)
    if listed is None or len(listed) != length:
        listed = [_item(dataset, row, what)[1] for row in range(length)]
    return [label.item() if hasattr(label, "item") else label for label in listed]


def _listed(dataset: Any) -> list[Any] | None:
    """Labels under one of the names that libraries give them, through subsets."""
    for name in ("targets", "labels", "_labels", "_y"):
        found = getattr(dataset, name, None)
        if found is not None and not callable(found):
            return list(found)
    inner, indices = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
    if inner is None or indices is None:
        return None
    listed = _listed(inner)
    return None if listed is None else [listed[int(place)] for place in indices]


def _item(dataset: Any, row: int, what: str) -> tuple[Any, Any]:
    item = dataset[row]
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise DataError(
            f"{what} gives a {type(item).__name__} as item {row}; items begin with an image and its label"
        )
    return item[0], item[1]


def _classes(labels: list[list[Any]], names: Sequence[str] | None) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Class names, and the class of each label."""
    known = {label for part in labels for label in part}
    for label in known:
        if isinstance(label, bool) or not isinstance(label, (int, str)):
            raise DataError(f"a label must be a string or an integer, got {label!r} ({type(label).__name__})")
    if names is not None:
        wrong = [label for label in known if isinstance(label, str) or not 0 <= label < len(names)]
        if wrong:
            raise DataError(
                f"label {wrong[0]!r} has no name; class_names gives names to 0 to {len(names) - 1}"
            )
        return tuple(checked_name(str(each)) for each in names), {label: label for label in known}
    ordered = sorted(known, key=lambda label: (isinstance(label, str), label))
    texts = [checked_name(str(label)) for label in ordered]
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise DataError(f"two labels read {twice!r}; give each class one label")
    return tuple(texts), {label: place for place, label in enumerate(ordered)}


def _experience(
    index: int, title: str, parts: list[tuple[Any, list[Any]]], classes: dict[Any, int], name: str
) -> Experience:
    return Experience(
        index=index,
        name=title,
        paths=tuple(
            Item(f"{name}: {title}, {place}/{row}", _Load(part, row))
            for place, (part, labels) in enumerate(parts)
            for row in range(len(labels))
        ),
        labels=np.array([classes[label] for _, labels in parts for label in labels], dtype=np.int64),
    )


class _Load:
    """Fetches one image of a data set when it is called."""

    def __init__(self, dataset: Any, row: int) -> None:
        self.dataset, self.row = dataset, row

    def __call__(self) -> Any:
        try:
            image, _ = _item(self.dataset, self.row, "the data set")
        except DataError:
            raise
        except Exception as error:  # whatever a foreign data set raises
            detail = " ".join(str(error).split())[:100]
            raise DataError(
                f"item {self.row} of a data set cannot be fetched ({detail}); see its own code"
            ) from error
        shape = getattr(image, "shape", None)
        if shape is not None and len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
            return np.moveaxis(np.asarray(image), 0, -1)
        return image
