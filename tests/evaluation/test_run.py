"""The main job, with a learner and a stream whose every number is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from vitlr.data.experience import TEST, Experience, Stream
from vitlr.evaluation.run import Record, evaluate, iter_run
from vitlr.latents.record import Encoded, Latents

INF = float("inf")


def experience_of(index: int, labels: list[int]) -> Experience:
    paths = tuple(f"{index}/{number}.png" for number in range(len(labels)))
    made = Experience(index=index, name=f"e{index}", paths=paths, labels=np.array(labels, dtype=np.int64))
    PARTS[paths] = made
    return made


def stream_of(*experiences: Experience, test: list[int], num_classes: int = 4) -> Stream:
    return Stream(
        name="made by hand",
        root=None,
        experiences=experiences,
        test=experience_of(TEST, test),
        class_names=tuple(f"class {index}" for index in range(num_classes)),
    )


PARTS: dict[tuple[str, ...], Experience] = {}  # whose paths they are


def encode(paths: tuple[str, ...], *, views_by: np.ndarray | None = None) -> Encoded:
    """A latent (1, 2) carries its label and where it came from."""
    experience = PARTS[tuple(paths)]
    latents = torch.zeros(len(experience), 1, 2)
    latents[:, 0, 0] = torch.from_numpy(experience.labels.copy()).float()
    latents[:, 0, 1] = experience.index
    return Encoded(np.arange(len(experience)), Latents(latents))


def encoded(experience: Experience) -> tuple[Latents, np.ndarray]:
    return encode(experience.paths).latents, experience.labels


class Parrot:
    """Predicts the label that a latent carries if it has seen that class, otherwise the lowest it knows."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.learned: list[tuple[int, list[int]]] = []

    head, remains, capacity, num_bytes = None, "", None, 0

    def counts(self) -> dict[int, int]:
        return {}

    def learn(self, latents: Latents, labels_N: np.ndarray, experience: int) -> str:
        latents_NTD = latents.tokens_NTD
        assert latents_NTD[:, 0, 0].tolist() == labels_N.tolist()
        assert (latents_NTD[:, 0, 1] == experience).all()
        self.seen |= set(labels_N.tolist())
        self.learned.append((experience, labels_N.tolist()))
        return f"stats of {experience}"

    def logits(self, latents: Latents) -> torch.Tensor:
        latents_NTD = latents.tokens_NTD
        width = max(self.seen, default=-1) + 1
        known = torch.tensor([index in self.seen for index in range(width)], dtype=torch.bool)
        logits = torch.zeros(len(latents_NTD), width)
        for row, label in enumerate(latents_NTD[:, 0, 0].long().tolist()):
            if label < width:
                logits[row, label] = 5.0
        return logits.masked_fill(~known, -INF)


STREAM = stream_of(experience_of(0, [2, 2]), experience_of(1, [0, 0, 3]), test=[0, 0, 2, 3, 1])


# -- evaluate -------------------------------------------------------------------------------------------


def test_images_of_classes_not_seen_count_as_wrong_in_test_and_not_at_all_in_seen_accuracy() -> None:
    learner = Parrot()
    learner.seen = {0, 2}
    evaluation = evaluate(learner, *encoded(STREAM.test), 4)
    assert evaluation.test_accuracy == pytest.approx(3 / 5)
    assert evaluation.seen_accuracy == 1.0
    assert evaluation.predictions.tolist() == [0, 0, 2, 0, 0]
    assert evaluation.class_accuracy.tolist() == [1.0, 0.0, 1.0, 0.0]


def test_test_loss_is_cross_entropy_over_images_of_seen_classes() -> None:
    learner = Parrot()
    learner.seen = {0, 2}
    logits = torch.tensor([[5.0, 0.0], [5.0, 0.0], [0.0, 5.0]])  # columns of the classes 0 and 2
    expected = functional.cross_entropy(logits, torch.tensor([0, 0, 1])).item()
    assert evaluate(learner, *encoded(STREAM.test), 4).test_loss == pytest.approx(expected)


def test_classes_without_test_images_have_no_accuracy() -> None:
    learner = Parrot()
    learner.seen = {0, 1, 2, 3}
    evaluation = evaluate(learner, *encoded(experience_of(TEST, [0, 3])), 4)
    np.testing.assert_array_equal(evaluation.class_accuracy, [1.0, np.nan, np.nan, 1.0])


