"""What is written gets the permissions that the umask leaves, nothing more and nothing less."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vitlr.storage.files import new_directory, write_atomically
from vitlr.storage.locks import locked, making
from vitlr.storage.state import save_state

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")


@pytest.fixture(params=[0o002, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    try:
        yield request.param
    finally:
        os.umask(before)


def test_files_states_directories_and_locks_get_the_mode_that_the_umask_leaves(
    tmp_path: Path, umask: int
) -> None:
    root = tmp_path / "new" / "deep"
    with locked(root):
        write_atomically(root / "file", [b"content"])
        with making(root / "tree"), new_directory(root / "tree") as new:
            (new / "inside").write_text("")
            modes = {path: path.stat().st_mode & 0o777 for path in root.iterdir()}  # unfinished ones too
    save_state(root / "saved", {"a": torch.zeros(2)}, {}, kind="thing", version=1)
    write_atomically(root / "file", [b"other content"])
    modes |= {path: path.stat().st_mode & 0o777 for path in (tmp_path / "new", *tmp_path.rglob("new/**/*"))}
    made = {path.name for path in modes if path.exists()}
    assert made == {"new", "deep", ".lock", "file", "tree", "inside", "saved", "state.safetensors"}
    assert ".tree.lock" in {path.name for path in modes} and len(modes) > len(made) + 1
    for path, mode in modes.items():
        directory = path.is_dir() or path.suffix == ".tmp"
        assert mode == (0o777 if directory else 0o666) & ~umask, path
