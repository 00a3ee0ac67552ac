"""Exponents of two scores, against the scores that the held-out images were made with."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from vitlr.learning.joining import PRIOR, HeldOut, exponents


def scores(num: int, strength: float, seed: int, labels: torch.Tensor) -> torch.Tensor:
    """Logits that favour the label by ``strength``, with noise of variance 1."""
    noise = torch.randn(num, 5, generator=torch.Generator().manual_seed(seed))
    return noise + strength * functional.one_hot(labels, 5)


def made(head: float, statistics: float, num: int = 20_000) -> HeldOut:
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 5, num))
    parts = scores(num, head, 1, labels), scores(num, statistics, 2, labels)
    return HeldOut(*parts, labels, torch.zeros(num))


def test_without_a_held_out_image_the_prior_holds() -> None:
    assert exponents(HeldOut.empty()) == PRIOR


def test_a_part_that_knows_nothing_is_given_no_weight_and_the_other_its_own() -> None:
    # Logits of unit noise and strength d are log odds when multiplied with d.
    a, b = exponents(made(2.0, 0.0))
    assert b < 0.35 and abs(a - 2.0) < 0.4
    a, b = exponents(made(0.0, 2.0))
    assert a < 0.35 and abs(b - 2.0) < 0.4


def test_two_independent_parts_are_both_used_and_beat_each_alone() -> None:
    held_out = made(1.5, 1.5)
    a, b = exponents(held_out)
    labels = held_out.labels_P

    def loss(left: float, right: float) -> float:
        return float(
            functional.cross_entropy(left * held_out.head_PC + right * held_out.statistics_PC, labels)
        )

    assert loss(a, b) < min(loss(a, 0), loss(0, b), loss(*PRIOR))
    assert all(loss(a, b) <= loss(a * u, b * v) + 2e-3 for u in (0.8, 1.2) for v in (0.8, 1.2))


def test_the_newest_images_are_kept_and_classes_may_be_added_and_removed() -> None:
    labels, numbers = torch.arange(20) % 2, torch.arange(20.0)[:, None].expand(20, 2)
    held_out = HeldOut.empty().added(numbers, -numbers, labels, torch.zeros(len(labels)))
    assert held_out.labels_P.tolist() == [0, 1] * 6 and held_out.head_PC[:, 0].tolist() == list(range(8, 20))
    held_out = held_out.added(
        torch.ones(5, 4), torch.ones(5, 4), torch.tensor([3, 3, 3, 0, 0]), torch.zeros(5)
    )
    assert held_out.head_PC.shape == (15, 4) and torch.isneginf(held_out.head_PC[0, 2:]).all()
    rest = held_out.without_class(0)
    assert rest.labels_P.tolist() == [1] * 6 + [3] * 3 and torch.isneginf(rest.head_PC[:, 0]).all()
    assert all(np.isfinite(exponents(rest)))
