"""Directories that one process holds while others are refused or wait."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from vitlr.errors import RunError
from vitlr.storage.files import new_directory
from vitlr.storage.locks import locked, making

fcntl = pytest.importorskip("fcntl")

Elsewhere = Callable[[Path], AbstractContextManager[None]]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def can_lock(directory: Path, wait: float = 0.0) -> bool:
    """Whether another thread of this process can lock it now."""
    found: list[bool] = []

    def look() -> None:
        try:
            with locked(directory, wait=wait):
                found.append(True)
        except RunError as error:
            assert "in use by another process" in str(error)
            found.append(False)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(30)
    return found[0]


@contextmanager
def held_by_a_thread(directory: Path) -> Iterator[threading.Event]:
    """Another thread holds it until the event, at the latest until the end of the block."""
    entered, release = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(directory):
            entered.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(30)
    try:
        yield release
    finally:
        release.set()
        thread.join(30)


def test_a_second_process_is_refused_until_the_first_is_done(
    tmp_path: Path, held_elsewhere: Elsewhere
) -> None:
    for across_threads in (False, True):
        with (
            held_elsewhere(tmp_path),
            pytest.raises(RunError, match="in use by another process: wait until it is done or choose"),
            locked(tmp_path, across_threads=across_threads),
        ):
            pass
        with locked(tmp_path, wait=30, across_threads=across_threads):
            pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = (
        "import time\nfrom vitlr.storage.locks import locked\n"
        f"with locked({str(tmp_path)!r}):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"held\n"
    assert not can_lock(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert can_lock(tmp_path)


def test_a_thread_may_nest_and_holds_on_until_its_outermost_block_ends(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with locked(tmp_path):
        with locked(tmp_path), locked(tmp_path / "link"), locked(tmp_path, across_threads=True):
            pass
        assert not can_lock(tmp_path)
    assert can_lock(tmp_path)


def test_holds_of_a_whole_process_nest_and_its_threads_lock_one_at_a_time(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom vitlr.errors import RunError\nfrom vitlr.storage.locks import locked\n"
        f"try:\n    with locked({str(tmp_path)!r}):\n        pass\nexcept RunError:\n    sys.exit(7)\n"
    )

    def elsewhere() -> int:
        return subprocess.run([sys.executable, "-c", script], check=False).returncode

    with locked(tmp_path, across_threads=True):
        with locked(tmp_path, across_threads=True):
            assert can_lock(tmp_path)
        with locked(tmp_path):
            assert not can_lock(tmp_path)
        assert can_lock(tmp_path) and elsewhere() == 7
    assert elsewhere() == 0


def test_who_waits_for_a_directory_gets_it_or_is_refused_in_time(tmp_path: Path) -> None:
    with held_by_a_thread(tmp_path) as release:
        with (
            pytest.raises(RunError, match="in use by another process"),
            locked(tmp_path, wait=0.05),
        ):
            pass
        threading.Timer(0.1, release.set).start()
        with locked(tmp_path, wait=30):
            pass


def test_a_lock_that_is_a_link_is_refused_and_its_target_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    for target in ("precious", "nowhere"):
        directory = tmp_path / f"beside {target}"
        directory.mkdir()
        (directory / ".lock").symlink_to(tmp_path / target)
        (directory / ".tree.lock").symlink_to(tmp_path / target)
        for attempt in (locked(directory), making(directory / "tree")):
            with pytest.raises(RunError, match=r"lock is a symbolic link, which is not followed: remove it"):
                attempt.__enter__()
    assert (tmp_path / "precious").read_text() == "mine" and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for attempt in (locked(tmp_path), making(tmp_path / "tree")):
        with pytest.raises(
            RunError, match=f"cannot be locked: {os.strerror(code)}; choose another directory"
        ):
            attempt.__enter__()
    with new_directory(tmp_path / "tree") as new:  # which only needs them to find what killed processes left
        (new / "file").write_text("")
    assert names(tmp_path) <= {"tree", ".lock", ".tree.lock"}


def test_one_makes_what_several_need_and_the_others_wait_for_it(tmp_path: Path) -> None:
    path, made, waited = tmp_path / "tree", [], []
    begin = threading.Barrier(4)

    def need(number: int) -> None:
        begin.wait()
        with making(path, lambda: waited.append(number)):
            if not path.exists():
                made.append(number)
                threading.Event().wait(0.2)
                path.mkdir()

    threads = [threading.Thread(target=need, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(made) == 1 and names(tmp_path) == {"tree"}
    assert set(waited) == set(range(4)) - set(made)


def test_what_a_killed_process_was_making_is_made_by_the_next(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom vitlr.storage.files import new_directory\nfrom vitlr.storage.locks import making\n"
        f"with making({str(tmp_path / 'tree')!r}), new_directory({str(tmp_path / 'tree')!r}):\n"
        "    print('at it', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"at it\n"
    assert len(names(tmp_path)) == 2  # its lock and its unfinished directory
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with making(tmp_path / "tree"), new_directory(tmp_path / "tree"):
        pass
    assert names(tmp_path) == {"tree"}
