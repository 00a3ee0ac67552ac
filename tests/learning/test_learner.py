"""The training loop, checked against torch's own optimizer, hand-made streams and its own restored self."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from vitlr.errors import ConfigError, RunError
from vitlr.latents.record import Latents
from vitlr.learning import METHODS, GradientLearner, LearnerConfig, check_method
from vitlr.replay import MemoryConfig

WIDTH = 8


class TinyHead(nn.Module):
    """Latents (B, T, 8) to features (B, 8): a linear map of the first token and a norm."""

    width = WIDTH

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(WIDTH, WIDTH, generator=generator) / 3)
            self.linear.bias.zero_()

    def forward(self, latents_BTD: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(latents_BTD[:, 0]))


def learner(memory: int = 40, seed: int = 0, **settings: object) -> GradientLearner:
    return GradientLearner(
        TinyHead(),
        LearnerConfig(
            **{"method": "latent_replay", "first_lr": 0.05, "lr": 0.05, "batch_size": 16}
            | {"train_precision": "float32"}
            | settings
        ),
        MemoryConfig(capacity=memory, codec="float32"),
        np.random.default_rng(seed),
    )


def blobs(classes: list[int], per_class: int, seed: int) -> tuple[Latents, np.ndarray]:
    """Latents (N, 2, 8) around a fixed centre for each class, in random order."""
    rng = np.random.default_rng([seed, 99])
    centres = np.random.default_rng(5).normal(size=(20, WIDTH)) * 2
    labels = rng.permutation(np.repeat(classes, per_class))
    latents = centres[labels][:, None] + 0.5 * rng.normal(size=(len(labels), 2, WIDTH))
    return Latents(torch.from_numpy(latents).float()), labels


def settings_of(method: str) -> dict[str, object]:
    return {"method": method, "si_lambda": 1e3 if METHODS[method].synaptic_intelligence else 0.0}


def accuracy(model: GradientLearner, classes: list[int]) -> float:
    latents, labels = blobs(classes, 20, seed=1234)
    return float((model.logits(latents).argmax(dim=1).numpy() == labels).mean())


def test_one_step_equals_torchs_sgd_on_the_same_network() -> None:
    latents, labels = blobs([0, 1, 2], 4, seed=0)
    model = learner(method="naive", epochs=1, batch_size=64)
    model.learn(latents, labels, 0)
    head, classifier = TinyHead(), nn.Linear(WIDTH, 3, bias=False)
    nn.init.zeros_(classifier.weight)
    optimizer = torch.optim.SGD(
        [*head.parameters(), *classifier.parameters()], lr=0.05, momentum=0.9, weight_decay=5e-4
    )
    functional.cross_entropy(classifier(head(latents.tokens_NTD)), torch.from_numpy(labels)).backward()
    optimizer.step()
    assert torch.allclose(model.classifier_CD, classifier.weight, atol=1e-6)
    for trained, expected in zip(model.head.parameters(), head.parameters(), strict=True):
        assert torch.allclose(trained, expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_a_first_experience(method: str) -> None:
    model = learner(**settings_of(method), epochs=10)
    model.learn(*blobs([0, 1, 2], 20, seed=0), 0)
    assert accuracy(model, [0, 1, 2]) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_gives_the_same_bits_and_another_seed_does_not(method: str) -> None:
    results = []
    for seed in (0, 0, 1):
        model = learner(**settings_of(method), seed=seed)
        for experience in range(3):
            model.learn(*blobs([experience, experience + 1], 10, experience), experience)
        results.append(model.logits(blobs([0, 1, 2, 3], 5, 77)[0]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("method", METHODS)
def test_a_restored_learner_goes_on_exactly_as_the_original(method: str) -> None:
    original = learner(**settings_of(method), seed=3)
    for experience in range(2):
        original.learn(*blobs([experience, experience + 1], 10, experience), experience)
    restored = learner(**settings_of(method), seed=8)
    restored.load_state(*original.state())
    for model in (original, restored):
        model.learn(*blobs([1, 5], 10, 2), 2)
    probe = blobs([0, 1, 2, 5], 5, 77)[0]
    assert torch.equal(original.logits(probe), restored.logits(probe))
    assert original.state()[1] == restored.state()[1]


def test_replay_remembers_what_naive_forgets() -> None:
    scores = {}
    for method in ("latent_replay", "naive", "cumulative"):
        model = learner(method=method, epochs=4)
        for experience in range(6):
            model.learn(*blobs([2 * experience, 2 * experience + 1], 20, experience), experience)
        scores[method] = accuracy(model, list(range(12)))
    assert scores["latent_replay"] > 0.8
    assert scores["cumulative"] > 0.9
    assert scores["naive"] < 0.5


def test_der_in_a_first_experience_with_nothing_to_replay_is_plain_fine_tuning() -> None:
    naive, der = learner(method="naive"), learner(method="der")
    for model in (naive, der):
        model.learn(*blobs([0, 1], 10, 0), 0)
    assert torch.equal(naive.classifier_CD, der.classifier_CD)


def test_der_remembers_and_its_logits_stay_nearer_than_those_of_replay_alone() -> None:
    drift = []
    for alpha in (0.0, 1.0):
        model = learner(method="der", der_alpha=alpha, der_beta=1.0, epochs=6)
        model.learn(*blobs([0, 1, 2], 10, 0), 0)
        probe = blobs([0, 1, 2], 10, 0)[0]
        before = model.logits(probe)
        for experience in range(1, 4):
            model.learn(*blobs([2 + experience], 10, experience), experience)
        drift.append((model.logits(probe)[:, :3] - before).square().mean().item())
        assert accuracy(model, list(range(6))) > 0.8
    assert drift[1] < 0.5 * drift[0]


def test_der_keeps_with_each_latent_the_logits_it_had_when_its_experience_ended() -> None:
    model = learner(method="der", memory=100)
    latents, labels = blobs([0, 1], 10, 0)
    model.learn(latents, labels, 0)
    before = model.logits(model.memory.draw(np.arange(20)))
    model.learn(*blobs([4], 10, 1), 1)
    kept = model.memory.draw_logits(np.arange(30))
    assert torch.allclose(kept[:20, :2], before, atol=1e-6) and torch.isneginf(kept[:20, 2:]).all()
    assert torch.isfinite(kept[20:, [0, 1, 4]]).all() and torch.isneginf(kept[20:, [2, 3]]).all()
    assert model.memory.num_bytes == 30 * (2 * WIDTH * 4 + 5 * 4)


def test_cwr_leaves_the_blocks_as_the_first_experience_left_them() -> None:
    model = learner(method="cwr")
    model.learn(*blobs([0, 1], 10, 0), 0)
    after_first = [p.detach().clone() for p in model.head.parameters()]
    model.learn(*blobs([2, 3], 10, 1), 1)
    assert all(torch.equal(a, b) for a, b in zip(after_first, model.head.parameters(), strict=True))
    assert model.known_C.tolist() == [True] * 4


def test_methods_without_replay_store_nothing() -> None:
    for method in ("ar1", "cwr", "naive"):
        model = learner(**settings_of(method))
        model.learn(*blobs([0, 1], 10, 0), 0)
        assert len(model.memory) == 0


def test_synaptic_intelligence_holds_the_blocks_nearer_to_where_they_were() -> None:
    moved = []
    for strength in (1e-3, 3e3):
        model = learner(method="ar1", si_lambda=strength, classifier_lr_scale=0.1)
        model.learn(*blobs([0, 1], 20, 0), 0)
        start = [p.detach().clone() for p in model.head.parameters()]
        model.learn(*blobs([2, 3], 20, 1), 1)
        ends = model.head.parameters()
        moved.append(sum(((a - b) ** 2).sum().item() for a, b in zip(start, ends, strict=True)))
    assert moved[1] < 0.5 * moved[0]


def test_importances_cover_exactly_the_trained_blocks_and_never_a_frozen_one() -> None:
    model = learner(method="latent_replay", si_lambda=1.0)
    model.learn(*blobs([0, 1], 10, 0), 0)
    tensors, _ = model.state()
    names = {name for name in tensors if name.startswith("hook.importance.")}
    assert names == {f"hook.importance.{name}" for name, _ in model.head.named_parameters()}


def test_classes_may_appear_at_any_time_in_any_order_and_unseen_ones_are_never_predicted() -> None:
    model = learner()
    model.learn(*blobs([7], 10, 0), 0)
    assert set(model.logits(blobs([1, 7], 5, 0)[0]).argmax(dim=1).tolist()) == {7}
    model.learn(*blobs([2, 7], 10, 1), 1)
    logits = model.logits(blobs([2, 7], 20, 3)[0])
    assert logits.shape[1] == 8
    assert torch.isinf(logits[:, [0, 1, 3, 4, 5, 6]]).all() and torch.isfinite(logits[:, [2, 7]]).all()
    assert accuracy(model, [2, 7]) > 0.9


@pytest.mark.parametrize("num", [1, 2, 3, 17])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_experiences_of_any_size_give_a_finite_loss(num: int, batch_size: int) -> None:
    model = learner(batch_size=batch_size, epochs=2, first_lr=0.01, lr=0.01)
    latents, labels = blobs([0, 1], 20, 0)
    for experience in range(3):
        stats = model.learn(latents[np.arange(num)], labels[:num], experience)
        assert np.isfinite(stats.loss) and stats.steps >= 2


def test_counts_of_cwr_are_patterns_of_each_class_new_and_replayed() -> None:
    model = learner(memory=100)
    model.learn(*blobs([0, 1], 10, 0), 0)
    model.learn(*blobs([1], 5, 1), 1)
    assert model.state()[0]["past"].tolist() == [10 + 10, 10 + 10 + 5]


def same_state(one: GradientLearner, other: GradientLearner) -> bool:
    (tensors, plain), (others, other_plain) = one.state(), other.state()
    return plain == other_plain and all(torch.equal(tensors[n], others[n]) for n in tensors.keys() | others)


def test_a_loss_that_is_not_finite_names_the_step_and_leaves_the_last_good_state() -> None:
    model, untouched = learner(lr=1e30), learner(lr=1e30)
    for either in (model, untouched):
        either.learn(*blobs([0, 1], 10, 0), 0)
    with pytest.raises(
        RunError, match=r"step \d+ of experience 1 at learning rate 1e\+30; lower learner\.lr"
    ):
        model.learn(*blobs([2, 3], 10, 1), 1)
    assert same_state(model, untouched)


def test_a_last_step_that_spoils_the_weights_is_noticed_though_its_loss_was_finite() -> None:
    # One step: the loss is taken before it, so that nothing but the weights shows what it did.
    settings = {"first_lr": 0.0, "lr": 1e38, "weight_decay": 1e3, "epochs": 1, "memory": 0}
    model, untouched = learner(**settings), learner(**settings)
    for either in (model, untouched):
        either.learn(*blobs([0, 1], 10, 0), 0)
    with pytest.raises(RunError, match=r"after step 1 of experience 1 at learning rate 1e\+38; lower"):
        model.learn(*blobs([2, 3], 4, 1), 1)
    assert same_state(model, untouched)


def test_no_latents_or_mismatched_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="one label each"):
        learner().learn(Latents(torch.zeros(0, 2, WIDTH)), np.zeros(0, dtype=np.int64), 0)
    with pytest.raises(ValueError, match="one label each"):
        learner().learn(Latents(torch.zeros(2, 2, WIDTH)), np.zeros(3, dtype=np.int64), 0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"epochs": 0}, "learner.epochs"),
        ({"batch_size": 0}, "learner.batch_size"),
        ({"lr": -1.0}, "learner.lr"),
        ({"lr": float("nan")}, "learner.lr"),
        ({"lr": 1e39}, "learner.lr"),
        ({"classifier_lr_scale": 1e39}, "learner.classifier_lr_scale"),
        ({"lr": 1e30, "classifier_lr_scale": 1e30}, "classifier_lr_scale"),
        ({"momentum": 1.0}, "learner.momentum"),
        ({"method": "ewc"}, "learner.method"),
        ({"method": "ar1", "si_lambda": 0.0}, "si_lambda > 0"),
    ],
)
def test_a_bad_setting_is_named(settings: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_method(LearnerConfig(**settings))


def test_reported_gradients_cover_every_trained_parameter() -> None:
    stats = learner().learn(*blobs([0, 1], 10, 0), 0)
    assert set(stats.gradients) == {"classifier.weight", *(name for name, _ in TinyHead().named_parameters())}
    assert all(0 < mean <= largest for mean, largest in stats.gradients.values())


def test_mixed_precision_keeps_float32_weights_and_learns_nearly_the_same() -> None:
    latents, labels = blobs([0, 1, 2], 20, seed=3)
    exact, mixed = learner(), learner(train_precision="bfloat16")
    for model in (exact, mixed):
        model.learn(latents, labels, 0)
    weights = dict(mixed.head.named_parameters())
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    assert mixed.classifier_CD.dtype == torch.float32
    for name, weight in exact.head.named_parameters():
        assert not torch.equal(weights[name], weight)  # the products were rounded
        assert (weights[name] - weight).norm() < 0.02 * (weight.norm() + 0.1)
    assert accuracy(mixed, [0, 1, 2]) == pytest.approx(accuracy(exact, [0, 1, 2]), abs=0.05)


def test_another_precision_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"learner\.train_precision must be one of auto, float32, bfloat16"):
        LearnerConfig(train_precision="float16")
