"""CWR* against cases worked out by hand."""

from __future__ import annotations

import torch

from vitlr.learning.cwr import consolidate, temporary_weights


def test_temporary_weights_start_from_known_present_classes_and_zero_elsewhere() -> None:
    consolidated = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    known = torch.tensor([True, True, False])
    present = torch.tensor([True, False, True])
    expected = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    assert torch.equal(temporary_weights(consolidated, known, present), expected)


def test_consolidation_matches_a_case_worked_out_by_hand() -> None:
    # Class 0 known with past 90, class 1 new, class 2 known but absent.
    consolidated = torch.tensor([[2.0, 0.0], [0.0, 0.0], [7.0, 7.0]])
    past = torch.tensor([90.0, 0.0, 5.0], dtype=torch.float64)
    temporary = torch.tensor([[4.0, 2.0], [1.0, -3.0], [9.0, 9.0]])
    current = torch.tensor([10.0, 30.0, 0.0], dtype=torch.float64)
    # m over the rows of classes 0 and 1: (4 + 2 + 1 - 3) / 4 = 1; w of class 0: sqrt(90 / 10) = 3.
    expected = torch.tensor([[(3 * 2 + 3) / 4, (3 * 0 + 1) / 4], [0.0, -4.0], [7.0, 7.0]])
    weights, counts = consolidate(consolidated, past, temporary, current)
    assert torch.allclose(weights, expected)
    assert counts.tolist() == [100.0, 30.0, 5.0]


def test_a_class_is_consolidated_once_however_many_patterns_it_has() -> None:
    # The known mistake: a class counted once for each stored pattern forgets its past weight.
    consolidated, temporary = torch.tensor([[10.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    past = torch.tensor([400.0], dtype=torch.float64)
    weights, _ = consolidate(consolidated, past, temporary, torch.tensor([100.0], dtype=torch.float64))
    assert torch.allclose(weights, torch.tensor([[20.0 / 3, 0.0]]))


def test_nothing_present_changes_nothing() -> None:
    consolidated, past = torch.ones(2, 3), torch.tensor([1.0, 2.0], dtype=torch.float64)
    weights, counts = consolidate(consolidated, past, torch.zeros(2, 3), torch.zeros(2, dtype=torch.float64))
    assert torch.equal(weights, consolidated) and torch.equal(counts, past)
