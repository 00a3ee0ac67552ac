"""The cache directory is where the environment says, for everything that is kept in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import vitlr.rendered.stream as rendered
from vitlr.data import load_stream
from vitlr.errors import RunError
from vitlr.latents.network import latents_root
from vitlr.storage.cache_root import cache_root


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VITLR_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_own_variable_wins_over_the_shared_one_and_that_over_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cache_root() == tmp_path / "home" / ".cache" / "vitlr"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert cache_root() == tmp_path / "shared" / "vitlr"
    monkeypatch.setenv("VITLR_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


@pytest.mark.parametrize("shared", ["somewhere", "~/somewhere"])
def test_a_relative_shared_directory_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", shared)
    assert cache_root() == tmp_path / "home" / ".cache" / "vitlr"


@pytest.mark.parametrize(
    ("variable", "value", "below"),
    [
        ("VITLR_CACHE", "~/kept", "home/kept"),
        ("VITLR_CACHE", "kept", "kept"),
        ("XDG_CACHE_HOME", "somewhere", "home/.cache/vitlr"),
    ],
)
def test_latents_and_rendered_objects_lie_below_one_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, below: str
) -> None:
    made: list[Path] = []

    def make(root: Path, frames: int, **options: object) -> None:
        made.append(root)
        raise RunError("not rendered here")

    monkeypatch.setattr(rendered, "ensure_rendered", make)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    with pytest.raises(RunError, match="not rendered here"):
        load_stream(SimpleNamespace(dataset="rendered", root=None, frames=4, seed=1))
    assert made == [tmp_path / below / "rendered-4-frames-seed-1"]
    assert latents_root("auto") == tmp_path / below / "latents"


def test_without_a_home_directory_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(RunError, match=r"there is no place for a cache .*: set VITLR_CACHE to a directory"):
        cache_root()
