"""One evaluation by sessions and categories, against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitlr.evaluation.groups import group_measures
from vitlr.evaluation.run import Evaluation

NAMES = ("cup_1", "cup_2", "can_1", "can_2")


def evaluation(predictions: list[int], seen: list[bool], confidence: list[float]) -> Evaluation:
    return Evaluation(
        test_accuracy=math.nan,
        seen_accuracy=math.nan,
        test_loss=math.nan,
        class_accuracy=np.full(4, math.nan),
        predictions=np.array(predictions, dtype=np.int64),
        confidence=np.array(confidence, dtype=np.float64),
        seen=np.array(seen, dtype=bool),
    )


LABELS = np.array([0, 0, 1, 2, 2])
# cup_1 is known, cup_2 and can_1 are not: the last image of cup_2 is taken for the other cup.
SAID = evaluation([0, 0, 0, 0, 0], [True, True, False, False, False], [1.0, 0.6, 0.9, 0.9, 0.9])


def test_an_object_not_yet_known_may_be_right_as_a_category() -> None:
    told = group_measures(SAID, LABELS, NAMES)
    assert told.category_accuracy == pytest.approx(3 / 5)
    np.testing.assert_array_equal(told.class_category_accuracy, [1.0, 1.0, 0.0, np.nan])


def test_sessions_are_judged_by_the_object_and_unseen_classes_are_wrong_in_them() -> None:
    told = group_measures(SAID, LABELS, NAMES, np.array([3, 7, 3, 7, 7]))
    assert told.session_accuracy == {3: pytest.approx(1 / 2), 7: pytest.approx(1 / 3)}
    assert group_measures(SAID, LABELS, NAMES).session_accuracy == {}


def test_calibration_is_over_images_of_classes_seen() -> None:
    # Two images, both right, sure by 1.0 and 0.6.
    assert group_measures(SAID, LABELS, NAMES).calibration_error == pytest.approx(0.4 / 2)


def test_a_learner_that_knows_nothing_is_wrong_in_every_group_and_has_no_calibration() -> None:
    nothing = evaluation([0] * 5, [False] * 5, [math.nan] * 5)
    told = group_measures(nothing, LABELS, NAMES, np.array([3, 3, 3, 7, 7]))
    assert told.category_accuracy == 0.0 and told.session_accuracy == {3: 0.0, 7: 0.0}
    assert math.isnan(told.calibration_error)


def test_classes_without_categories_and_an_empty_test_set_have_none() -> None:
    told = group_measures(SAID, LABELS, ("cup", "can", "pen", "tie"))
    assert math.isnan(told.category_accuracy) and told.class_category_accuracy is None
    empty = evaluation([], [], [])
    assert math.isnan(group_measures(empty, np.zeros(0, dtype=int), NAMES).category_accuracy)
