"""The mini-batch rule, for every N, R and B."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitlr.learning.minibatch import epoch_minibatches, new_share


def test_nicv2_391_at_1500_latents_is_21_new_107_replayed_in_15_steps() -> None:
    batches = list(epoch_minibatches(300, 1500, 128, np.random.default_rng(0)))
    assert len(batches) == 15
    assert {(len(new), len(old)) for new, old in batches[:-1]} == {(21, 107)}


@given(num_new=st.integers(1, 10**6), num_stored=st.integers(0, 10**6), batch=st.integers(1, 4096))
def test_share_is_the_rounded_proportion_within_its_bounds(num_new: int, num_stored: int, batch: int) -> None:
    share = new_share(num_new, num_stored, batch)
    exact = Fraction(batch * num_new, num_new + num_stored)
    assert 1 <= share <= batch
    assert share == 1 or abs(share - exact) <= Fraction(1, 2)


@given(
    num_new=st.integers(1, 60),
    num_stored=st.integers(0, 60),
    batch=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_every_new_latent_is_used_once_and_no_minibatch_is_empty_or_repeats_a_stored_one(
    num_new: int, num_stored: int, batch: int, seed: int
) -> None:
    batches = list(epoch_minibatches(num_new, num_stored, batch, np.random.default_rng(seed)))
    assert sorted(np.concatenate([new for new, _ in batches]).tolist()) == list(range(num_new))
    for new, old in batches:
        assert len(new) >= 1 and len(new) + len(old) <= batch
        assert len(set(old.tolist())) == len(old) and (old < num_stored).all()


def test_replayed_latents_do_not_return_before_all_were_drawn() -> None:
    drawn = np.concatenate(
        [old for _, old in epoch_minibatches(300, 1500, 128, np.random.default_rng(0))][:14]
    )
    assert len(set(drawn.tolist())) == len(drawn) == 14 * 107


def test_pairing_of_new_and_replayed_differs_between_epochs() -> None:
    rng = np.random.default_rng(0)
    first, second = (list(epoch_minibatches(20, 20, 8, rng)) for _ in range(2))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(first, second, strict=True))
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("arguments", [(0, 5, 8), (5, -1, 8), (5, 5, 0)])
def test_impossible_sizes_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="num_new"):
        new_share(*arguments)
