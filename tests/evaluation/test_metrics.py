"""Measures against cases worked out by hand, scikit-learn and what their definitions promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sklearn_metrics

from vitlr.evaluation import metrics

# Rows: after experience 0, 1, 2. Columns: groups that came with experience 0, 1, 2.
R = np.array([[0.9, 0.1, 0.2], [0.6, 0.8, 0.3], [0.7, 0.5, 0.9]])

pairs = st.integers(1, 40).flatmap(
    lambda number: st.tuples(
        hnp.arrays(np.int64, number, elements=st.integers(0, 5)),
        hnp.arrays(np.int64, number, elements=st.integers(0, 5)),
    )
)
matrices = hnp.arrays(
    np.float64, st.integers(1, 6).map(lambda size: (size, size)), elements=st.floats(0, 1, allow_nan=False)
)


# -- one model on one test set --------------------------------------------------------------------------


def test_confusion_matrix_has_the_true_class_in_its_rows() -> None:
    confusion = metrics.confusion_matrix(np.array([0, 0, 0, 2]), np.array([0, 1, 1, 0]), 3)
    assert confusion.tolist() == [[1, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_normalisation_is_along_rows_so_that_the_diagonal_is_class_accuracy() -> None:
    confusion = np.array([[1, 3, 0], [0, 0, 0], [1, 0, 1]])
    normalised = metrics.row_normalised(confusion)
    assert normalised[0].tolist() == [0.25, 0.75, 0.0] and normalised[2].tolist() == [0.5, 0.0, 0.5]
    assert np.isnan(normalised[1]).all()


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_scikit_learn_counts_the_same(both: tuple[np.ndarray, np.ndarray]) -> None:
    labels, predictions = both
    confusion = metrics.confusion_matrix(labels, predictions, 6)
    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=range(6))
    assert np.array_equal(confusion, expected)
    assert metrics.accuracy(labels, predictions) == pytest.approx(
        sklearn_metrics.accuracy_score(labels, predictions)
    )
    recalls = sklearn_metrics.recall_score(
        labels, predictions, labels=np.unique(labels), average=None, zero_division=0
    )
    shares = np.diagonal(metrics.row_normalised(confusion))
    np.testing.assert_allclose(shares[np.unique(labels)], recalls)
    assert metrics.accuracy(labels, predictions) == pytest.approx(np.trace(confusion) / confusion.sum())


def test_session_accuracies_weighted_by_their_images_are_the_accuracy() -> None:
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 3, size=(2, 90))
    sessions = rng.choice([10, 3, 7], size=90)
    by_session = metrics.session_accuracy(labels == predictions, sessions)
    assert list(by_session) == [3, 7, 10]
    weighted = sum(by_session[s] * (sessions == s).sum() for s in by_session) / 90
    assert weighted == pytest.approx(metrics.accuracy(labels, predictions))


def expected_calibration_error(probabilities_NC: np.ndarray, labels_N: np.ndarray, bins: int) -> float:
    correct_N = probabilities_NC.argmax(axis=1) == labels_N
    return metrics.calibration_error(probabilities_NC.max(axis=1), correct_N, bins)


def test_calibration_error_matches_a_case_worked_out_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.85, 0.15], [0.4, 0.6], [0.45, 0.55]])
    labels = np.array([0, 1, 1, 1])
    # Four bins of 0.25. (0.75, 1]: accuracy 1/2, confidence 0.9. (0.5, 0.75]: accuracy 1, confidence 0.575.
    expected = (2 * abs(0.5 - 0.9) + 2 * abs(1.0 - 0.575)) / 4
    assert expected_calibration_error(probabilities, labels, 4) == pytest.approx(expected)


def test_a_confidence_on_a_border_belongs_to_the_bin_below() -> None:
    # 0.5 belongs to (0, 0.5] and 0.75 to (0.5, 1]. In one bin the errors of the two would cancel.
    probabilities = np.array([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0]])
    labels = np.array([0, 1])
    expected = (abs(1 - 0.5) + abs(0 - 0.75)) / 2
    assert expected_calibration_error(probabilities, labels, 2) == pytest.approx(expected)


def test_calibration_error_of_confident_truth_is_zero_and_of_confident_error_one() -> None:
    certain = np.eye(3)
    assert expected_calibration_error(certain, np.array([0, 1, 2]), 15) == 0
    assert expected_calibration_error(certain, np.array([1, 2, 0]), 15) == 1


@given(seed=st.integers(0, 1000), bins=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_calibration_error_is_within_bounds_and_at_least_that_of_one_bin(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.ones(4), size=30), rng.integers(0, 4, size=30)
    error = expected_calibration_error(probabilities, labels, bins)
    whole = expected_calibration_error(probabilities, labels, 1)
    assert -1e-12 <= whole <= error + 1e-12 <= 1 + 1e-9
    correct = probabilities.argmax(axis=1) == labels
    assert whole == pytest.approx(abs(correct.mean() - probabilities.max(axis=1).mean()))


def test_no_images_give_nan_and_never_a_warning() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert math.isnan(metrics.accuracy(none, none))
    assert math.isnan(metrics.calibration_error(np.zeros(0), none == none))
    assert np.isnan(metrics.row_normalised(metrics.confusion_matrix(none, none, 3))).all()
    assert metrics.session_accuracy(none == none, none) == {}


def test_arrays_that_do_not_pair_up_and_classes_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="one prediction for each label"):
        metrics.accuracy(np.array([1, 2]), np.array([1]))
    with pytest.raises(ValueError, match="0 to 2, got 0 to 3"):
        metrics.confusion_matrix(np.array([0, 3]), np.array([0, 0]), 3)
    with pytest.raises(ValueError, match="one session for each image"):
        metrics.session_accuracy(np.array([True, True]), np.array([3]))
    with pytest.raises(ValueError, match="num_bins"):
        metrics.calibration_error(np.ones(1), np.array([True]), 0)


# -- along the stream -----------------------------------------------------------------------------------


def forgetting(matrix_EG: np.ndarray, learned_G: np.ndarray | None = None) -> float:
    """After the last experience, from the records one after the other."""
    learned = np.arange(matrix_EG.shape[1]) if learned_G is None else learned_G
    running = metrics.RunningForgetting(matrix_EG.shape[1])
    return [
        running.add(row, np.flatnonzero(learned == position).tolist())
        for position, row in enumerate(matrix_EG)
    ][-1]


def test_measures_of_the_stream_match_a_case_worked_out_by_hand() -> None:
    # Best before the last: 0.9 and 0.8; group 2 came last and cannot have been forgotten.
    assert forgetting(R) == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)
    assert metrics.backward_transfer(R) == pytest.approx(((0.7 - 0.9) + (0.5 - 0.8)) / 2)
    # Before its own experience: group 1 had 0.1 after the first, group 2 had 0.3 after the second.
    baseline = np.array([0.5, 0.05, 0.1])
    assert metrics.forward_transfer(R, baseline) == pytest.approx(((0.1 - 0.05) + (0.3 - 0.1)) / 2)
    assert metrics.average_incremental_accuracy([0.9, 0.7, 0.5]) == pytest.approx(0.7)


def test_groups_may_have_come_with_any_experience() -> None:
    matrix = np.array([[0.8, 0.9, 0.0], [0.9, 0.4, 0.0], [0.6, 0.6, 0.7], [0.7, 0.5, 0.5]])
    learned = np.array([0, 0, 2])
    assert forgetting(matrix, learned) == pytest.approx(((0.9 - 0.7) + (0.9 - 0.5) + (0.7 - 0.5)) / 3)
    expected = ((0.7 - 0.8) + (0.5 - 0.9) + (0.5 - 0.7)) / 3
    assert metrics.backward_transfer(matrix, learned) == pytest.approx(expected)
    assert metrics.forward_transfer(matrix, np.zeros(3), learned) == pytest.approx(0.0)


def test_forgetting_counts_from_the_best_and_backward_transfer_from_the_own_experience() -> None:
    matrix = np.array([[0.5, 0.0, 0.0], [0.9, 0.5, 0.0], [0.6, 0.5, 0.5]])
    assert metrics.backward_transfer(matrix) == pytest.approx(0.05)  # 0.5 -> 0.6: gained since
    assert forgetting(matrix) == pytest.approx(0.15)  # 0.9 -> 0.6: lost since


@given(matrices)
@settings(max_examples=60, deadline=None)
def test_forgetting_is_at_least_what_backward_transfer_lost_and_both_are_within_bounds(
    matrix: np.ndarray,
) -> None:
    lost, transfer = forgetting(matrix), metrics.backward_transfer(matrix)
    if len(matrix) == 1:
        assert math.isnan(lost) and math.isnan(transfer)
        return
    assert -1 <= transfer <= 1 and -1 <= lost <= 1
    assert lost >= -transfer - 1e-12


@given(matrices)
@settings(max_examples=30, deadline=None)
def test_what_only_improves_is_not_forgotten(matrix: np.ndarray) -> None:
    improving = np.sort(matrix, axis=0)
    if len(matrix) > 1:
        assert forgetting(improving) <= 0 <= metrics.backward_transfer(improving)


def test_groups_without_test_images_are_left_out() -> None:
    with_empty = np.column_stack([R[:, 0], np.full(3, np.nan), R[:, 1:]])
    learned = np.array([0, 1, 1, 2])
    for measure in (forgetting, metrics.backward_transfer):
        assert measure(with_empty, learned) == pytest.approx(measure(R))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="accuracy matrix"):
        metrics.backward_transfer(np.zeros(3))
    with pytest.raises(ValueError, match="each of 3 groups"):
        metrics.backward_transfer(R, np.array([0, 1]))


# -- over runs ------------------------------------------------------------------------------------------


def test_mean_and_sample_standard_deviation() -> None:
    assert metrics.mean_and_sd([1.0, 2.0, 3.0, 4.0]) == pytest.approx((2.5, math.sqrt(5 / 3)))


def test_a_single_run_has_no_standard_deviation() -> None:
    assert metrics.mean_and_sd([0.5]) == (0.5, None)


def test_a_missing_value_leaves_no_mean() -> None:
    assert metrics.mean_and_sd([]) is None and metrics.mean_and_sd([0.5, math.nan]) is None


def test_forgetting_passes_over_groups_that_were_not_judged_before_they_were_learned() -> None:
    nan = float("nan")
    matrix = np.array([[0.9, nan, nan], [0.8, 0.7, nan], [0.5, 0.9, 0.6]])
    assert forgetting(matrix) == pytest.approx(((0.9 - 0.5) + (0.7 - 0.9)) / 2)


def test_calibration_error_of_confidences_by_hand() -> None:
    # Two bins of ten: (0.5, 0.6] holds one right and one wrong, (0.9, 1] two right.
    confidence, correct = np.array([0.55, 0.55, 0.95, 0.95]), np.array([True, False, True, True])
    assert metrics.calibration_error(confidence, correct, num_bins=10) == pytest.approx(
        0.5 * abs(0.5 - 0.55) + 0.5 * abs(1.0 - 0.95)
    )


@given(matrices, st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_running_forgetting_is_forgetting_at_every_experience(matrix: np.ndarray, seed: int) -> None:
    num = len(matrix)
    learned = np.random.default_rng(seed).integers(0, num, size=num)
    matrix = np.where(np.arange(num)[:, None] < learned, np.nan, matrix)  # not judged before it is known
    running = metrics.RunningForgetting(num)
    for end in range(num):
        earlier = matrix[: end + 1, learned < end]  # the definition: best before, minus last
        lost = np.fmax.reduce(earlier[:-1], axis=0) - earlier[-1] if earlier.size else np.zeros(0)
        expected = lost.mean() if lost.size else math.nan
        got = running.add(matrix[end], np.flatnonzero(learned == end).tolist())
        assert got == pytest.approx(expected, nan_ok=True)


def test_running_forgetting_passes_over_what_was_said_of_a_class_before_it_was_known() -> None:
    running = metrics.RunningForgetting(2)
    assert math.isnan(running.add(np.array([0.5, 0.9]), [0]))
    assert running.add(np.array([0.6, 0.2]), [1]) == pytest.approx(-0.1)
    assert running.add(np.array([0.6, 0.1]), [0]) == pytest.approx((0.0 + 0.1) / 2)


def test_confusions_are_the_largest_shares_off_the_diagonal() -> None:
    confusion = np.array([[8, 2, 0], [0, 1, 3], [0, 0, 0]])
    assert metrics.confusions(confusion) == [(1, 2, 0.75), (0, 1, 0.2)]
    assert metrics.confusions(confusion, most=1) == [(1, 2, 0.75)]
    assert metrics.confusions(np.eye(3)) == []


def test_categories_are_read_from_numbered_names_only() -> None:
    category_C, names = metrics.categories_of(["cup_1", "cup_2", "can_1", "can_2"])
    assert category_C is not None and category_C.tolist() == [0, 0, 1, 1] and names == ["cup", "can"]
    for other in ([], ["cup", "can"], ["cup_1", "can_1"], ["cup_1", "cup_2"]):
        assert metrics.categories_of(other) == (None, [])
