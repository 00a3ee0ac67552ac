"""The memory stores what its policy says, pairs intact, and restores exactly."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from tests.interrupts import interrupted_at

from vitlr.errors import ConfigError, RunError
from vitlr.latents.record import Latents
from vitlr.replay import CODECS, POLICIES, MemoryConfig, ReplayMemory
from vitlr.replay.memory import parse_bytes
from vitlr.replay.policies import Offer, Placement, Policy


def telltale(labels: np.ndarray, experience: int) -> Latents:
    """Latents (N, 2, 4) that carry their own label and experience."""
    latents = torch.zeros(len(labels), 2, 4)
    latents[:, 0] = torch.from_numpy(labels).float()[:, None]
    latents[:, 1] = experience
    return Latents(latents)


def offer_stream(memory: ReplayMemory, seed: int, experiences: range) -> None:
    rng = np.random.default_rng(seed)
    for experience in experiences:
        labels = np.random.default_rng([experience, 7]).integers(0, 6, size=10)
        memory.offer(telltale(labels, experience), labels, experience, rng)


@pytest.mark.parametrize("policy", POLICIES)
def test_labels_travel_with_their_latents_on_multi_class_experiences(policy: str) -> None:
    memory = ReplayMemory(MemoryConfig(capacity=25, policy=policy))
    offer_stream(memory, 0, range(12))
    latents = memory.draw(np.arange(len(memory))).tokens_NTD
    assert np.array_equal(latents[:, 0, 0].numpy(), memory.labels)
    assert np.array_equal(latents[:, 1, 0].numpy(), memory.experiences)
    assert len(memory) == 25


@pytest.mark.parametrize("codec", CODECS)
def test_only_drawn_rows_are_returned_in_the_order_asked(codec: str) -> None:
    memory = ReplayMemory(MemoryConfig(capacity=25, codec=codec))
    offer_stream(memory, 0, range(4))
    rows = np.array([7, 0, 19])
    assert np.array_equal(memory.draw(rows).tokens_NTD[:, 0, 0].round().numpy(), memory.labels[rows])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("codec", CODECS)
def test_a_restored_memory_goes_on_exactly_as_the_original(policy: str, codec: str) -> None:
    config = MemoryConfig(capacity=15, policy=policy, codec=codec)
    original, restored = ReplayMemory(config), ReplayMemory(config)
    offer_stream(original, 0, range(5))
    restored.load_state(*original.state())
    offer_stream(original, 1, range(5, 9))
    offer_stream(restored, 1, range(5, 9))
    assert np.array_equal(original.labels, restored.labels)
    assert np.array_equal(original.experiences, restored.experiences)
    everything = np.arange(15)
    assert torch.equal(original.draw(everything).tokens_NTD, restored.draw(everything).tokens_NTD)


def test_capacity_in_bytes_is_kept_and_counted_for_the_codec() -> None:
    memory = ReplayMemory(MemoryConfig(bytes="1KB", codec="int8"))
    offer_stream(memory, 0, range(40))
    assert memory.capacity == 1000 // (8 + 8)
    assert memory.num_bytes == memory.capacity * 16 <= 1000


def test_capacity_zero_keeps_nothing() -> None:
    memory = ReplayMemory(MemoryConfig(capacity=0))
    offer_stream(memory, 0, range(3))
    assert len(memory) == 0 and memory.num_bytes == 0


def test_an_unbounded_memory_keeps_everything_in_order() -> None:
    memory = ReplayMemory(MemoryConfig(capacity=3), unbounded=True)
    offer_stream(memory, 0, range(7))
    assert memory.experiences.tolist() == [e for e in range(7) for _ in range(10)]


def test_forgetting_a_class_removes_all_its_pairs_and_no_other() -> None:
    memory = ReplayMemory(MemoryConfig(capacity=40))
    offer_stream(memory, 0, range(4))
    counts = memory.counts()
    removed = memory.forget(3)
    assert removed == counts.pop(3)
    assert memory.counts() == counts
    assert np.array_equal(memory.draw(np.arange(len(memory))).tokens_NTD[:, 0, 0].numpy(), memory.labels)


def test_latents_of_another_cut_are_refused() -> None:
    memory = ReplayMemory(MemoryConfig(capacity=5))
    memory.offer(Latents(torch.zeros(2, 3, 4)), np.array([0, 1]), 0, np.random.default_rng(0))
    with pytest.raises(RunError, match="same cut"):
        memory.offer(Latents(torch.zeros(2, 1, 4)), np.array([0, 1]), 1, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("text", "number"),
    [("20MB", 20_000_000), ("512 KiB", 524_288), (4096, 4096), ("1.5k", 1500), ("2GiB", 2**31)],
)
def test_sizes_are_read_as_written(text: str | int, number: int) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize(
    "settings", [{"capacity": -1}, {"bytes": "lots"}, {"policy": "best"}, {"codec": "int3"}]
)
def test_a_bad_setting_is_named(settings: dict) -> None:
    with pytest.raises(ConfigError, match=f"memory.{next(iter(settings))}"):
        MemoryConfig(**settings)


def contents(memory: ReplayMemory) -> list[tuple[int, int, list[float]]]:
    latents = memory.draw(np.arange(len(memory))).tokens_NTD
    pairs = zip(memory.labels.tolist(), memory.experiences.tolist(), latents.flatten(1).tolist(), strict=True)
    return list(pairs)


def test_a_copy_stays_whole_whatever_is_offered_to_and_removed_from_the_original() -> None:
    memory = ReplayMemory(MemoryConfig(capacity=25))
    offer_stream(memory, 0, range(6))
    before = copy.copy(memory)
    latents = before.draw(np.arange(25)).tokens_NTD
    offer_stream(memory, 0, range(6, 9))
    memory.forget(0)
    memory.regroup(np.array([0, 1, 1, 3, 4, 5]))
    offer_stream(memory, 0, range(9, 12))
    assert set(memory.experiences.tolist()) != set(before.experiences.tolist())
    assert torch.equal(before.draw(np.arange(25)).tokens_NTD, latents)


def test_rows_that_nobody_has_any_more_are_used_again() -> None:
    memory = ReplayMemory(MemoryConfig(capacity=25))
    offer_stream(memory, 0, range(40))
    assert memory._buffer.num_rows <= 50


@pytest.mark.parametrize("policy", POLICIES)
def test_an_interrupt_at_any_line_of_an_offer_leaves_the_old_pairs(policy: str) -> None:
    """Raised at each line of the package that an offer runs through, one after the other."""
    line = 0
    while True:
        memory = ReplayMemory(MemoryConfig(capacity=15, policy=policy))
        offer_stream(memory, 0, range(3))
        held = contents(memory)
        offer = partial(offer_stream, memory, 1, range(3, 4))
        interrupted = interrupted_at(line, offer, within="vitlr/replay")
        assert np.array_equal(memory.draw(np.arange(len(memory))).tokens_NTD[:, 0, 0].numpy(), memory.labels)
        if not interrupted:
            break
        if contents(memory) != held:  # the last line is the one that publishes
            after = ReplayMemory(MemoryConfig(capacity=15, policy=policy))
            offer_stream(after, 0, range(3))
            offer_stream(after, 1, range(3, 4))
            assert contents(memory) == contents(after)
        line += 7
    assert line > 20


def test_a_policy_is_one_function_and_one_line_saved_and_loaded_like_any_other(monkeypatch) -> None:
    def newest(offer: Offer, state: dict, rng: np.random.Generator) -> Placement:
        state["offers"] += 1
        number = min(len(offer.labels), offer.capacity)
        slots = (np.arange(number) + len(offer.stored_labels)) % offer.capacity
        return Placement(rows=np.arange(number), slots=np.sort(slots))

    monkeypatch.setitem(POLICIES, "newest", Policy(newest, {"offers": 0}))
    config = MemoryConfig(capacity=10, policy="newest")
    original, restored = ReplayMemory(config), ReplayMemory(config)
    offer_stream(original, 0, range(4))
    tensors, plain = original.state()
    assert plain["policy_state"] == {"offers": 4}
    restored.load_state(tensors, plain)
    offer_stream(original, 1, range(4, 6))
    offer_stream(restored, 1, range(4, 6))
    assert contents(original) == contents(restored) and set(original.experiences) == {5}
    with pytest.raises(RunError, match="another policy"):
        restored.load_state(tensors, plain | {"policy_state": {"seen": 4}})
