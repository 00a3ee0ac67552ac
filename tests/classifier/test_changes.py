"""What is changed after teaching: taken back, renamed, made one class, merged with what another was taught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.classifier.colours import classifier, frames, same, taught
from tests.classifier.test_methods import PROBE, of

from vitlr import LatentReplayClassifier
from vitlr.classifier.knowledge import Knowledge
from vitlr.errors import ConfigError, DataError
from vitlr.learning import CLOSED_FORM
from vitlr.learning.methods import METHODS

EVERY = ("complementary", "latent_replay", "der", "slda", "ranpac")
MERGING = [method for method in EVERY if method not in METHODS or METHODS[method].replay != "none"]
CHANGES: dict[str, Callable[[LatentReplayClassifier], object]] = {
    "lesson": lambda model: model.partial_fit(frames("green", seed=4), "leaf"),
    "more of a class": lambda model: model.partial_fit(frames("red", seed=4), "red"),
    "forget": lambda model: model.forget("red"),
    "rename": lambda model: model.rename("red", "rose"),
    "merge classes": lambda model: model.merge_classes("red", "green"),
    "fit": lambda model: model.fit(frames("grey"), "grey"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", EVERY)
def test_the_last_change_is_taken_back_exactly_and_learning_goes_on_as_if_it_had_never_been(
    network: Path, method: str, change: str
) -> None:
    model, twin = of(network, method, ("red", "green")), of(network, method, ("red", "green"))
    CHANGES[change](model)
    assert model.undoable is not None
    model.undo()
    assert same(model, twin) and model.undoable is None
    for each in (model, twin):
        each.partial_fit(frames("blue"), "blue")
    assert same(model, twin)


def test_only_the_last_change_is_taken_back_and_it_is_named(network: Path, tmp_path: Path) -> None:
    model = classifier(network)
    with pytest.raises(DataError, match="nothing to undo"):
        model.undo()
    model.partial_fit(frames("red"), "red")
    assert model.undoable == "the lesson of 10 images of red"
    model.undo()
    assert not hasattr(model, "classes_")
    model.partial_fit(frames("red"), "red").partial_fit(frames("blue"), "blue").undo()
    assert model.classes_.tolist() == ["red"]
    with pytest.raises(DataError, match="nothing to undo"):
        model.undo()
    model.rename("red", "rose").save(tmp_path / "saved")
    assert LatentReplayClassifier.load(tmp_path / "saved").undoable is None


def test_a_change_that_is_refused_can_not_be_undone_and_the_one_before_it_can(network: Path) -> None:
    model = taught(network, ("red", "green"))
    for refused in (
        lambda: model.rename("red", "green"),
        lambda: model.rename("pink", "rose"),
        lambda: model.merge_classes("red", "red"),
        lambda: model.merge_classes("red", "pink"),
        lambda: model.forget("pink"),
        lambda: model.partial_fit([], "pink"),
    ):
        with pytest.raises(DataError):
            refused()
    assert model.undoable == "the lesson of 10 images of green"


@pytest.mark.parametrize("method", EVERY)
def test_a_renamed_class_answers_the_same_under_its_new_name(
    network: Path, tmp_path: Path, method: str
) -> None:
    model, twin = of(network, method), of(network, method)
    assert model.rename("green", "leaf").classes_.tolist() == ["red", "leaf", "blue"]
    assert np.array_equal(model.predict_proba(PROBE), twin.predict_proba(PROBE))
    assert model.remember().images == {"red": 10, "leaf": 10, "blue": 10}
    model.save(tmp_path / "saved")
    assert same(LatentReplayClassifier.load(tmp_path / "saved"), model)


@pytest.mark.parametrize("method", EVERY)
def test_classes_made_one_are_answered_and_counted_as_one(network: Path, tmp_path: Path, method: str) -> None:
    model = of(network, method)
    latents = model.remember().latents
    model.merge_classes("blue", "green")
    assert model.classes_.tolist() == ["red", "green"]
    assert model.remember().images == {"red": 10, "green": 20}
    assert model.remember().latents["green"] == latents["green"] + latents["blue"]
    assert set(model.predict(PROBE)) <= {"red", "green"}
    if method in MERGING:
        assert model.score(frames("blue", 10, seed=3), "green") == 1
    model.save(tmp_path / "saved")
    opened = LatentReplayClassifier.load(tmp_path / "saved")
    for each in (model, opened):
        each.partial_fit(frames("grey"), "grey")
    assert same(opened, model) and model.classes_.tolist() == ["red", "green", "grey"]


@pytest.mark.parametrize("method", ["class_mean", "slda"])
def test_two_classes_made_one_have_the_statistics_of_one_that_was_taught_all(
    network: Path, method: str
) -> None:
    apart = of(network, method, ("red", "green", "blue")).merge_classes("blue", "green")
    once = of(network, method, ("red", "green"))
    once.partial_fit(frames("blue"), "green")
    np.testing.assert_allclose(apart.predict_proba(PROBE), once.predict_proba(PROBE), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", MERGING)
def test_what_two_were_taught_is_known_to_both_together(network: Path, tmp_path: Path, method: str) -> None:
    one, other = of(network, method, ("red", "green")), of(network, method, ("blue",))
    other.partial_fit(frames("green", seed=8), "green")
    one.merge(other)
    assert one.classes_.tolist() == ["red", "green", "blue"]
    assert one.remember().images == {"red": 10, "green": 20, "blue": 10}
    for colour in ("red", "green", "blue"):
        assert one.score(frames(colour, 10, seed=3), colour) >= 0.9
    assert other.classes_.tolist() == ["blue", "green"]  # it is as it was
    one.save(tmp_path / "saved")
    assert same(LatentReplayClassifier.load(tmp_path / "saved"), one)


@pytest.mark.parametrize("method", ["class_mean", "slda", "ranpac"])
def test_merged_sums_are_those_of_one_that_was_taught_everything(network: Path, method: str) -> None:
    assert method in CLOSED_FORM
    settings = {"ranpac_ridge": 1.0} if method == "ranpac" else {}
    parts = [classifier(network, method=method, **settings) for _ in range(3)]
    for part in (parts[0], parts[2]):
        part.partial_fit(frames("red"), "red").partial_fit(frames("green"), "green")
    for part in (parts[1], parts[2]):
        part.partial_fit(frames("blue"), "blue").partial_fit(frames("green", seed=6), "green")
    merged = parts[0].merge(parts[1]).predict_proba(PROBE)
    np.testing.assert_allclose(merged, parts[2].predict_proba(PROBE), rtol=1e-4, atol=1e-6)


def test_merged_statistics_of_two_memories_are_those_of_one_that_was_taught_everything(network: Path) -> None:
    parts = [classifier(network, views=2) for _ in range(3)]
    for part in (parts[0], parts[2]):
        part.partial_fit(frames("red"), "red").partial_fit(frames("green"), "green")
    for part in (parts[1], parts[2]):
        part.partial_fit(frames("green", seed=6), "green").partial_fit(frames("blue"), "blue")
    parts[0].merge(parts[1])
    merged, whole = (part._knowledge.learner.statistics for part in (parts[0], parts[2]))
    for name, value in vars(whole).items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(getattr(merged, name), value)
        else:
            assert getattr(merged, name) == value


def test_a_class_that_one_forgot_does_not_come_back_with_what_it_knows(network: Path) -> None:
    one, other = taught(network, ("red",)), taught(network, ("blue", "green"))
    other.forget("blue")
    one.merge(other)
    assert one.classes_.tolist() == ["red", "green"] and one.remember().latents.keys() == {"red", "green"}


def test_a_lesson_that_both_were_taught_is_not_counted_twice(network: Path) -> None:
    one, other = taught(network, ("red", "green")), taught(network, ("blue", "green"))
    with pytest.raises(DataError, match="1 of the 2 lessons"):
        one.merge(other)
    third = taught(network, ("grey",))
    one.merge(third)
    with pytest.raises(DataError, match="count twice"):
        one.merge(third)
    assert one.classes_.tolist() == ["red", "green", "grey"]


def test_classifiers_that_do_not_fit_are_not_merged(network: Path) -> None:
    model = taught(network, ("red",))
    with pytest.raises(ConfigError, match="taught with complementary and the other with slda"):
        model.merge(taught(network, ("blue",), method="slda"))
    with pytest.raises(ConfigError, match="different networks, cuts"):
        model.merge(taught(network, ("blue",), cut=1))
    with pytest.raises(ConfigError, match="keeps no latents"):
        model.merge(taught(network, ("blue",), memory=0))
    with pytest.raises(DataError, match="got int"):
        model.merge(3)
    with pytest.raises(ConfigError, match="method naive keeps nothing"):
        taught(network, ("red",), method="naive").merge(taught(network, ("blue",), method="naive"))
    with pytest.raises(ConfigError, match="same ranpac_ridge"):
        taught(network, ("red",), method="ranpac", ranpac_width=40).merge(
            taught(network, ("blue",), method="ranpac", ranpac_width=40, ranpac_ridge=1.0)
        )
    with pytest.raises(ConfigError, match="same random_state"):
        taught(network, ("red",), method="ranpac").merge(
            taught(network, ("blue",), method="ranpac", random_state=1)
        )
    assert model.classes_.tolist() == ["red"] and model.undoable == "the lesson of 10 images of red"


def test_several_changes_can_be_one_that_is_taken_back_as_a_whole(network: Path) -> None:
    model, twin = taught(network, ("red", "green")), taught(network, ("red", "green"))
    with model.one_change("a correction"):
        model.forget("red")
        model.partial_fit(frames("blue", seed=4), "red")
    assert model.undoable == "a correction"
    assert same(model.undo(), twin)
    undoable = model.rename("green", "leaf").undoable
    with pytest.raises(ZeroDivisionError), model.one_change("a mistake"):
        model.forget("red")
        raise ZeroDivisionError
    assert model.classes_.tolist() == ["red", "leaf"] and model.undoable == undoable


@pytest.mark.parametrize("method", ["complementary", "der"])
def test_a_change_of_many_lessons_is_taken_back_exactly_however_much_of_the_memory_it_replaced(
    network: Path, method: str
) -> None:
    model, twin = (taught(network, ("red", "green"), method=method, memory=12) for _ in range(2))
    other = classifier(network, method=method, memory=12)
    for number in range(4):
        other.partial_fit(frames("blue", 6, seed=number), f"blue {number}")
    assert same(model.merge(other).undo(), twin)
    with model.one_change("many lessons"):
        for number in range(4):
            model.partial_fit(frames("grey", 6, seed=number), f"grey {number}")
    assert same(model.undo(), twin)
    with pytest.raises(ZeroDivisionError), model.one_change("a mistake"):
        for label in ("red", "green"):
            model.forget(label)
            model.partial_fit(frames("grey", 6), "grey")
        raise ZeroDivisionError
    assert same(model, twin)


def test_an_answer_is_of_one_state_though_another_thread_takes_the_lesson_back_meanwhile(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier(network).partial_fit(frames("red"), "red")
    answer = Knowledge.answer

    def slowly(knowledge: Knowledge, *given: Any) -> Any:
        answered = answer(knowledge, *given)
        if model.undoable:
            model.undo()
        return answered

    monkeypatch.setattr(Knowledge, "answer", slowly)
    for ask in (model.predict, model.predict_sequence):
        model.partial_fit(frames("red"), "red")
        assert "red" in ask(frames("red", 3, seed=2), unknown="?")
