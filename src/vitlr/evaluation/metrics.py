"""Measures of continual learning, as pure functions of labels, predictions and the accuracy matrix R.

Shape letters: N test images, C classes, G groups of test images, E experiences learned, B bins.

R[i, j] is the accuracy on group j after experience i. A group is any part of the test set: the images of
one experience's classes, of one class, of one session. Where a measure needs to know when a group was
learned it takes ``learned_G``, the experience that group came with; by default group j came with
experience j, which is the square matrix of the papers. All accuracies are fractions 0..1. A value that does
not exist (no image of a class, no earlier experience) is NaN, and means leave it out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

__all__ = [
    "RunningForgetting",
    "accuracy",
    "average_incremental_accuracy",
    "backward_transfer",
    "calibration_error",
    "categories_of",
    "confusion_matrix",
    "confusions",
    "forward_transfer",
    "mean_and_sd",
    "row_normalised",
    "session_accuracy",
]

_OBJECT = re.compile(r"(.+)_(\d+)")


# -- one model on one test set --------------------------------------------------------------------------


def accuracy(labels_N: np.ndarray, predictions_N: np.ndarray) -> float:
    """Share of predictions that equal the label; 0..1, higher is better; NaN without images."""
    return _mean(_pairs(labels_N, predictions_N))


def confusion_matrix(labels_N: np.ndarray, predictions_N: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, C) int64 counts: entry [t, p] is how many images of class t (row: true) were taken for p (column).

    Raises:
        ValueError: a label or prediction outside 0..num_classes-1, or not as many of the one as of the other.
    """
    _pairs(labels_N, predictions_N)
    labels, predictions = np.asarray(labels_N, dtype=np.int64), np.asarray(predictions_N, dtype=np.int64)
    both = np.concatenate([labels, predictions])
    if both.size and (both.min() < 0 or both.max() >= num_classes):
        raise ValueError(f"class indices must be 0 to {num_classes - 1}, got {both.min()} to {both.max()}")
    flat = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes).astype(np.int64)


def row_normalised(confusion_CC: np.ndarray) -> np.ndarray:
    """Each row divided by its sum: the shares of a true class's images by prediction; NaN without images.

    The diagonal is then the accuracy of each class. Dividing by columns would give precisions instead.
    """
    totals_C1 = np.asarray(confusion_CC).sum(axis=1, keepdims=True)
    return np.asarray(confusion_CC) / np.where(totals_C1 > 0, totals_C1, np.nan)


def session_accuracy(correct_N: np.ndarray, sessions_N: np.ndarray) -> dict[int, float]:
    """Accuracy on each session's images (CORe50 tests on 3, 7 and 10), ascending; 0..1, higher is better.

    Args:
        correct_N: bool, whether each image was recognised.
    """
    correct_N, sessions_N = np.asarray(correct_N), np.asarray(sessions_N)
    if sessions_N.shape != correct_N.shape:
        raise ValueError(f"give one session for each image: got {sessions_N.shape} for {correct_N.shape}")
    return {int(session): _mean(correct_N[sessions_N == session]) for session in np.unique(sessions_N)}


def confusions(confusion_CC: np.ndarray, most: int = 5) -> list[tuple[int, int, float]]:
    """The most frequent confusions, as (true class, predicted class, share of the true class's images).

    At most ``most`` of them, largest share first; what never happened is left out.
    """
    shares_CC = np.nan_to_num(row_normalised(confusion_CC))
    np.fill_diagonal(shares_CC, 0.0)
    places = np.argsort(-shares_CC, axis=None, kind="stable")[: max(0, most)]
    pairs = np.stack(np.unravel_index(places, shares_CC.shape), axis=1).tolist()
    return [(true, said, float(shares_CC[true, said])) for true, said in pairs if shares_CC[true, said] > 0]


def categories_of(names: Sequence[str]) -> tuple[np.ndarray | None, list[str]]:
    """(C,) category of each class and the categories' names, for names such as ``cup_1`` to ``cup_5``; None
    if classes are not numbered objects of some categories, several of each."""
    found = [_OBJECT.fullmatch(name) for name in names]
    if not names or not all(found):
        return None, []
    stems = [match.group(1) for match in found if match]
    categories = list(dict.fromkeys(stems))
    if len(categories) < 2 or len(categories) * 2 > len(names):
        return None, []
    return np.array([categories.index(stem) for stem in stems]), categories


