"""Files of others: what is no file is not opened, and a limit of the system is not called a fault of a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from PIL import Image

from vitlr.cli import main
from vitlr.data.images import iter_batches, read_image
from vitlr.errors import DataError, RunError
from vitlr.storage.files import write_atomically
from vitlr.storage.locks import locked
from vitlr.storage.reading import NotRegularError, open_regular, read_regular
from vitlr.storage.state import save_state

resource = pytest.importorskip("resource")


@contextmanager
def no_file_more() -> Iterator[None]:
    """The system opens no further file for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = os.open(os.devnull, os.O_RDONLY)
    os.close(last)
    resource.setrlimit(resource.RLIMIT_NOFILE, (last, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_only_regular_files_are_read_and_only_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(tmp_path / "file", 4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to pipe").symlink_to("pipe")
    for path, kind in (
        ("pipe", "a pipe"),
        ("to pipe", "a pipe"),
        (".", "a folder"),
        ("/dev/zero", "a device"),
    ):
        with pytest.raises(NotRegularError) as caught:
            open_regular(tmp_path / path)
        assert caught.value.kind == kind


def test_too_many_open_files_are_no_fault_of_an_image_and_skip_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    sentence = r"too many files are open for this system's limit: raise it \(ulimit -n 1024\)"
    write_atomically(tmp_path / "b", [b""])  # imports what it needs
    with locked(tmp_path):
        pass
    next(iter_batches(["a.png"], tmp_path, size=8))
    iterator = iter_batches(["a.png"], tmp_path, size=8, on_bad="skip")
    with no_file_more():
        with pytest.raises(RunError, match=sentence):
            read_image(tmp_path / "a.png")
        with pytest.raises(RunError, match=sentence):
            next(iterator)
        with pytest.raises(RunError, match=sentence):
            write_atomically(tmp_path / "b", [b""])
        with pytest.raises(RunError, match=sentence), locked(tmp_path):
            pass
        code = main(["predict", str(tmp_path), str(tmp_path / "a.png")])
    assert code == 2 and "too many files are open" in capsys.readouterr().err


def test_what_an_ordinary_user_writes_is_his_own_and_what_he_may_not_write_is_refused(
    open_place: Path, without_privileges: Callable[[], AbstractContextManager[None]]
) -> None:
    closed = open_place / "closed"
    closed.mkdir(mode=0o755)
    (closed / "a.png").write_bytes(b"")
    (closed / "a.png").chmod(0)
    before = os.umask(0o027)
    try:
        with without_privileges():
            user = os.geteuid()
            with locked(open_place / "mine"):
                write_atomically(open_place / "mine" / "file", [b"x"])
            save_state(open_place / "mine" / "saved", {}, {}, kind="thing", version=1)
            if user == os.stat(closed).st_uid:
                closed.chmod(0o555)
            with (
                pytest.raises(RunError, match="cannot be written: Permission denied; choose another"),
                locked(closed),
            ):
                pass
            with pytest.raises(RunError, match="cannot be written: Permission denied"):
                write_atomically(closed / "file", [b"x"])
            with pytest.raises(DataError, match=r"a\.png cannot be read \(Permission denied\)"):
                read_image(closed / "a.png")
    finally:
        os.umask(before)
        closed.chmod(0o755)
    assert sorted(path.name for path in closed.iterdir()) == ["a.png"]
    made = [open_place / "mine", *sorted((open_place / "mine").rglob("*"))]
    assert {path.name for path in made} == {"mine", ".lock", "file", "saved", "state.safetensors"}
    for path in made:
        status = path.stat()
        assert status.st_uid == user and status.st_mode & 0o777 == (0o750 if path.is_dir() else 0o640), path
