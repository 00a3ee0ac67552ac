"""Files and directories that several processes make at once, or were killed while they made them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitlr.errors import RunError
from vitlr.storage import files
from vitlr.storage.files import clear_directory, new_directory, temporary_directory, write_atomically
from vitlr.storage.locks import locked

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows keeps others from open files by itself")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def put(path: Path, content: str, *, replace: bool = True) -> None:
    with new_directory(path, replace=replace) as new:
        (new / "file").write_text(content)


def test_two_that_write_one_file_at_once_both_succeed_and_the_last_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "model [1].onnx"

    def parts() -> Iterator[bytes]:
        yield b"one "
        write_atomically(path, [b"the other, faster"])
        assert path.read_bytes() == b"the other, faster"
        yield b"whole"

    write_atomically(path, parts())
    assert path.read_bytes() == b"one whole" and names(tmp_path) == {path.name}


def test_a_file_that_nobody_writes_any_more_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".model [1].onnx.0123abcd.tmp"
    left.write_bytes(b"half")
    write_atomically(tmp_path / "model [1].onnx", [b"whole"])
    assert names(tmp_path) == {"model [1].onnx"}


def test_a_directory_that_another_process_put_there_meanwhile_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with new_directory(path) as new:
        (new / "file").write_text("slow")
        put(path, "fast")
        assert (path / "file").read_text() == "fast"
    assert (path / "file").read_text() == "slow" and names(tmp_path) == {"model"}


def test_a_directory_that_appears_just_before_the_rename_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "model", os.replace

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(files.os, "replace", real)
        path.mkdir()
        (path / "file").write_text("fast")
        real(source, target)

    monkeypatch.setattr(files.os, "replace", late)
    put(path, "slow")
    assert (path / "file").read_text() == "slow" and names(tmp_path) == {"model"}


def test_what_is_not_to_be_replaced_is_left_as_it_was(tmp_path: Path) -> None:
    put(tmp_path / "tree", "first", replace=False)
    with pytest.raises(RunError, match="tree cannot be written: Directory not empty"):
        put(tmp_path / "tree", "second", replace=False)
    assert (tmp_path / "tree" / "file").read_text() == "first" and names(tmp_path) == {"tree"}


def test_a_directory_is_flushed_with_all_it_holds_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flush(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def rename(source: Path, target: Path) -> None:
        done.append("renamed")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", flush)
    monkeypatch.setattr(files.os, "replace", rename)
    with new_directory(tmp_path / "tree") as new:
        (new / "deep").mkdir()
        (new / "deep" / "file").write_text("content")
    renamed = done.index("renamed")
    assert {"file", "deep", new.name} <= set(done[:renamed]) and done[renamed + 1 :] == [tmp_path.name]


def test_a_directory_is_cleared_of_all_but_its_lock_and_its_sign_goes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    monkeypatch.setattr(Path, "unlink", lambda path: removed.append(path.name) or os.unlink(path))
    with locked(tmp_path):
        for name in ("a", "config.yaml", "z"):
            (tmp_path / name).write_text("")
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "file").write_text("")
        clear_directory(tmp_path, last="config.yaml")
    assert removed[-1] == "config.yaml" and names(tmp_path) == {".lock"}


def test_files_locks_and_the_cache_root_are_imported_without_torch_and_filelock() -> None:
    script = (
        "import sys\nimport vitlr.storage.cache_root, vitlr.storage.files, vitlr.storage.locks\n"
        "sys.exit(len({'torch', 'filelock', 'numpy'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_temporary_directory_is_private_and_those_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / ".page.0123abcd.tmp" / "uploads").mkdir(parents=True)
    with temporary_directory("page") as one, temporary_directory("page") as other:
        assert one != other and one.stat().st_mode & 0o777 == 0o700
        (one / "file").write_text("x")
        assert sorted(tmp_path.iterdir()) == sorted((one, other))
    assert not list(tmp_path.iterdir())
