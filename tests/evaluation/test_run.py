"""The main job, with a learner and a stream whose every number is known beforehand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vitlr.data.experience import TEST, Experience, Stream
from vitlr.evaluation.run import Record, evaluate, iter_run

INF = float("inf")


def experience_of(index: int, labels: list[int]) -> Experience:
    paths = tuple(f"{index}/{number}.png" for number in range(len(labels)))
    return Experience(index=index, name=f"e{index}", paths=paths, labels=np.array(labels, dtype=np.int64))


def stream_of(*experiences: Experience, test: list[int], num_classes: int = 4) -> Stream:
    return Stream(
        name="made by hand",
        root=None,
        experiences=experiences,
        test=experience_of(TEST, test),
        class_names=tuple(f"class {index}" for index in range(num_classes)),
    )


def encode(experience: Experience) -> tuple[Tensor, np.ndarray]:
    """A latent (1, 2) carries its label and where it came from."""
    latents = torch.zeros(len(experience), 1, 2)
    latents[:, 0, 0] = torch.from_numpy(experience.labels.copy()).float()
    latents[:, 0, 1] = experience.index
    return latents, experience.labels


class Parrot:
    """Predicts the label that a latent carries if it has seen that class, otherwise the lowest it knows."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.learned: list[tuple[int, list[int]]] = []

    def learn(self, latents_NTD: Tensor, labels_N: np.ndarray, experience: int) -> str:
        assert latents_NTD[:, 0, 0].tolist() == labels_N.tolist()
        assert (latents_NTD[:, 0, 1] == experience).all()
        self.seen |= set(labels_N.tolist())
        self.learned.append((experience, labels_N.tolist()))
        return f"stats of {experience}"

    def logits(self, latents_NTD: Tensor) -> Tensor:
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
    evaluation = evaluate(learner, *encode(STREAM.test), 4)
    assert evaluation.test_accuracy == pytest.approx(3 / 5)
    assert evaluation.seen_accuracy == 1.0
    assert evaluation.predictions.tolist() == [0, 0, 2, 0, 0]
    assert evaluation.class_accuracy.tolist() == [1.0, 0.0, 1.0, 0.0]


def test_test_loss_is_cross_entropy_over_images_of_seen_classes() -> None:
    learner = Parrot()
    learner.seen = {0, 2}
    logits = torch.tensor([[5.0, 0.0], [5.0, 0.0], [0.0, 5.0]])  # columns of the classes 0 and 2
    expected = functional.cross_entropy(logits, torch.tensor([0, 0, 1])).item()
    assert evaluate(learner, *encode(STREAM.test), 4).test_loss == pytest.approx(expected)


def test_classes_without_test_images_have_no_accuracy() -> None:
    learner = Parrot()
    learner.seen = {0, 1, 2, 3}
    evaluation = evaluate(learner, *encode(experience_of(TEST, [0, 3])), 4)
    np.testing.assert_array_equal(evaluation.class_accuracy, [1.0, np.nan, np.nan, 1.0])


def test_a_learner_that_has_seen_nothing_is_wrong_everywhere_even_where_argmax_falls_on_the_label() -> None:
    evaluation = evaluate(Parrot(), *encode(STREAM.test), 4)
    assert evaluation.test_accuracy == 0.0 and np.nansum(evaluation.class_accuracy) == 0.0
    assert np.isnan(evaluation.seen_accuracy) and np.isnan(evaluation.test_loss)


def test_an_empty_test_set_gives_nan_without_a_warning() -> None:
    learner = Parrot()
    learner.seen = {0, 1}
    evaluation = evaluate(learner, *encode(experience_of(TEST, [])), 4)
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

    def counting(experience: Experience) -> tuple[Tensor, np.ndarray]:
        encoded.append(experience.index)
        return encode(experience)

    list(iter_run(STREAM, counting, Parrot()))
    assert encoded == [TEST, 0, 1]
    encoded.clear()
    list(iter_run(STREAM, counting, Parrot(), test=encode(STREAM.test)))
    assert encoded == [0, 1]


def test_a_resumed_run_gives_the_records_that_were_missing() -> None:
    whole = list(iter_run(STREAM, encode, Parrot()))
    learner = Parrot()
    next(iter_run(STREAM, encode, learner))
    resumed = list(iter_run(STREAM, encode, learner, start=1))
    assert [r.experience for r in resumed] == [1]
    assert resumed[0].evaluation.predictions.tolist() == whole[1].evaluation.predictions.tolist()


def test_an_experience_without_readable_images_is_recorded_and_not_learned() -> None:
    def unreadable(experience: Experience) -> tuple[Tensor, np.ndarray]:
        latents, labels = encode(experience)
        return (latents[:0], labels[:0]) if experience.index == 0 else (latents, labels)

    learner = Parrot()
    first, second = iter_run(STREAM, unreadable, learner)
    assert first.num_images == 0 and first.stats is None and first.evaluation.test_accuracy == 0.0
    assert learner.learned == [(1, [0, 0, 3])] and second.num_images == 3


def test_the_memory_is_reported_where_the_learner_has_one() -> None:
    learner = Parrot()
    assert [(r.memory_bytes, r.memory_counts) for r in iter_run(STREAM, encode, learner)] == [(0, {})] * 2
    learner.memory = SimpleNamespace(num_bytes=99, counts=lambda: {2: 7})  # type: ignore[attr-defined]
    record = next(iter_run(STREAM, encode, learner))
    assert record.memory_bytes == 99 and record.memory_counts == {2: 7}


def test_experience_indices_may_have_gaps() -> None:
    stream = stream_of(experience_of(3, [1]), experience_of(8, [0]), test=[0, 1])
    assert [r.experience for r in iter_run(stream, encode, Parrot())] == [3, 8]
