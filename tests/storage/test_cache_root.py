"""The cache directory is where the environment says."""

from pathlib import Path

from vitlr.storage.cache_root import cache_root


def test_own_variable_wins_over_the_shared_one_and_that_over_home(monkeypatch, tmp_path):
    monkeypatch.delenv("VITLR_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "vitlr"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert cache_root() == tmp_path / "shared" / "vitlr"
    monkeypatch.setenv("VITLR_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


def test_a_relative_shared_directory_is_passed_over(monkeypatch, tmp_path):
    monkeypatch.delenv("VITLR_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert cache_root() == Path(tmp_path) / ".cache" / "vitlr"
