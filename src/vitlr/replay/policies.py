"""Which latents stay in the replay memory: index arithmetic on labels, nothing else.

Shape letters: M stored pairs, N offered pairs, R capacity of the memory (``capacity``), K placed pairs.

A policy is a function ``place(offer, state, rng) -> Placement``: row ``rows[k]`` of the offered pairs goes
to slot ``slots[k]`` of the memory; slots from M upwards are new ones. It sees the labels of what is stored
and offered and the experiences they came from, never a latent, and touches nothing: the memory does the
storing. ``state`` holds plain numbers that the policy may change and that are saved with the memory.

A new policy is one function and one line in ``POLICIES``: its name, the function, and the state it starts with.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitlr.errors import RunError
from vitlr.storage.saved import saved_count

__all__ = ["POLICIES", "Offer", "Placement", "Policy", "relabelled", "water_fill"]

State = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a policy decides on. Labels and experiences are int64 arrays, index-aligned with the rows.

    stored_labels, stored_experiences: (M,), what the memory holds, M <= capacity.
    labels: (N,), classes of the new pairs; experience: where all of them come from.
    """

    stored_labels: np.ndarray
    stored_experiences: np.ndarray
    labels: np.ndarray
    experience: int
    capacity: int

    @property
    def free(self) -> int:
        return self.capacity - len(self.stored_labels)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """``rows[k]`` of the offer goes to ``slots[k]`` of the memory; each slot at most once, (K,) int64."""

    rows: np.ndarray
    slots: np.ndarray

    @staticmethod
    def of(row_of_slot: dict[int, int]) -> Placement:
        slots = np.array(sorted(row_of_slot), dtype=np.int64)
        return Placement(rows=np.array([row_of_slot[int(s)] for s in slots], dtype=np.int64), slots=slots)


@dataclass(frozen=True)
class Policy:
    """A rule for what stays in memory.

    Attributes:
        place: chooses among the offered pairs; may change the state it is given, nothing else.
        start: the state before the first offer: counts (0), lists ([]) or dictionaries ({}) of counts.
    """

    place: Callable[[Offer, State, np.random.Generator], Placement]
    start: State = field(default_factory=dict)

    def saved_state(self, state: Any) -> State:
        """A copy of a saved state of this policy. Raises RunError if it is not one."""
        if state == {}:  # saved before the first offer
            return deepcopy(self.start)
        if not isinstance(state, dict) or state.keys() != self.start.keys():
            raise RunError("the saved memory has the state of another policy; use the settings it began with")
        for name, value in state.items():
            if type(value) is not type(self.start[name]):
                raise RunError(f"the saved memory's policy state {name} is damaged; use another copy of it")
            counts = (
                [value] if isinstance(value, int) else value.values() if isinstance(value, dict) else value
            )
            for number in counts:
                saved_count(number, name)
        return deepcopy(state)