def test_a_learner_that_has_seen_nothing_is_wrong_everywhere_even_where_argmax_falls_on_the_label() -> None:
    evaluation = evaluate(Parrot(), *encoded(STREAM.test), 4)
    assert evaluation.test_accuracy == 0.0 and np.nansum(evaluation.class_accuracy) == 0.0
    assert np.isnan(evaluation.seen_accuracy) and np.isnan(evaluation.test_loss)


def test_an_empty_test_set_gives_nan_without_a_warning() -> None:
    learner = Parrot()
    learner.seen = {0, 1}
    evaluation = evaluate(learner, *encoded(experience_of(TEST, [])), 4)
    assert np.isnan(evaluation.test_accuracy) and np.isnan(evaluation.seen_accuracy)
    assert np.isnan(evaluation.class_accuracy).all() and len(evaluation.predictions) == 0


# -- iter_run -------------------------------------------------------------------------------------------


def test_each_experience_is_learned_once_in_order_and_gives_one_record() -> None:
    learner = Parrot()
    records = list(iter_run(STREAM, encode, learner))
    assert learner.learned == [(0, [2, 2]), (1, [0, 0, 3])]
    assert [(r.experience, r.name, r.num_images, r.classes) for r in records] == [
        (0, "e0", 2, (2,)),
        (1, "e1", 3, (0, 3)),
    ]
    assert [r.evaluation.test_accuracy for r in records] == pytest.approx([1 / 5, 4 / 5])
    assert [r.stats for r in records] == ["stats of 0", "stats of 1"]
    assert all(set(r.seconds) == {"encode", "learn", "evaluate"} for r in records)
    assert all(value >= 0 for r in records for value in r.seconds.values())


def test_a_record_comes_before_the_next_experience_is_touched() -> None:
    learner = Parrot()
    run = iter_run(STREAM, encode, learner)
    first: Record = next(run)
    assert first.experience == 0 and [index for index, _ in learner.learned] == [0]


def test_the_test_set_is_encoded_once_or_taken_from_the_caller() -> None:
    encoded: list[int] = []

    def counting(paths: tuple[str, ...], *, views_by: np.ndarray | None = None) -> Encoded:
        encoded.append(PARTS[tuple(paths)].index)
        return encode(paths)

    list(iter_run(STREAM, counting, Parrot()))
    assert encoded == [TEST, 0, 1]
    encoded.clear()
    list(iter_run(STREAM, counting, Parrot(), test=encode(STREAM.test.paths)))
    assert encoded == [0, 1]


def test_a_resumed_run_gives_the_records_that_were_missing() -> None:
    whole = list(iter_run(STREAM, encode, Parrot()))
    learner = Parrot()
    next(iter_run(STREAM, encode, learner))
    resumed = list(iter_run(STREAM, encode, learner, start=1))
    assert [r.experience for r in resumed] == [1]
    assert resumed[0].evaluation.predictions.tolist() == whole[1].evaluation.predictions.tolist()


def test_an_experience_without_readable_images_is_recorded_and_not_learned() -> None:
    def unreadable(paths: tuple[str, ...], *, views_by: np.ndarray | None = None) -> Encoded:
        found = encode(paths)
        nothing = Encoded(found.rows_N[:0], found.latents[np.zeros(0, dtype=np.int64)])
        return nothing if PARTS[tuple(paths)].index == 0 else found

    learner = Parrot()
    first, second = iter_run(STREAM, unreadable, learner)
    assert first.num_images == 0 and first.stats is None and first.evaluation.test_accuracy == 0.0
    assert learner.learned == [(1, [0, 0, 3])] and second.num_images == 3


def test_what_the_learner_remembers_is_reported() -> None:
    class Remembering(Parrot):
        num_bytes, capacity = 99, 12

        def counts(self) -> dict[int, int]:
            return {2: 7}

    record = next(iter_run(STREAM, encode, Remembering()))
    assert (record.memory_bytes, record.memory_counts, record.memory_capacity) == (99, {2: 7}, 12)


def test_images_that_could_not_be_read_take_their_labels_with_them() -> None:
    def without_the_first(paths: tuple[str, ...], *, views_by: np.ndarray | None = None) -> Encoded:
        found = encode(paths)
        return Encoded(found.rows_N[1:], found.latents[np.arange(1, len(found))])

    learner = Parrot()
    records = list(iter_run(STREAM, without_the_first, learner))
    assert learner.learned == [(0, [2]), (1, [0, 3])]
    assert len(records[-1].evaluation.predictions) == len(STREAM.test) - 1


def test_experience_indices_may_have_gaps() -> None:
    stream = stream_of(experience_of(3, [1]), experience_of(8, [0]), test=[0, 1])
    assert [r.experience for r in iter_run(stream, encode, Parrot())] == [3, 8]
