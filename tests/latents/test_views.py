"""Random views: the same for the same seed and image, spread over an experience within its budget."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitlr.latents.views import View, ViewPlan, random_view


@given(images=st.integers(0, 400), views=st.integers(0, 10), budget=st.integers(0, 100))
def test_a_plan_stays_within_its_budget_and_gives_each_image_at_most_its_views(
    images: int, views: int, budget: int
) -> None:
    chosen = ViewPlan(views=views, budget=budget).chosen(images)
    assert len(chosen) <= budget and len(set(chosen)) == len(chosen)
    assert all(0 <= place < images and 0 <= number < views for place, number in chosen)
    if images and views and budget:
        assert chosen


def test_few_images_get_many_views_and_of_many_some_apart_get_one() -> None:
    assert len(ViewPlan(views=8, budget=64).chosen(1)) == 8
    assert len(ViewPlan(views=8, budget=64).chosen(6)) == 48
    places = [place for place, _ in ViewPlan(views=8, budget=64).chosen(300)]
    assert len(places) == 64 and places[0] == 0 and places[-1] == 299 and min(np.diff(places)) >= 4


def test_a_view_depends_on_seed_number_and_image_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    same = [View("a.png", 1, 2, place).of(image, 32, 3) for place in (0, 5)]
    assert np.array_equal(same[0], same[1])
    others = [View("a.png", 2, 2, 0), View("a.png", 1, 3, 0), View("b.png", 1, 2, 0), View(image, 1, 2, 0)]
    assert not any(np.array_equal(other.of(image, 32, 3), same[0]) for other in others)


@given(height=st.integers(1, 50), width=st.integers(1, 50), seed=st.integers(0, 50))
def test_any_image_gives_a_view_of_the_size_asked_for(height: int, width: int, seed: int) -> None:
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    view = random_view(image, np.random.default_rng(seed), 16, 3)
    assert view.shape == (16, 16, 3) and view.dtype == np.uint8
