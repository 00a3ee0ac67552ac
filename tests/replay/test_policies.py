"""Every policy passes the same checks; each one's own claim is checked by counting."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlr.replay.policies import POLICIES, Offer, water_fill


def simulate(
    policy: str, stream: list[list[int]], capacity: int, seed: int = 0
) -> list[tuple[int, int, int]]:
    """Contents (label, experience, identity) after offering each experience's labels in turn."""
    rng, state = np.random.default_rng(seed), copy.deepcopy(POLICIES[policy].start)
    memory: list[tuple[int, int, int]] = []
    identity = 0
    for experience, labels in enumerate(stream):
        offer = Offer(
            stored_labels=np.array([pair[0] for pair in memory], dtype=np.int64),
            stored_experiences=np.array([pair[1] for pair in memory], dtype=np.int64),
            labels=np.array(labels, dtype=np.int64),
            experience=experience,
            capacity=capacity,
        )
        placement = POLICIES[policy].place(offer, state, rng)
        assert len(set(placement.slots.tolist())) == len(placement.slots)
        assert len(set(placement.rows.tolist())) == len(placement.rows)
        size = max([len(memory), *(placement.slots + 1).tolist()])
        filled = [*memory, *[None] * (size - len(memory))]
        for row, slot in zip(placement.rows.tolist(), placement.slots.tolist(), strict=True):
            filled[slot] = (labels[row], experience, identity + row)
        assert None not in filled, "a slot beyond the end was skipped"
        memory = filled
        identity += len(labels)
        assert len(memory) <= capacity
    return memory


streams = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=10)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=60, deadline=None)
@given(stream=streams, capacity=st.integers(1, 20), seed=st.integers(0, 5))
def test_every_policy_stays_within_capacity_and_stores_only_what_was_offered(
    policy: str, stream: list[list[int]], capacity: int, seed: int
) -> None:
    memory = simulate(policy, stream, capacity, seed)
    offered = [(label, e) for e, labels in enumerate(stream) for label in labels]
    identities = [pair[2] for pair in memory]
    assert len(set(identities)) == len(identities)
    assert all(offered[identity] == (label, e) for label, e, identity in memory)
    assert simulate(policy, stream, capacity, seed) == memory


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_grows_to_capacity_after_a_small_first_experience(policy: str) -> None:
    assert len(simulate(policy, [[0]] + [[1, 2, 3]] * 20, capacity=30)) == 30


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_keeps_everything_while_there_is_room(policy: str) -> None:
    stream = [[0, 1], [2], [0, 3, 3]]
    assert sorted(pair[2] for pair in simulate(policy, stream, capacity=6)) == list(range(6))


def test_random_replaces_the_published_number() -> None:
    # Capacity 12, full after the first experience; then h = min(12 // i, 5) for i = 2, 3, 4.
    stream = [[0] * 12, [1] * 5, [2] * 5, [3] * 5]
    rng, state = np.random.default_rng(0), {"offers": 0}
    labels = np.zeros(12, dtype=np.int64)
    placed = []
    for i, new in enumerate(stream):
        stored = labels if i else labels[:0]
        offer = Offer(
            stored_labels=stored,
            stored_experiences=stored,
            labels=np.array(new),
            experience=i,
            capacity=12,
        )
        placed.append(len(POLICIES["random"].place(offer, state, rng).rows))
    assert placed == [12, 5, 4, 3]


def test_reservoir_gives_every_pair_the_same_chance() -> None:
    stream, capacity, trials = [[0] * 7, [1] * 3, [0] * 10], 5, 4000
    kept = np.zeros(20)
    for seed in range(trials):
        kept[[pair[2] for pair in simulate("reservoir", stream, capacity, seed)]] += 1
    expected = trials * capacity / 20
    # Binomial with p = 1/4: five standard deviations.
    assert np.abs(kept - expected).max() < 5 * np.sqrt(expected * 0.75)


def test_reservoir_does_not_depend_on_experience_boundaries() -> None:
    whole = simulate("reservoir", [[0, 1, 2, 3, 4, 5, 6, 7]], capacity=3, seed=3)
    split = simulate("reservoir", [[0, 1], [2, 3, 4], [5, 6, 7]], capacity=3, seed=3)
    assert [pair[2] for pair in whole] == [pair[2] for pair in split]


def test_balanced_comes_out_even_on_an_uneven_stream() -> None:
    memory = simulate("balanced", [[0] * 90, [1] * 30, [2] * 12], capacity=30)
    counts = np.bincount([pair[0] for pair in memory])
    assert counts.tolist() == [10, 10, 10]


def test_balanced_keeps_each_class_as_a_uniform_sample_of_itself() -> None:
    kept = np.zeros(40)
    trials = 3000
    for seed in range(trials):
        for _, _, identity in simulate("balanced", [[0] * 20, [0] * 20], 8, seed):
            kept[identity] += 1
    expected = trials * 8 / 40
    assert np.abs(kept - expected).max() < 5 * np.sqrt(expected * 0.8)


def test_spread_keeps_each_class_even_over_its_experiences() -> None:
    memory = simulate("spread", [[0] * 50, [1] * 50, [0] * 5, [0] * 50], capacity=24)
    strata = {(label, e): 0 for label, e, _ in memory}
    for label, experience, _ in memory:
        strata[label, experience] += 1
    assert strata == {(0, 0): 4, (0, 2): 4, (0, 3): 4, (1, 1): 12}


def test_spread_still_admits_new_videos_when_classes_have_more_of_them_than_slots() -> None:
    memory = simulate("spread", [[0] * 3 for _ in range(50)], capacity=5)
    assert len({pair[1] for pair in memory}) == 5
    assert max(pair[1] for pair in memory) > 25


def test_water_fill_matches_a_hand_computed_case() -> None:
    rng = np.random.default_rng(0)
    assert water_fill(np.array([1, 5, 9]), 9, rng).tolist() == [1, 4, 4]
    assert water_fill(np.array([1, 5, 9]), 100, rng).tolist() == [1, 5, 9]


@given(
    available=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    total=st.integers(0, 100),
    seed=st.integers(0, 3),
)
def test_water_fill_is_even_up_to_one_and_spends_the_total(
    available: list[int], total: int, seed: int
) -> None:
    groups = np.array(available, dtype=np.int64)
    before = copy.deepcopy(groups)
    shares = water_fill(groups, total, np.random.default_rng(seed))
    assert np.array_equal(groups, before)
    assert shares.sum() == min(total, sum(available))
    assert (shares <= groups).all()
    unsaturated = shares[shares < groups]
    if len(unsaturated):
        assert shares.max() - unsaturated.min() <= 1
