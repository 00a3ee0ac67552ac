"""Methods on frozen features: the same promises for each, and each against another computation of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional

from vitlr.errors import RunError
from vitlr.latents.record import Latents
from vitlr.learning import LearnerConfig, new_learner
from vitlr.learning.methods.class_mean import NearestClassMean
from vitlr.learning.methods.der import dark_loss
from vitlr.learning.methods.lwf import distillation
from vitlr.learning.methods.ranpac import HELD_OUT, RanPAC
from vitlr.learning.methods.slda import SLDA
from vitlr.learning.ridge import RIDGES
from vitlr.replay import MemoryConfig

WIDTH = 8


class NormHead(nn.Module):
    """What a head at the last cut is: the final norm of the one token."""

    width = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        with torch.no_grad():
            self.norm.weight.copy_(torch.linspace(0.5, 2.0, WIDTH))

    def forward(self, latents_BTD: torch.Tensor) -> torch.Tensor:
        return self.norm(latents_BTD[:, 0])


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


METHODS: dict[str, Callable[[int], Any]] = {
    "class_mean": lambda seed: NearestClassMean(NormHead()),
    "slda": lambda seed: SLDA(NormHead()),
    "ranpac": lambda seed: RanPAC(NormHead(), 64, None, rng_of(seed)),
    "ranpac_given_ridge": lambda seed: RanPAC(NormHead(), 64, 10.0, rng_of(seed)),
}
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)


def blobs(classes: list[int], per_class: int, seed: int) -> tuple[Latents, np.ndarray]:
    """Latents (N, 1, 8) around a fixed centre for each class, in random order."""
    rng = np.random.default_rng([seed, 99])
    centres = np.random.default_rng(5).normal(size=(20, WIDTH)) * 2
    labels = rng.permutation(np.repeat(classes, per_class))
    latents = centres[labels][:, None] + 0.5 * rng.normal(size=(len(labels), 1, WIDTH))
    return Latents(torch.from_numpy(latents).float()), labels


def features(latents: Latents) -> np.ndarray:
    with torch.no_grad():
        return NormHead()(latents.tokens_NTD).double().numpy()


def accuracy(model: Any, classes: list[int]) -> float:
    latents, labels = blobs(classes, 20, seed=1234)
    return float((model.logits(latents).argmax(dim=1).numpy() == labels).mean())


# -- every method ---------------------------------------------------------------------------------------


@EVERY_METHOD
def test_separable_classes_are_learned_from_a_stream_of_pairs_of_them(method: str) -> None:
    model = METHODS[method](0)
    for experience in range(5):
        stats = model.learn(*blobs([2 * experience, 2 * experience + 1], 20, experience), experience)
        assert stats.num_new == 40 and stats.num_replayed == 0 and np.isfinite(stats.loss)
    assert accuracy(model, list(range(10))) > 0.9


@EVERY_METHOD
def test_same_seed_gives_the_same_bits(method: str) -> None:
    models = [METHODS[method](0), METHODS[method](0)]
    for model in models:
        for experience in range(3):
            model.learn(*blobs([experience, experience + 1], 10, experience), experience)
    probe = blobs([0, 1, 2, 3], 5, 77)[0]
    assert torch.equal(models[0].logits(probe), models[1].logits(probe))


@EVERY_METHOD
def test_a_restored_learner_goes_on_exactly_as_the_original(method: str) -> None:
    original, restored = METHODS[method](3), METHODS[method](8)
    for experience in range(2):
        original.learn(*blobs([experience, experience + 1], 10, experience), experience)
    restored.load_state(*original.state())
    for model in (original, restored):
        model.learn(*blobs([1, 5], 10, 2), 2)
    probe = blobs([0, 1, 2, 5], 5, 77)[0]
    assert torch.equal(original.logits(probe), restored.logits(probe))
    assert original.state()[1] == restored.state()[1]
    assert original.num_bytes == restored.num_bytes > 0


@EVERY_METHOD
def test_learning_on_leaves_a_state_taken_before_as_it_was(method: str) -> None:
    model = METHODS[method](0)
    model.learn(*blobs([0, 1], 10, 0), 0)
    tensors, _ = model.state()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    model.learn(*blobs([0, 1], 10, 1), 1)
    assert all(torch.equal(before[name], tensors[name]) for name in before)


@EVERY_METHOD
def test_classes_may_appear_in_any_order_and_unseen_ones_are_never_predicted(method: str) -> None:
    model = METHODS[method](0)
    model.learn(*blobs([7], 10, 0), 0)
    assert set(model.logits(blobs([1, 7], 5, 0)[0]).argmax(dim=1).tolist()) == {7}
    model.learn(*blobs([2, 7], 10, 1), 1)
    logits = model.logits(blobs([2, 7], 20, 3)[0])
    assert logits.shape[1] == 8 and logits.dtype == torch.float32
    assert torch.isneginf(logits[:, [0, 1, 3, 4, 5, 6]]).all() and torch.isfinite(logits[:, [2, 7]]).all()
    assert model.known_C.tolist() == [False, False, True, False, False, False, False, True]
    assert accuracy(model, [2, 7]) > 0.9


@EVERY_METHOD
def test_nothing_learned_and_nothing_asked_have_empty_logits(method: str) -> None:
    model = METHODS[method](0)
    assert model.logits(blobs([0], 3, 0)[0]).shape == (3, 0)
    model.learn(*blobs([0, 1], 5, 0), 0)
    assert model.logits(Latents(torch.zeros(0, 1, WIDTH))).shape == (0, 2)


@EVERY_METHOD
def test_a_single_image_is_learned(method: str) -> None:
    model = METHODS[method](0)
    for experience in range(3):
        stats = model.learn(*blobs([experience], 1, experience), experience)
        assert np.isfinite(stats.loss)
    assert torch.isfinite(model.logits(blobs([0, 1], 3, 0)[0])).all()


@EVERY_METHOD
def test_the_head_is_bitwise_unchanged_after_learning(method: str) -> None:
    model = METHODS[method](0)
    model.learn(*blobs([0, 1], 10, 0), 0)
    fresh = NormHead().parameters()
    assert all(torch.equal(a, b) for a, b in zip(model.head.parameters(), fresh, strict=True))
    assert all(parameter.grad is None for parameter in model.head.parameters())


@pytest.mark.parametrize("method", [name for name in METHODS if name != "ranpac"])
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 59), max_size=6))
@settings(max_examples=15, deadline=None)
def test_order_of_patterns_and_borders_of_experiences_do_not_matter(
    method: str, seed: int, cuts: list[int]
) -> None:
    latents, labels = blobs([0, 1, 4], 20, 0)
    whole, streamed = METHODS[method](0), METHODS[method](0)
    whole.learn(latents, labels, 0)
    order = np.random.default_rng(seed).permutation(60)
    for experience, rows in enumerate(np.split(order, sorted(set(cuts)))):
        streamed.learn(latents[rows], labels[rows], experience)
    probe = blobs([0, 1, 4], 5, 77)[0]
    torch.testing.assert_close(streamed.logits(probe), whole.logits(probe), rtol=1e-4, atol=1e-4)


@EVERY_METHOD
def test_no_latents_or_mismatched_labels_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match="one label each"):
        METHODS[method](0).learn(Latents(torch.zeros(0, 1, WIDTH)), np.zeros(0, dtype=np.int64), 0)
    with pytest.raises(ValueError, match="one label each"):
        METHODS[method](0).learn(Latents(torch.zeros(2, 1, WIDTH)), np.zeros(3, dtype=np.int64), 0)


@EVERY_METHOD
def test_features_that_are_not_finite_are_refused_before_they_spoil_the_sums(method: str) -> None:
    model = METHODS[method](0)
    model.learn(*blobs([0, 1], 10, 0), 0)
    probe = blobs([0, 1], 5, 77)[0]
    before = model.logits(probe)
    latents, labels = blobs([0, 1], 10, 1)
    latents.tokens_NTD[3] = float("nan")
    with pytest.raises(RunError, match="1 of 20 images"):
        model.learn(latents, labels, 1)
    assert torch.equal(model.logits(probe), before)


# -- each method against another computation of it ------------------------------------------------------


def streamed(model: Any, per_class: list[int]) -> tuple[Latents, np.ndarray]:
    """Let the model learn classes 0.. with that many patterns in seven experiences; returns all of it."""
    parts = [blobs([label], number, label) for label, number in enumerate(per_class)]
    latents, labels = Latents.joined([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    order = np.random.default_rng(0).permutation(len(labels))
    for experience, rows in enumerate(np.array_split(order, 7)):
        model.learn(latents[rows], labels[rows], experience)
    return latents, labels


def test_cosine_class_means_are_the_angles_to_the_means_of_plain_features() -> None:
    model = METHODS["class_mean"](0)
    latents, labels = streamed(model, [5, 9, 14])
    means = np.stack([features(latents)[labels == label].mean(axis=0) for label in range(3)])
    probe = features(latents[np.arange(6)])
    expected = (probe @ means.T) / np.linalg.norm(probe, axis=1)[:, None] / np.linalg.norm(means, axis=1)
    unit = means / np.linalg.norm(means, axis=1)[:, None]
    scale = 4.5 / (1 - np.sort(unit @ unit.T, axis=1)[:, -2]).mean()
    np.testing.assert_allclose(model.logits(latents[np.arange(6)]).numpy(), scale * expected, rtol=1e-5)


@pytest.mark.parametrize("per_class", [[30, 30, 30, 30], [5, 9, 14, 60]])
@pytest.mark.parametrize("shrinkage", [1e-4, 0.3])
def test_slda_has_the_weights_of_scikit_learns_lda_on_all(per_class: list[int], shrinkage: float) -> None:
    model = SLDA(NormHead(), shrinkage)
    latents, labels = streamed(model, per_class)
    all_features = features(latents)
    means = np.stack([all_features[labels == label].mean(axis=0) for label in range(4)])
    centred = all_features - means[labels]
    # scikit-learn shrinks towards tr(S) / D times the unit matrix, the paper towards the unit matrix: the
    # same direction at another strength, and the whole matrix at another scale.
    spread = (centred**2).sum() / len(labels) / WIDTH
    theirs = shrinkage / (shrinkage + (1 - shrinkage) * spread)
    scale = (1 - theirs) / (1 - shrinkage)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=theirs).fit(all_features, labels)
    weights, bias = model.classifier()
    np.testing.assert_allclose(weights, reference.coef_ * scale, rtol=1e-6, atol=1e-8)
    # Ours has equal priors, theirs those of the data.
    without_priors = reference.intercept_ - np.log(reference.priors_)
    np.testing.assert_allclose(bias, without_priors * scale, rtol=1e-6)


def test_slda_learns_what_class_means_cannot_where_one_direction_is_noise() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    latents = 0.1 * rng.normal(size=(400, 1, WIDTH))
    latents[:, 0, 0] += np.where(labels == 0, -0.3, 0.3)
    latents[:, 0, 1] += 5 * rng.normal(size=400)

    class Plain(NormHead):
        def forward(self, latents_BTD: torch.Tensor) -> torch.Tensor:
            return latents_BTD[:, 0]

    latents_ND = Latents(torch.from_numpy(latents).float())
    scores = {
        model: model(Plain()).learn(latents_ND, labels, 0).accuracy for model in (SLDA, NearestClassMean)
    }
    assert scores[SLDA] > 0.98 and scores[NearestClassMean] < 0.9


def projected(model: RanPAC, latents: Latents) -> np.ndarray:
    return np.maximum(features(latents) @ model.state()[0]["projection"].double().numpy(), 0)


def test_streamed_ranpac_is_ridge_regression_to_one_hot_targets_on_all_data() -> None:
    model = METHODS["ranpac_given_ridge"](0)
    latents, labels = streamed(model, [5, 9, 14, 30])
    reference = Ridge(alpha=10.0, fit_intercept=False).fit(projected(model, latents), np.eye(4)[labels])
    means = np.stack([projected(model, latents)[labels == label].mean(axis=0) for label in range(4)])
    of_means = reference.predict(means)
    gaps = np.diag(of_means) - (of_means - np.diag(np.full(4, np.inf))).max(axis=1)
    probe = blobs([0, 1, 2, 3], 5, 77)[0]
    expected = 4.5 / gaps.mean() * reference.predict(projected(model, probe))
    np.testing.assert_allclose(model.logits(probe), expected, atol=1e-3)


@pytest.mark.parametrize("method", ["class_mean", "ranpac"])
def test_probabilities_of_separable_classes_are_sure_and_not_certain(method: str) -> None:
    model = METHODS[method](0)
    model.learn(*blobs(list(range(10)), 20, 0), 0)
    largest = model.logits(blobs(list(range(10)), 10, 5)[0]).double().softmax(dim=1).amax(dim=1)
    assert 0.8 < float(largest.mean()) < 0.999


def test_ranpacs_ridge_is_the_one_of_least_held_out_error_among_all_seventeen() -> None:
    model = RanPAC(NormHead(), 64, None, rng_of(4))
    latents, labels = blobs([0, 1, 2, 3], 40, 0)
    tokens = latents.tokens_NTD
    latents = Latents(tokens + 1.5 * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1)))
    model.learn(latents, labels, 0)
    # The same draws, in the order in which the learner makes them.
    rng = rng_of(4)
    rng.standard_normal((WIDTH, 64), dtype=np.float32)
    held = rng.random(len(labels)) < HELD_OUT
    inputs, targets = projected(model, latents), np.eye(4)[labels]
    errors = []
    for ridge in RIDGES:
        fitted = Ridge(alpha=ridge, fit_intercept=False, solver="svd").fit(inputs[~held], targets[~held])
        errors.append(((fitted.predict(inputs[held]) - targets[held]) ** 2).sum())
    assert model.ridge == RIDGES[int(np.argmin(errors))]
    assert RIDGES[0] < model.ridge < RIDGES[-1]


def test_ranpac_with_a_chosen_ridge_uses_the_held_out_patterns_too_in_the_end() -> None:
    chosen = METHODS["ranpac"](0)
    streamed(chosen, [20, 20, 20])
    given_ridge = RanPAC(NormHead(), 64, chosen.ridge, rng_of(0))
    streamed(given_ridge, [20, 20, 20])
    probe = blobs([0, 1, 2], 5, 77)[0]
    torch.testing.assert_close(chosen.logits(probe), given_ridge.logits(probe), rtol=1e-4, atol=1e-4)


def test_ranpac_of_patterns_without_any_response_gives_finite_logits() -> None:
    model = METHODS["ranpac"](0)
    model.learn(Latents(torch.zeros(4, 1, WIDTH)), np.array([0, 1, 0, 1]), 0)
    assert torch.isfinite(model.logits(Latents(torch.zeros(2, 1, WIDTH)))).all()


# -- DER++ ----------------------------------------------------------------------------------------------


def test_dark_loss_without_replay_is_cross_entropy() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1])
    expected = functional.cross_entropy(logits, labels)
    assert torch.equal(dark_loss(logits, labels, torch.zeros(0, 3), 0.5, 0.5), expected)


def test_dark_loss_matches_a_case_worked_out_by_hand() -> None:
    # One new latent, two replayed. All logits 0: every cross-entropy over three classes is log 3.
    stored = torch.tensor([[1.0, -2.0, 3.0], [0.0, 2.0, 0.0]])
    loss = dark_loss(torch.zeros(3, 3), torch.tensor([0, 1, 2]), stored, alpha=0.5, beta=2.0)
    assert loss.item() == pytest.approx(np.log(3) + 0.5 * (1 + 4 + 9 + 4) / 6 + 2.0 * np.log(3))


def test_dark_loss_leaves_out_classes_unknown_then_or_now_and_its_gradient_is_finite() -> None:
    unseen = float("-inf")
    # Class 1 is unknown now, class 2 was unknown to the first pair, class 3 came after both were stored.
    free = torch.zeros(3, 4, requires_grad=True)
    logits = free.masked_fill(torch.tensor([False, True, False, False]), unseen)
    stored = torch.tensor([[2.0, 5.0, unseen], [1.0, 7.0, 3.0]])
    loss = dark_loss(logits, torch.tensor([0, 2, 3]), stored, alpha=1.0, beta=0.0)
    assert loss.item() == pytest.approx(np.log(3) + (4 + 1 + 9) / 3)
    loss.backward()
    assert torch.isfinite(free.grad).all()
    assert free.grad[1].tolist() == pytest.approx([-4 / 3, 0.0, 0.0, 0.0])
    assert free.grad[2].tolist() == pytest.approx([-2 / 3, 0.0, -2.0, 0.0])


# -- Learning without Forgetting --------------------------------------------------------------------------


def test_distillation_is_smallest_where_the_student_answers_as_the_teacher() -> None:
    teacher = torch.tensor([[2.0, 0.0, -1.0]])
    entropy = distillation(teacher, teacher, 2.0)
    share = torch.softmax(teacher / 2, dim=1)
    assert entropy.item() == pytest.approx(-(share * share.log()).sum().item(), rel=1e-6)
    for other in (torch.zeros(1, 3), teacher.flip(1), 2 * teacher):
        assert distillation(other, teacher, 2.0) > entropy


def test_lwf_moves_the_answers_on_known_classes_less_than_plain_fine_tuning() -> None:
    drift = {}
    for method in ("naive", "lwf"):
        config = LearnerConfig(
            method=method, first_lr=0.05, lr=0.05, train_precision="float32", lwf_lambda=3.0
        )
        model = new_learner(NormHead(), config, MemoryConfig(capacity=0), rng_of(0))
        model.learn(*blobs([0, 1, 2], 20, 0), 0)
        latents, labels = blobs([3], 20, 1)
        before = model.logits(latents)[:, :3].softmax(dim=1)
        model.learn(latents, labels, 1)
        drift[method] = float((model.logits(latents)[:, :3].softmax(dim=1) - before).abs().mean())
    assert drift["lwf"] < 0.85 * drift["naive"]
