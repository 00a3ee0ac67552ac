"""Checkpoints: a resumed learner goes on exactly, and only with the settings it began with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vitlr.errors import RunError
from vitlr.latents.record import Latents
from vitlr.learning import GradientLearner, LearnerConfig
from vitlr.replay import MemoryConfig
from vitlr.runs.checkpoint import load_checkpoint, save_checkpoint, truncate_metrics

IDENTITY = {
    "config": {"learner": {"lr": 0.01, "epochs": 4}},
    "data": {"scenario": "nicv2_391"},
    "version": "0.1.0",
}


class Head(nn.Linear):
    width = 4

    def forward(self, latents_BTD: torch.Tensor) -> torch.Tensor:
        return super().forward(latents_BTD[:, 0])


def learner(seed: int = 0) -> GradientLearner:
    head = Head(4, 4)
    with torch.no_grad():
        head.weight.copy_(torch.eye(4))
        head.bias.zero_()
    config = LearnerConfig(method="latent_replay", epochs=2, batch_size=4)
    return GradientLearner(head, config, MemoryConfig(capacity=10), np.random.default_rng(seed))


def experience(number: int) -> tuple[Latents, np.ndarray, int]:
    rng = np.random.default_rng(number)
    latents = Latents(torch.from_numpy(rng.normal(size=(9, 2, 4))).float())
    return latents, rng.integers(0, 3, size=9) + number, number


def test_a_resumed_learner_goes_on_exactly_as_one_that_never_stopped(tmp_path: Path) -> None:
    straight, stopped, resumed = learner(), learner(), learner(seed=5)
    for number in range(4):
        straight.learn(*experience(number))
    for number in range(2):
        stopped.learn(*experience(number))
    save_checkpoint(tmp_path, stopped, 2, IDENTITY)
    position = load_checkpoint(tmp_path, resumed, IDENTITY)
    assert position == 2
    for number in range(position, 4):
        resumed.learn(*experience(number))
    (expected, plain), (found, found_plain) = straight.state(), resumed.state()
    assert plain == found_plain
    assert all(torch.equal(expected[name], found[name]) for name in expected.keys() | found.keys())


def test_a_checkpoint_of_another_run_is_refused_with_the_differences_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, learner(), 1, IDENTITY)
    other = {"config": {"learner": {"lr": 0.03, "epochs": 4}}, "data": {"scenario": "ni"}, "version": "0.2.0"}
    with pytest.raises(RunError) as caught:
        load_checkpoint(tmp_path, learner(), other)
    for difference in (
        "config.learner.lr was 0.01 and is 0.03",
        'data.scenario was "nicv2_391" and is "ni"',
        'version was "0.1.0" and is "0.2.0"',
    ):
        assert difference in str(caught.value)
    assert "epochs" not in str(caught.value)


def test_identities_are_compared_as_json_has_them(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, learner(), 1, {"sessions": (1, 2)})
    assert load_checkpoint(tmp_path, learner(), {"sessions": [1, 2]}) == 1
    with pytest.raises(RunError, match="sessions was"):
        load_checkpoint(tmp_path, learner(), {"sessions": (1, 2, 3)})


def test_metrics_are_cut_back_to_the_records_of_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"experience": 0}\n{"experience": 1}\n{"experience": 2}\n{"exper')
    truncate_metrics(tmp_path, 2)
    assert path.read_bytes() == b'{"experience": 0}\n{"experience": 1}\n'
    truncate_metrics(tmp_path, 2)
    with pytest.raises(RunError, match="2 whole records and its checkpoint knows 3"):
        truncate_metrics(tmp_path, 3)
    assert not list(tmp_path.glob(".*.tmp"))
