"""Random views: the same for the same seed and image, spread over an experience within its budget."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitlr.latents.views import View, ViewPlan, random_view


@given(labels=st.lists(st.integers(0, 3), max_size=300), views=st.integers(0, 10), budget=st.integers(0, 100))
def test_a_plan_keeps_each_class_within_its_budget_and_gives_each_image_at_most_its_views(
    labels: list[int], views: int, budget: int
) -> None:
    chosen = ViewPlan(views=views, budget=budget).chosen(np.array(labels))
    assert len(set(chosen)) == len(chosen) and chosen == sorted(chosen)
    assert all(0 <= row < len(labels) and 0 <= number < views for row, number in chosen)
    of_class = [sum(labels[row] == label for row, _ in chosen) for label in set(labels)]
    assert all(count <= budget and (count > 0) == (min(views, budget) > 0) for count in of_class)


def test_few_images_get_many_views_and_of_many_some_apart_get_one() -> None:
    plan = ViewPlan(views=8, budget=64)
    assert [len(plan.chosen(np.zeros(images))) for images in (1, 6)] == [8, 48]
    assert len(plan.chosen(np.arange(150) // 6)) == 150 * 8  # 25 classes of six
    places = [row for row, _ in plan.chosen(np.zeros(300))]
    assert len(places) == 64 and places[0] == 0 and places[-1] == 299 and min(np.diff(places)) >= 4


def test_a_view_depends_on_seed_number_and_image_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    same = [View("a.png", 1, 2, row).of(image, 32, 3) for row in (0, 5)]
    assert np.array_equal(same[0], same[1])
    assert np.array_equal(View(image, 1, 2, 0).of(image, 32, 3), same[0])  # whatever it is called
    others = [View("a.png", 2, 2, 0), View("a.png", 1, 3, 0)]
    assert not any(np.array_equal(other.of(image, 32, 3), same[0]) for other in others)
    brighter = np.minimum(image, 254) + 1
    assert not np.array_equal(View("a.png", 1, 2, 0).of(brighter, 32, 3).astype(int) - 1, same[0].astype(int))


@given(height=st.integers(1, 50), width=st.integers(1, 50), seed=st.integers(0, 50))
def test_any_image_gives_a_view_of_the_size_asked_for(height: int, width: int, seed: int) -> None:
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    view = random_view(image, np.random.default_rng(seed), 16, 3)
    assert view.shape == (16, 16, 3) and view.dtype == np.uint8