def random(offer: Offer, state: State, rng: np.random.Generator) -> Placement:
    """The published policy (Pellegrini et al. 2020, algorithm 1).

    After experience i, counting from 1, h = min(R // i, N) random new pairs replace h random stored ones;
    while the memory is not full, new ones are added up to R instead. Early experiences are kept in equal
    shares as long as R >= i; after experience R nothing enters any more.
    """
    state["offers"] += 1
    stored, new = len(offer.stored_labels), len(offer.labels)
    if offer.free > 0:
        count = min(offer.free, new)
        slots = np.arange(stored, stored + count)
    else:
        count = min(offer.capacity // state["offers"], new)
        slots = rng.choice(stored, size=count, replace=False)
    return Placement(rows=rng.choice(new, size=count, replace=False), slots=slots)


def reservoir(offer: Offer, state: State, rng: np.random.Generator) -> Placement:
    """Every pair ever offered has the same chance, R / seen, to be in memory (Vitter 1985, algorithm R).

    Needs no experience boundaries: the outcome depends on the order of pairs alone.
    """
    seen, filled = state["seen"], len(offer.stored_labels)
    row_of_slot: dict[int, int] = {}
    for row in range(len(offer.labels)):
        slot = filled if filled < offer.capacity else int(rng.integers(0, seen + 1))
        filled += filled < offer.capacity
        seen += 1
        if slot < offer.capacity:
            row_of_slot[slot] = row
    state["seen"] = seen
    return Placement.of(row_of_slot)


def balanced(offer: Offer, state: State, rng: np.random.Generator) -> Placement:
    """Class-balanced reservoir (Chrysakis & Moens, ICML 2020, algorithm 1).

    While there is room every pair is stored. Then a pair of a class that has never been the largest
    replaces a random one of the largest class; a pair of a class that has, a random one of its own class
    with probability stored of the class / seen of the class. Classes come out as even as the stream allows,
    and within each class every pair has the same chance.
    """
    seen: dict[str, int] = state["seen"]
    full: list[int] = state["full"]
    members: dict[int, list[int]] = {}
    for slot, label in enumerate(offer.stored_labels.tolist()):
        members.setdefault(label, []).append(slot)
    filled, row_of_slot = len(offer.stored_labels), {}
    for row, label in enumerate(offer.labels.tolist()):
        seen[str(label)] = seen.get(str(label), 0) + 1
        own = members.setdefault(label, [])
        if filled < offer.capacity:
            slot, filled = filled, filled + 1
            own.append(slot)
        else:
            largest = max(len(slots) for slots in members.values())
            full.extend(c for c, slots in members.items() if len(slots) == largest and c not in full)
            if label not in full:
                donors = [c for c, slots in members.items() if len(slots) == largest]
                donor = members[donors[int(rng.integers(len(donors)))]]
                slot = donor.pop(int(rng.integers(len(donor))))
                own.append(slot)
            elif rng.random() < len(own) / seen[str(label)]:
                slot = own[int(rng.integers(len(own)))]
            else:
                continue
        row_of_slot[slot] = row
    return Placement.of(row_of_slot)


def water_fill(available: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Shares of ``total`` as even as ``available`` allows: none above its own, the sum min(total, all).

    available: (G,) int64. A level is raised until the total is spent; what does not divide evenly goes to
    groups drawn at random, one each. Example: available 1, 5, 9 and total 9 gives 1, 4, 4.
    """
    shares = np.zeros_like(available)
    remaining = min(int(total), int(available.sum()))
    while remaining:
        open_groups = np.flatnonzero(shares < available)
        step = remaining // len(open_groups)
        if step == 0:
            shares[rng.choice(open_groups, size=remaining, replace=False)] += 1
            break
        grown = np.minimum(shares[open_groups] + step, available[open_groups])
        remaining -= int((grown - shares[open_groups]).sum())
        shares[open_groups] = grown
    return shares


def spread(offer: Offer, state: State, rng: np.random.Generator) -> Placement:
    """Even over classes, and within each class even over the experiences it came from.

    The capacity is water-filled over the classes and each class's share over its experiences; a stratum
    (class, experience) that holds more than its share gives up random members, the newcomers fill theirs
    with random ones. Frames of one video are near copies, so a class is remembered best by a few frames of
    each video it was seen in.
    """
    del state  # what is stored already says everything that is needed
    labels = np.concatenate([offer.stored_labels, offer.labels])
    experiences = np.concatenate(
        [offer.stored_experiences, np.full(len(offer.labels), offer.experience, dtype=np.int64)]
    )
    keep = np.zeros(len(labels), dtype=bool)
    _, class_of, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    for index, share in enumerate(water_fill(class_sizes, offer.capacity, rng)):
        members = np.flatnonzero(class_of == index)
        _, stratum_of, sizes = np.unique(experiences[members], return_inverse=True, return_counts=True)
        for stratum, quota in enumerate(water_fill(sizes, int(share), rng)):
            candidates = members[stratum_of == stratum]
            keep[rng.choice(candidates, size=quota, replace=False)] = True
    stored = len(offer.stored_labels)
    rows = np.flatnonzero(keep[stored:])
    freed = np.flatnonzero(~keep[:stored])
    added = np.arange(stored, stored + max(0, len(rows) - len(freed)))
    return Placement(rows=rows, slots=np.concatenate([freed[: len(rows)], added]))


def relabelled(state: State, index_C: np.ndarray) -> State:
    """A policy's state once class i has the label ``index_C[i]``: dictionaries and lists in it go by class."""
    changed: State = {}
    for name, value in state.items():
        if isinstance(value, dict):
            counts: dict[str, int] = {}
            for label, number in value.items():
                counts[str(index_C[int(label)])] = counts.get(str(index_C[int(label)]), 0) + number
            changed[name] = counts
        elif isinstance(value, list):
            changed[name] = list(dict.fromkeys(int(index_C[label]) for label in value))
        else:
            changed[name] = value
    return changed


POLICIES: dict[str, Policy] = {
    "random": Policy(random, {"offers": 0}),
    "reservoir": Policy(reservoir, {"seen": 0}),
    "balanced": Policy(balanced, {"seen": {}, "full": []}),
    "spread": Policy(spread),
}
