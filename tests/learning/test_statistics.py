"""Streamed statistics against all data at once, scikit-learn's OAS and LDA, and cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import OAS
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from vitlr.learning.statistics import (
    Statistics,
    discriminants,
    joined,
    oas_shrinkage,
    packed,
    scale_of_scores,
    unpacked,
)

WIDTH = 6
NONE = (torch.zeros(0, WIDTH, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))


def blobs(num: int, seed: int, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, num)
    centres = np.random.default_rng(9).normal(size=(classes, WIDTH))
    return torch.from_numpy(centres[labels] + rng.normal(size=(num, WIDTH)) * 0.5), torch.from_numpy(labels)


@given(cuts=st.lists(st.integers(1, 59), max_size=5), seed=st.integers(0, 100))
def test_order_and_borders_of_experiences_do_not_matter_to_rounding(cuts: list[int], seed: int) -> None:
    patterns, labels = blobs(60, 0)
    whole, streamed = Statistics.empty(WIDTH).added(patterns, labels, *NONE), Statistics.empty(WIDTH)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(60))
    for rows in np.split(order.numpy(), sorted(set(cuts))):
        index = torch.from_numpy(rows)
        streamed = streamed.added(patterns[index], labels[index], *NONE)
    torch.testing.assert_close(streamed.means_CW, whole.means_CW)
    torch.testing.assert_close(streamed.scatter_WW, whole.scatter_WW)
    assert torch.equal(streamed.counts_C, whole.counts_C)


@given(split=st.integers(1, 59))
def test_the_sums_of_two_robots_are_those_of_one_that_saw_all(split: int) -> None:
    patterns, labels = blobs(60, 1, classes=5)
    whole = Statistics.empty(WIDTH).added(patterns, labels, *NONE)
    parts = [
        Statistics.empty(WIDTH).added(patterns[rows], labels[rows], *NONE)
        for rows in (slice(0, split), slice(split, 60))
    ]
    merged = parts[0].merged(parts[1])
    torch.testing.assert_close(merged.means_CW, whole.means_CW)
    torch.testing.assert_close(merged.scatter_WW, whole.scatter_WW)
    assert torch.equal(merged.counts_C, whole.counts_C)


def test_views_are_patterns_like_images_and_make_them_count_as_more_independent_ones() -> None:
    images, labels = blobs(10, 0)
    views, view_labels = blobs(20, 1)
    both = Statistics.empty(WIDTH).added(images, labels, views, view_labels)
    as_images = Statistics.empty(WIDTH).added(
        torch.cat([images, views]), torch.cat([labels, view_labels]), *NONE
    )
    torch.testing.assert_close(both.scatter_WW, as_images.scatter_WW)

    def counting(of_each: torch.Tensor) -> float:
        """The root of a class's images, and of that a share if there are fewer than 48, as there are of 8 or fewer."""
        return float((of_each.double().sqrt() * (of_each.double().clamp(min=8) / 48)).sum())

    assert both.independent() == pytest.approx(counting(labels.bincount()) * (1 + 20 / 10))
    assert as_images.independent() == pytest.approx(counting(torch.cat([labels, view_labels]).bincount()))


def test_from_48_images_on_a_class_counts_whole_and_what_it_counted_as_stays_when_it_is_removed() -> None:
    patterns, labels = blobs(60, 2, classes=1)
    few = Statistics.empty(WIDTH).added(patterns[:12], labels[:12], *NONE)
    many = few.added(patterns[12:], labels[12:], *NONE)
    assert few.independent() == pytest.approx(12**0.5 / 4)
    assert many.independent() == pytest.approx(12**0.5 + 48**0.5)
    assert few.without_class(0).independent() == pytest.approx(12**0.5 / 4)


def test_shrinkage_is_scikit_learns_oas_for_patterns_that_are_independent() -> None:
    patterns = np.random.default_rng(0).normal(size=(40, 60)) * np.linspace(0.1, 3, 60) ** 2
    reference = OAS(assume_centered=True).fit(patterns)
    covariance = torch.from_numpy(patterns.T @ patterns / 40)
    # scikit-learn leaves out the paper's two small terms 2 / W.
    assert oas_shrinkage(covariance, 40) == pytest.approx(reference.shrinkage_, rel=0.02)


