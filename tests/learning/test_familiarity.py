"""Scores of familiarity against distances computed the long way, and cases worked out by hand; frames joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitlr.learning.familiarity import THRESHOLD, familiarity, shares
from vitlr.learning.sequence import together
from vitlr.learning.statistics import Statistics, discriminants, shrunk_covariance

WIDTH = 8
NONE = (torch.zeros(0, WIDTH, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))


def statistics_of(classes: int, each: int = 30) -> Statistics:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(classes), each)
    patterns = 3 * rng.normal(size=(classes, WIDTH))[labels] + rng.normal(size=(len(labels), WIDTH)) * (
        0.3 + np.arange(WIDTH)
    )
    return Statistics.empty(WIDTH).added(torch.from_numpy(patterns), torch.from_numpy(labels), *NONE)


@pytest.mark.parametrize("classes", [2, 5, 12])
def test_the_score_is_the_cosine_and_the_relative_distance_computed_the_long_way(classes: int) -> None:
    statistics = statistics_of(classes)
    probe = torch.from_numpy(np.random.default_rng(4).normal(size=(20, WIDTH)) * 4)
    means = statistics.means_CW.numpy()
    background, x = means.mean(axis=0), probe.numpy()
    within = shrunk_covariance(statistics).numpy()
    apart = means - background
    whole = within + apart.T @ apart / classes

    def distances(points: np.ndarray, centre: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        return np.einsum("nw,wv,nv->n", points - centre, np.linalg.inv(covariance), points - centre)

    nearest = np.min([distances(x, mean, within) for mean in means], axis=0)
    relative = distances(x, background, whole) - nearest
    relative /= distances(means, background, within).mean()
    white = np.linalg.inv(np.linalg.cholesky(shrunk_covariance(statistics, 0.8).numpy()))
    a, b = (x - background) @ white.T, apart @ white.T
    cosines = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    scores = familiarity(statistics, discriminants(statistics)[0]).scores(probe)
    np.testing.assert_allclose(scores.numpy(), cosines.max(axis=1) + 0.2 * relative, rtol=1e-4, atol=1e-4)


def test_of_one_class_what_is_as_near_as_its_own_images_is_familiar_and_what_is_far_is_not() -> None:
    statistics = statistics_of(1)
    level = float(statistics.scatter_WW.diagonal().sum()) / 30
    expected = level * (1 + 3.4 / 30**0.5)
    direction = torch.zeros(WIDTH, dtype=torch.float64)
    direction[2] = 1
    points = statistics.means_CW[0] + torch.stack(
        [d**0.5 * direction for d in (0.2 * level, expected, 9 * expected)]
    )
    scores = familiarity(statistics, discriminants(statistics)[0]).scores(points)
    assert scores[1].item() == pytest.approx(0, abs=1e-9)
    found = shares(scores, torch.zeros(0), classes=1)
    assert found[0] > 0.99 and found[1].item() == pytest.approx(0.5) and found[2] < THRESHOLD / 10


def test_one_image_alone_without_views_says_nothing_of_how_it_varies() -> None:
    statistics = statistics_of(1, each=1)
    scores = familiarity(statistics, discriminants(statistics)[0]).scores(torch.randn(3, WIDTH).double())
    assert shares(scores, torch.zeros(0), classes=1).tolist() == [0.5] * 3


def test_a_forgotten_class_plays_no_part() -> None:
    statistics = statistics_of(4).without_class(2)
    scores = familiarity(statistics, discriminants(statistics)[0])
    assert len(scores.directions_CW) == 3
    assert bool(torch.isfinite(scores.scores(torch.randn(3, WIDTH).double())).all())


def test_shares_are_those_of_the_held_out_images_once_there_are_many() -> None:
    held_out = torch.from_numpy(np.random.default_rng(0).normal(-3, 0.5, size=2000))
    kept = shares(held_out, held_out, classes=5) >= THRESHOLD
    assert 0.93 < float(kept.double().mean()) < 0.97
    assert (
        shares(torch.tensor([-5.5]), held_out, classes=5)
        < 1e-3
        < 0.9
        < shares(torch.tensor([-2.0]), held_out, 5)
    )


def test_without_held_out_images_shares_rise_with_the_score_and_stay_apart_far_below() -> None:
    found = shares(torch.linspace(-1.0, 1.0, 21), torch.zeros(0), classes=5)
    assert bool((found.diff() > 0)[:15].all()) and found[0] > 0


def test_frames_that_agree_are_surer_than_one_and_less_sure_than_if_they_were_independent() -> None:
    one = np.array([0.6, 0.3, 0.1])
    both = together(np.tile(one, (4, 1)))
    np.testing.assert_allclose(both, one**2 / (one**2).sum())
    np.testing.assert_allclose(together(one[None]), one)
    assert together(np.array([[1.0, 0, 0], [0, 0.6, 0.4], [0, 0.9, 0.1]])).argmax() == 1
