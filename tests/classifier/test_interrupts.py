"""Ctrl-C anywhere in an experience: the model is all old or all new, and what it then saves loads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.classifier.colours import frames, same, taught
from tests.interrupts import interrupted_at, lines_of

from vitlr import LatentReplayClassifier

# A full memory, so that rows are replaced; every kind of state that a method keeps.
METHODS: dict[str, dict[str, Any]] = {
    "latent_replay": {"memory": 12, "codec": "int8", "policy": "random"},
    "ar1_replay": {"memory": 12, "si_lambda": 10.0},
    "der": {"memory": 12, "policy": "reservoir"},
    "slda": {},
    "ranpac": {"ranpac_width": 32},
}
CHANGES: dict[str, Callable[[LatentReplayClassifier], object]] = {
    "partial_fit": lambda model: model.partial_fit(frames("blue", 6), "blue"),
    "forget": lambda model: model.forget("red"),
}


def sampled(lines: int) -> list[int]:
    """Lines spread over all of a call, and each of the last ones, where it is published."""
    return sorted({*range(0, lines, max(1, lines // 8)), *range(max(0, lines - 6), lines)})


@pytest.mark.parametrize(
    ("method", "change"),
    [
        *((method, "partial_fit") for method in METHODS),
        *((method, "forget") for method in ("der", "slda")),
    ],
)
def test_an_interrupt_leaves_the_old_model_or_the_new_one_and_what_it_saves_loads(
    network: Path, method: str, change: str, tmp_path: Path
) -> None:
    settings = {"method": method, "epochs": 1, "train_precision": "float32", **METHODS[method]}
    taught(network, ("red", "green"), **settings).save(tmp_path / "old")
    act = CHANGES[change]

    def again() -> LatentReplayClassifier:
        model = LatentReplayClassifier.load(tmp_path / "old")
        model.scores(frames("red", 1))  # makes what is made at the first use
        return model

    old, new, counted = again(), again(), again()
    act(new)
    outcomes = []
    for line in sampled(lines_of(partial(act, counted))):
        model = again()
        interrupted_at(line, partial(act, model))
        is_old = model._knowledge.lessons == 2 and model.classes_.tolist() == ["red", "green"]
        outcomes.append(is_old)
        assert same(model, old if is_old else new)
        model.save(tmp_path / "saved")
        assert same(model, LatentReplayClassifier.load(tmp_path / "saved"))
    assert sum(outcomes) >= 8 and outcomes == sorted(outcomes, reverse=True), (
        "published in one of the last lines"
    )
    model = again()
    for share in (1.0, 0.7, 0.9, 0.8):
        interrupted_at(int(share * line) - 12, partial(act, model))
    for each in (model, old):  # nothing that was interrupted shows later
        each.partial_fit(frames("grey", 6), "grey")
    assert same(model, old)


@pytest.mark.parametrize("method", ["latent_replay", "slda"])
def test_an_interrupt_of_the_first_experience_leaves_nothing_learned(network: Path, method: str) -> None:
    reference = taught(network, ("blue",), method=method)
    whole = lines_of(lambda: taught(network, ("blue",), method=method))
    for line in range(0, whole, max(1, whole // 9)):
        model = taught(network, (), method=method)
        if interrupted_at(line, partial(model.partial_fit, frames("blue"), "blue")):
            assert not hasattr(model, "classes_")
            model.partial_fit(frames("blue"), "blue")
        assert same(model, reference)