def calibration_error(confidence_N: np.ndarray, correct_N: np.ndarray, num_bins: int = 15) -> float:
    """How far confidence is from accuracy; 0..1, lower is better; NaN without images.

    ECE = sum over bins of |images in bin| / N * |accuracy of bin - mean confidence of bin|, where confidence
    is the largest probability, rows summing to 1, and the bins ((b-1)/B, b/B] are equally wide (Guo et al.,
    "On Calibration of Modern Neural Networks", ICML 2017, equation 3).
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be >= 1, got {num_bins}")
    confidence_N = np.asarray(confidence_N, dtype=np.float64)
    if len(confidence_N) == 0:
        return float("nan")
    # Rounding may carry a probability a little above 1.
    bin_N = np.clip(np.ceil(confidence_N * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    gap_B = np.bincount(bin_N, weights=correct_N - confidence_N, minlength=num_bins)
    return float(np.abs(gap_B).sum() / len(confidence_N))


# -- along the stream -----------------------------------------------------------------------------------


def average_incremental_accuracy(accuracy_E: Sequence[float] | np.ndarray) -> float:
    """Mean over the stream of the test accuracy after each experience; 0..1, higher is better.

    Rebuffi et al., "iCaRL", CVPR 2017. It depends on whether the accuracies are over the whole
    test set or over the classes seen so far: say which.
    """
    return _mean(np.asarray(accuracy_E, dtype=np.float64))


def backward_transfer(matrix_EG: np.ndarray, learned_G: np.ndarray | None = None) -> float:
    """What later experiences did to a group after its own: -1..1, higher is better, negative is forgetting.

    BWT = mean over j of (R[E-1, j] - R[learned_j, j]), over the groups learned before the last experience
    (Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, equation 3). Forgetting
    compares with the best accuracy instead, so -BWT <= forgetting. NaN after the first experience.
    """
    matrix, learned = _matrix(matrix_EG, learned_G)
    groups = np.flatnonzero(learned < len(matrix) - 1)
    return _mean(matrix[-1, groups] - matrix[learned[groups], groups])


class RunningForgetting:
    """Forgetting over classes, an experience at a time: -1..1, lower is better.

    F = mean over j of (max_{i < E-1} R[i, j] - R[E-1, j]), the best accuracy that a class had before the last
    experience minus its last, over the classes learned before it (Chaudhry et al., "Riemannian Walk for
    Incremental Learning", ECCV 2018). Negative if classes improved; NaN after the first experience. A class
    counts from when it was learned. Adding an experience takes time for C numbers.
    """

    def __init__(self, num_classes: int) -> None:
        self._best_C = np.full(num_classes, np.nan)
        self._learned_C = np.zeros(num_classes, dtype=bool)

    def add(self, accuracy_C: np.ndarray, classes: Sequence[int]) -> float:
        """Forgetting after an experience with these class indices, that left these accuracies; NaN if none."""
        accuracy_C = np.asarray(accuracy_C, dtype=np.float64)
        lost = _mean((self._best_C - accuracy_C)[self._learned_C])
        self._learned_C[list(classes)] = True
        self._best_C[self._learned_C] = np.fmax(self._best_C, accuracy_C)[self._learned_C]
        return lost


def forward_transfer(
    matrix_EG: np.ndarray, baseline_G: np.ndarray, learned_G: np.ndarray | None = None
) -> float:
    """What earlier experiences did for a group before its own: -1..1, higher is better.

    FWT = mean over j of (R[learned_j - 1, j] - b_j), over the groups learned after the first experience, b_j
    being the accuracy of the model before it learned anything (Lopez-Paz & Ranzato 2017, equation 4). A
    classifier that never predicts unseen classes has 0 - b_j on new classes: the measure is informative
    if groups are sessions or domains, or if an object not yet learned may be taken for another one of its
    category: R[i, j] is then the category accuracy on object j, and b_j chance.
    """
    matrix, learned = _matrix(matrix_EG, learned_G)
    groups = np.flatnonzero((learned > 0) & (learned < len(matrix)))
    return _mean(matrix[learned[groups] - 1, groups] - np.asarray(baseline_G, dtype=np.float64)[groups])


# -- over runs ------------------------------------------------------------------------------------------


def mean_and_sd(values: Sequence[float] | np.ndarray) -> tuple[float, float | None] | None:
    """Mean and sample standard deviation (divisor n - 1) over runs; None if a value is missing.

    One value has no standard deviation: None.
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.size or np.isnan(values).any():
        return None
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else None


# -- small parts ----------------------------------------------------------------------------------------


def _pairs(labels_N: np.ndarray, predictions_N: np.ndarray) -> np.ndarray:
    """(N,) bool: right or wrong."""
    labels, predictions = np.asarray(labels_N), np.asarray(predictions_N)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(f"give one prediction for each label: got {predictions.shape} for {labels.shape}")
    return labels == predictions


def _mean(values: np.ndarray) -> float:
    """Mean of the values that exist; NaN if there is none."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _matrix(matrix_EG: np.ndarray, learned_G: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The matrix, and (G,) the experience that each group came with."""
    matrix = np.asarray(matrix_EG, dtype=np.float64)
    if matrix.ndim != 2 or len(matrix) == 0:
        raise ValueError(f"the accuracy matrix must be (experiences >= 1, groups), got {matrix.shape}")
    learned = np.arange(matrix.shape[1]) if learned_G is None else np.asarray(learned_G, dtype=np.int64)
    if learned.shape != (matrix.shape[1],) or (learned < 0).any():
        raise ValueError(f"give the experience, from 0, that each of {matrix.shape[1]} groups came with")
    return matrix, learned
