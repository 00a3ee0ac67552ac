"""The picture of a confusion matrix."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vitlr.errors import DataError
from vitlr.report.confusion import confusion_matrix


def test_rows_are_true_classes_and_sum_to_one() -> None:
    counts = np.array([[6, 2, 0], [0, 10, 0], [0, 0, 0]])
    figure = confusion_matrix(counts, ["mug", "can", "cup"])
    shown = figure.axes[0].images[0].get_array()
    assert np.allclose(shown[:2], [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0]])
    assert shown.mask[2].all(), "a class without test images has no shares"
    assert figure.axes[0].get_ylabel() == "true class"


def test_the_names_of_50_classes_do_not_overlap() -> None:
    names = [f"object {number} of a kind" for number in range(50)]
    figure = confusion_matrix(np.eye(50), names)
    figure.canvas.draw()
    axes = figure.axes[0]
    for labels, low, high in (
        (axes.get_yticklabels(), "ymin", "ymax"),
        (axes.get_xticklabels(), "xmin", "xmax"),
    ):
        assert [label.get_text() for label in labels] == names
        spans = sorted((getattr(b, low), getattr(b, high)) for b in (t.get_window_extent() for t in labels))
        assert all(first[1] <= second[0] + 0.5 for first, second in itertools.pairwise(spans))
        assert min(label.get_fontsize() for label in labels) >= 6


@pytest.mark.parametrize(
    "counts", [np.eye(2), np.ones((3, 2)), -np.eye(3), np.full((3, 3), np.nan), np.zeros(3)]
)
def test_what_is_no_confusion_matrix_is_said(counts: np.ndarray) -> None:
    with pytest.raises(DataError, match="confusion matrix"):
        confusion_matrix(counts, ["a", "b", "c"])
