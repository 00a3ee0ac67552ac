"""One evaluation seen by groups of test images: recording sessions, and categories of the objects.

The same predictions are judged again: a model trained on 50 objects predicts an object, and is right about the
category if that object belongs to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitlr.evaluation import metrics
from vitlr.evaluation.run import Evaluation

__all__ = ["GroupMeasures", "group_measures"]


@dataclass(frozen=True, kw_only=True)
class GroupMeasures:
    """Fractions 0..1; higher is better but for the calibration error.

    Attributes:
        category_accuracy: test images taken for an object of the right category, whether or not their own is
            known yet; NaN if classes have no categories.
        class_category_accuracy: (C,) the same for the images of each class; None without categories, NaN for a
            class without images.
        session_accuracy: accuracy on each session's images; empty if there are no sessions.
        calibration_error: expected calibration error over images of classes seen so far.
    """

    category_accuracy: float
    class_category_accuracy: np.ndarray | None
    session_accuracy: dict[int, float]
    calibration_error: float


def group_measures(
    evaluation: Evaluation, labels_N: np.ndarray, names: tuple[str, ...], sessions_N: np.ndarray | None = None
) -> GroupMeasures:
    """Judge predictions by group; ``names`` are the classes', ``sessions_N`` the test images'."""
    category_C, _ = metrics.categories_of(names)
    predictions_N = evaluation.predictions
    # A learner that knows no class yet predicts nothing, which is wrong for every label.
    said_N = ~np.isnan(evaluation.confidence)
    right_N = (predictions_N == labels_N) & evaluation.seen
    category_accuracy, class_category = float("nan"), None
    if category_C is not None and len(labels_N):
        same_N = (category_C[labels_N] == category_C[predictions_N]) & said_N
        totals_C = np.bincount(labels_N, minlength=len(names))
        hits_C = np.bincount(labels_N, weights=same_N, minlength=len(names))
        class_category = np.divide(hits_C, totals_C, out=np.full(len(names), np.nan), where=totals_C > 0)
        category_accuracy = float(same_N.mean())
    return GroupMeasures(
        category_accuracy=category_accuracy,
        class_category_accuracy=class_category,
        session_accuracy={} if sessions_N is None else metrics.session_accuracy(right_N, sessions_N),
        calibration_error=metrics.calibration_error(
            evaluation.confidence[evaluation.seen], right_N[evaluation.seen]
        ),
    )
