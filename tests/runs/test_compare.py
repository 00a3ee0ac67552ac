"""Recipes of comparisons: what is read from one, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitlr.errors import ConfigError
from vitlr.runs.compare import read_plan


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_variants_settings_go_over_those_of_the_base(tmp_path: Path) -> None:
    text = (
        "base: {memory: {capacity: 20, codec: int8}}\n"
        "variants: {plain: , small: {memory: {capacity: 5}}}\n"
        "runs: [1, 2]\n"
    )
    plan = read_plan(recipe(tmp_path, text))
    small = list(plan.configs("small", tmp_path / "out"))
    assert [config.data.run for config in small] == [1, 2]
    assert {(config.memory.capacity, config.memory.codec) for config in small} == {(5, "int8")}
    assert next(iter(plan.configs("plain", tmp_path / "out"))).memory.capacity == 20


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("variants: {a: {}}\nbase: fast\n", "'base' must hold settings, got 'fast'"),
        ("variants: {a: [1]}\n", r"'a' must hold settings, got \[1\]"),
        ("variants: {a: 2020-01-01}\n", "'a' must hold settings"),
        ("variants: [a]\n", "must hold 'variants'"),
        ("variants: {a: {}}\nrun: [1]\n", "unknown keys run"),
        ("variants: {a: {}}\nruns: 3\n", "runs must be a list of whole numbers"),
        ("variants: {a: {}", "not valid YAML"),
    ],
)
def test_a_recipe_that_says_something_else_is_refused_by_name(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_plan(recipe(tmp_path, text))