def test_shrinkage_falls_with_what_was_seen_and_is_whole_without_scatter() -> None:
    patterns, labels = blobs(200, 0)
    stretched = patterns * torch.linspace(0.1, 5, WIDTH, dtype=torch.float64)
    covariance = Statistics.empty(WIDTH).added(stretched, labels, *NONE).scatter_WW / 200
    strengths = [oas_shrinkage(covariance, n) for n in (1, 3, 10, 100, 1000)]
    assert strengths == sorted(strengths, reverse=True) and strengths[0] == 1.0 and strengths[-1] < 0.05
    assert oas_shrinkage(torch.zeros(WIDTH, WIDTH, dtype=torch.float64), 5) == 1.0


def test_discriminants_are_those_of_scikit_learns_lda_with_the_same_shrinkage() -> None:
    patterns, labels = blobs(90, 3)
    statistics = Statistics.empty(WIDTH).added(patterns, labels, *NONE)
    weights, bias = discriminants(statistics, 0.2)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2).fit(patterns, labels)
    np.testing.assert_allclose(weights, reference.coef_, rtol=1e-6)
    np.testing.assert_allclose(bias, reference.intercept_ - np.log(reference.priors_), rtol=1e-6)


def test_scores_of_classes_far_apart_are_no_surer_than_those_of_classes_nearby() -> None:
    patterns, labels = blobs(300, 3)
    for spread in (1e-3, 1e-2, 0.1):  # of the patterns around their class's mean
        means = torch.stack([patterns[labels == label].mean(dim=0) for label in range(3)])
        tight = means[labels] + spread * (patterns - means[labels])
        statistics = Statistics.empty(WIDTH).added(tight, labels, *NONE)
        weights, bias = discriminants(statistics, 0.01)
        scores = scale_of_scores(weights, statistics) * (statistics.means_CW @ weights.T + bias)
        # A class's own mean is half the squared distance ahead of its nearest class.
        second = scores.fill_diagonal_(float("-inf")).amax(dim=1)
        own = scale_of_scores(weights, statistics) * 0.5 * (weights * statistics.means_CW).sum(dim=1)
        assert float((own - second).mean()) == pytest.approx(9 / 2, rel=1e-6)


def test_one_image_of_each_class_without_views_is_nearest_mean() -> None:
    patterns = torch.eye(3, WIDTH, dtype=torch.float64)
    weights, bias = discriminants(Statistics.empty(WIDTH).added(patterns, torch.arange(3), *NONE))
    torch.testing.assert_close(weights, patterns)
    torch.testing.assert_close(bias, torch.full((3,), -0.5, dtype=torch.float64))


def test_a_removed_class_leaves_no_mean_or_count_and_the_covariance_of_the_others_as_it_was() -> None:
    patterns, labels = blobs(60, 0)
    before = Statistics.empty(WIDTH).added(patterns, labels, *NONE)
    after = before.without_class(1)
    assert after.counts_C[1] == 0 and not bool(after.means_CW[1].any())
    weights, bias = discriminants(after)
    reference, reference_bias = discriminants(before)
    for label in (0, 2):
        torch.testing.assert_close(weights[label], reference[label])
        torch.testing.assert_close(bias[label], reference_bias[label])


def test_tokens_are_normalised_block_by_block_so_that_their_scale_does_not_matter() -> None:
    tokens = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0))
    scaled = tokens * torch.tensor([1.0, 10.0, 0.1])[:, None]
    assert joined(tokens).shape == (4, 24)
    torch.testing.assert_close(joined(scaled), joined(tokens), rtol=1e-3, atol=1e-3)


def test_a_symmetric_matrix_takes_half_and_comes_back_bit_by_bit() -> None:
    matrix = torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = matrix + matrix.T
    assert packed(matrix).shape == (28,) and torch.equal(unpacked(packed(matrix), 7), matrix)
