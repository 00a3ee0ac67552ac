"""What every method promises, whatever it computes: one list of checks over all registered names."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from vitlr.errors import ConfigError, RunError
from vitlr.latents.record import Latents
from vitlr.learning import (
    CLOSED_FORM,
    COMPOSED,
    METHODS,
    Hook,
    Learner,
    LearnerConfig,
    Method,
    Step,
    check_method,
    new_learner,
)
from vitlr.replay import MemoryConfig

WIDTH = 12
EVERY_METHOD = pytest.mark.parametrize("method", [*COMPOSED, *METHODS, *CLOSED_FORM])
REPLAYING = [name for name, method in METHODS.items() if method.replay == "memory"]


class Head(nn.Module):
    """Two tokens of whole numbers 0..255 to features: what latents and images have in common."""

    width = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(WIDTH))
            self.linear.bias.zero_()

    def forward(self, latents_BTD: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear((latents_BTD.float().mean(dim=1) - 128) / 64))


def learner(method: str, seed: int = 0, **settings: object) -> Learner:
    held = method in METHODS and METHODS[method].synaptic_intelligence
    own = {"si_lambda": 10.0} if held else {}
    config = LearnerConfig(
        method=method, first_lr=0.03, lr=0.03, batch_size=16, ranpac_width=64, **own, **settings
    )
    policy = "reservoir" if method == "der" else "spread"
    memory = MemoryConfig(capacity=60, policy=policy, codec="float32")
    return new_learner(Head(), config, memory, np.random.default_rng(seed), class_tokens=2)


def blobs(classes: list[int], per_class: int, seed: int) -> tuple[Latents, np.ndarray]:
    """uint8 (N, 2, 12) around a fixed centre for each class, in random order."""
    rng = np.random.default_rng([seed, 99])
    centres = np.random.default_rng(5).normal(size=(20, 1, WIDTH))
    labels = rng.permutation(np.repeat(classes, per_class))
    noisy = 128 + 50 * (centres[labels] + 0.2 * rng.normal(size=(len(labels), 2, WIDTH)))
    tokens = torch.from_numpy(noisy.clip(0, 255).astype(np.uint8))
    return Latents(tokens, tokens.float() / 255), labels


def accuracy(model: Learner, classes: list[int]) -> float:
    latents, labels = blobs(classes, 20, seed=1234)
    return float((model.logits(latents).argmax(dim=1).numpy() == labels).mean())


def taught(method: str, seed: int, experiences: int) -> Learner:
    """One that has learned classes 0, 1; 1, 2; and so on, in that many experiences."""
    model = learner(method, seed)
    for experience in range(experiences):
        model.learn(*blobs([experience, experience + 1], 10, experience), experience)
    return model


def same(a: Learner, b: Learner) -> bool:
    """Whether all that they know is the same bit by bit, and so what they say."""
    probe = blobs(list(range(8)), 3, 77)[0]
    (tensors, plain), (others, others_plain) = a.state(), b.state()
    return (
        torch.equal(a.logits(probe), b.logits(probe))
        and tensors.keys() == others.keys()
        and all(torch.equal(tensors[name], others[name]) for name in tensors)
        and plain == others_plain
    )


def test_a_new_method_is_a_hook_and_a_row_of_the_table(monkeypatch) -> None:
    class OfNewLatentsOnly(Hook):
        def loss(self, step: Step) -> torch.Tensor:
            num_new = len(step.labels_B) - step.num_replayed
            return functional.cross_entropy(step.logits_BC[:num_new], step.labels_B[:num_new])

    forgetful = Method(
        name="forgetful", summary="", replay="memory", consolidate=False, hook=OfNewLatentsOnly
    )
    monkeypatch.setitem(METHODS, "forgetful", forgetful)
    model = learner("forgetful", epochs=20)
    for experience, classes in enumerate([[0, 1], [2, 3]]):
        stats = model.learn(*blobs(classes, 20, experience), experience)
    assert stats.num_replayed > 0
    # What it replays, its loss leaves out.
    assert accuracy(model, [2, 3]) > 0.9 > 0.3 > accuracy(model, [0, 1])


def test_a_hooks_state_is_saved_restored_and_handed_on_without_the_loop_knowing_it(monkeypatch) -> None:
    class Counting(Hook):
        def begin(self, student, state) -> None:
            self.steps = state.get("steps", torch.zeros(1))

        def loss(self, step: Step) -> torch.Tensor:
            self.steps = self.steps + 1
            return super().loss(step)

        def end(self):
            return {"steps": self.steps}

        def check(self, state, blocks) -> None:
            if set(state) - {"steps"}:
                raise RunError("no state of Counting; use another copy of it")

    row = Method(name="counting", summary="", replay="memory", consolidate=True, hook=Counting)
    monkeypatch.setitem(METHODS, "counting", row)
    model, restored = taught("counting", 0, 2), learner("counting", 5)
    steps = model.state()[0]["hook.steps"].item()
    restored.load_state(*model.state())
    stats = restored.learn(*blobs([1, 2], 10, 2), 2)
    assert restored.state()[0]["hook.steps"].item() == steps + stats.steps
    assert model.state()[0]["hook.steps"].item() == steps
    with pytest.raises(RunError, match="another method"):
        learner("latent_replay").load_state(*model.state())


@EVERY_METHOD
def test_a_copy_keeps_answering_from_where_it_was_copied(method: str) -> None:
    model, probe = taught(method, 0, 2), blobs([0, 1, 2], 5, 7)[0]
    kept, before = copy.copy(model), model.logits(probe)
    model.learn(*blobs([1, 3], 10, 2), 2)
    model.forget(1)
    assert torch.equal(kept.logits(probe), before)
    assert not torch.equal(model.logits(probe)[:, :3], before)


@EVERY_METHOD
def test_a_forgotten_class_is_never_answered_or_kept_and_can_be_taught_again(method: str) -> None:
    model = learner(method, epochs=10)
    model.learn(*blobs([0, 1, 2], 20, 0), 0)
    latents = model.counts().get(1, 0)
    assert model.forget(1) == latents and 1 not in model.counts()
    assert model.known_C.tolist() == [True, False, True]
    assert set(model.logits(blobs([1], 20, 3)[0]).argmax(dim=1).tolist()) <= {0, 2}
    tensors, plain = model.state()
    restored = learner(method)
    restored.load_state(tensors, plain)
    assert same(model, restored)
    model.learn(*blobs([1], 20, 4), 1)
    assert model.known_C.tolist() == [True] * 3


@EVERY_METHOD
def test_scores_are_bounded_and_where_they_are_cosines_one_class_alone_scores_one(method: str) -> None:
    model = learner(method)
    model.learn(*blobs([0], 10, 0), 0)
    logits, scores = model.answer(blobs([0, 1], 5, 1)[0])
    assert logits.shape == (10, 1)
    if method in COMPOSED:  # shares of taught images
        assert bool(((scores >= 0) & (scores <= 1)).all()) and scores.max() > 0.1 > scores.min()
    else:
        assert scores.tolist() == [1.0] * 10
    model.learn(*blobs([1], 10, 1), 1)
    scores = model.answer(blobs([0, 1, 5], 5, 2)[0])[1]
    assert scores.dtype == torch.float32 and bool((scores.abs() <= 1 + 1e-6).all())


@EVERY_METHOD
def test_separable_classes_are_learned_from_one_experience(method: str) -> None:
    model = learner(method, epochs=10)
    stats = model.learn(*blobs([0, 1, 2, 3], 20, 0), 0)
    assert stats.num_new == 80 and np.isfinite(stats.loss)
    assert accuracy(model, [0, 1, 2, 3]) > 0.9


@pytest.mark.parametrize("method", [*REPLAYING, "cumulative", *CLOSED_FORM])
def test_methods_that_remember_know_all_classes_of_a_stream_of_pairs(method: str) -> None:
    model = learner(method)
    for experience in range(5):
        model.learn(*blobs([2 * experience, 2 * experience + 1], 20, experience), experience)
    assert accuracy(model, list(range(10))) > 0.9


@EVERY_METHOD
def test_the_same_seed_gives_the_same_bits(method: str) -> None:
    assert same(taught(method, seed=0, experiences=3), taught(method, seed=0, experiences=3))


@EVERY_METHOD
def test_a_restored_learner_goes_on_exactly_as_the_original(method: str) -> None:
    original, restored = taught(method, seed=3, experiences=2), learner(method, seed=8)
    restored.load_state(*original.state())
    assert same(original, restored)
    for model in (original, restored):
        model.learn(*blobs([1, 5], 10, 2), 2)
    assert same(original, restored)


@EVERY_METHOD
def test_learning_on_leaves_a_state_taken_before_as_it_was(method: str) -> None:
    model = taught(method, seed=0, experiences=1)
    tensors, _ = model.state()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    model.learn(*blobs([1, 2], 10, 1), 1)
    assert all(torch.equal(before[name], tensors[name]) for name in before)


@EVERY_METHOD
def test_a_single_class_may_come_first_and_is_the_only_answer_then(method: str) -> None:
    model = learner(method)
    model.learn(*blobs([7], 10, 0), 0)
    assert set(model.logits(blobs([1, 7], 5, 0)[0]).argmax(dim=1).tolist()) == {7}


@EVERY_METHOD
def test_classes_may_appear_in_any_order_and_those_never_seen_are_never_predicted(method: str) -> None:
    model = learner(method)
    model.learn(*blobs([7], 10, 0), 0)
    model.learn(*blobs([2, 7], 20, 1), 1)
    logits = model.logits(blobs([2, 4, 7], 20, 3)[0])
    assert logits.shape == (60, 8) and logits.dtype == torch.float32
    assert torch.isneginf(logits[:, [0, 1, 3, 4, 5, 6]]).all() and torch.isfinite(logits[:, [2, 7]]).all()
    assert model.known_C.tolist() == [False, False, True, False, False, False, False, True]
    assert accuracy(model, [2, 7]) > 0.9


@EVERY_METHOD
def test_a_single_image_an_experience_is_learned(method: str) -> None:
    model = learner(method)
    for experience in range(3):
        assert np.isfinite(model.learn(*blobs([experience], 1, experience), experience).loss)
    assert torch.isfinite(model.logits(blobs([0, 1, 2], 3, 0)[0])).all()


@EVERY_METHOD
def test_a_state_with_a_tensor_that_does_not_fit_is_refused_before_learning_meets_it(method: str) -> None:
    tensors, plain = taught(method, 0, 3).state()
    for name, tensor in tensors.items():
        for other in (None, tensor.new_zeros(5, 4), tensor.flatten()[:-1], tensor.to(torch.complex64)):
            if other is not None and (other.shape, other.dtype) == (tensor.shape, tensor.dtype):
                continue  # nothing was taken from an empty one
            damaged = {key: value for key, value in tensors.items() if key != name}
            if other is not None:
                damaged[name] = other
            with pytest.raises(RunError, match="use "):
                learner(method).load_state(damaged, plain)


@pytest.mark.parametrize(
    ("policy", "change"),
    [
        ("spread", lambda plain: plain.update(experiences_learned=-1)),
        ("spread", lambda plain: plain.update(experiences_learned="3")),
        ("spread", lambda plain: plain["memory"].update(shape=[3, 12])),
        ("spread", lambda plain: plain["memory"].update(shape=[10**9, 10**9])),
        ("spread", lambda plain: plain["memory"].update(shape=None)),
        ("spread", lambda plain: plain["memory"].update(policy_state={"seen": 3})),
        ("reservoir", lambda plain: plain["memory"].update(policy_state={"offers": 3})),
        ("random", lambda plain: plain["memory"].update(policy_state={"offers": -1})),
        ("random", lambda plain: plain["memory"].update(policy_state=None)),
        ("reservoir", lambda plain: plain["memory"].update(policy_state={"seen": 0.5})),
        ("reservoir", lambda plain: plain["memory"].update(policy_state={"seen": {}})),
        ("balanced", lambda plain: plain["memory"].update(policy_state={"seen": [], "full": []})),
        ("balanced", lambda plain: plain["memory"].update(policy_state={"seen": {"1": -1}, "full": []})),
    ],
)
def test_plain_data_that_do_not_fit_are_refused_before_learning_meets_them(policy: str, change) -> None:
    def fresh() -> Learner:
        memory, config = MemoryConfig(capacity=12, policy=policy), LearnerConfig(method="latent_replay")
        return new_learner(Head(), config, memory, np.random.default_rng(0))

    model = fresh()
    for experience in range(2):
        model.learn(*blobs([experience, 2], 10, experience), experience)
    tensors, plain = model.state()
    fresh().load_state(tensors, plain)
    change(plain)
    with pytest.raises(RunError, match="use "):
        fresh().load_state(tensors, plain)


def test_a_memory_of_more_than_is_allowed_or_with_labels_of_no_class_is_refused() -> None:
    tensors, plain = taught("latent_replay", 0, 3).state()
    with pytest.raises(RunError, match="60 latents and 8 are allowed"):
        config, memory = LearnerConfig(method="latent_replay"), MemoryConfig(capacity=8, codec="float32")
        new_learner(Head(), config, memory, np.random.default_rng(0)).load_state(tensors, plain)
    for label in (-1, 99):
        changed = tensors | {"memory.labels": torch.full_like(tensors["memory.labels"], label)}
        with pytest.raises(RunError, match="labels of no class"):
            learner("latent_replay").load_state(changed, plain)


@EVERY_METHOD
def test_no_latents_or_mismatched_labels_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match="one label each"):
        learner(method).learn(Latents(torch.zeros(0, 2, WIDTH)), np.zeros(0, dtype=np.int64), 0)
    with pytest.raises(ValueError, match="one label each"):
        learner(method).learn(Latents(torch.zeros(2, 2, WIDTH)), np.zeros(3, dtype=np.int64), 0)


@pytest.mark.parametrize("method", REPLAYING)
def test_no_more_is_kept_than_the_memory_may_hold(method: str) -> None:
    model = taught(method, seed=0, experiences=6)
    assert len(model.memory) == 60  # type: ignore[attr-defined]
    numbers = 2 * WIDTH
    logits = 4 * 7 if method == "der" else 0
    expected = 60 * ((1 if method == "native" else 4) * numbers + logits)
    assert model.memory.num_bytes == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["latent_replay", "ar1free"])
def test_ar1free_is_latent_replay_under_its_published_name(name: str) -> None:
    assert same(taught(name, 0, 3), taught("latent_replay", 0, 3))


def test_synaptic_intelligence_is_what_tells_ar1_with_replay_from_ar1free() -> None:
    held, free = taught("ar1_replay", 0, 3).state()[0], taught("ar1free", 0, 3).state()[0]
    assert any(name.startswith("hook.importance.") for name in held)
    assert not any(name.startswith("hook.") for name in free)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"method": "ar1free", "si_lambda": 1.0}, "ar1_replay"),
        ({"method": "ar1_replay", "si_lambda": 0.0}, "si_lambda > 0"),
        ({"method": "slda", "slda_shrinkage": 0.0}, "slda_shrinkage"),
        ({"method": "ranpac", "ranpac_width": 0}, "ranpac_width"),
        ({"method": "ranpac", "ranpac_width": 10**6}, "ranpac_width"),
        ({"method": "ranpac", "ranpac_ridge": float("nan")}, "ranpac_ridge"),
    ],
)
def test_a_setting_that_contradicts_the_method_is_named(settings: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_method(LearnerConfig(**settings))
