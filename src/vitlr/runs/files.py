"""Files that are either the old or the new ones, and directories that one process at a time writes to."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitlr.errors import RunError

__all__ = ["locked", "write_atomically"]

_CHUNK = 2**22  # bytes handed to one write


@contextmanager
def locked(directory: str | Path) -> Iterator[None]:
    """Be the only one in a directory; it is made where it is missing. The system frees a dead owner's lock.

    Raises:
        RunError: someone else is in it, or it cannot be written.
    """
    directory = Path(directory)
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            _sync_directory(directory.parent)
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{directory} cannot be written: {reason}; choose another directory") from error
    try:
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise RunError(
                f"{directory} is in use by another process: wait until it is done or choose another directory"
            ) from None
        raise RunError(f"{directory} cannot be locked: {error.strerror}; choose another directory") from error


def write_atomically(path: str | Path, parts: Iterable[bytes | memoryview]) -> None:
    """Replace a file by the joined parts, flushed to the disk. The caller holds the directory (``locked``).

    Temporary files that a killed process left for this path are removed.

    Raises:
        RunError: the disk refuses (full, read-only); the file is as it was or, where only the last flush of
            the directory failed, whole and new.
    """
    path = Path(path)
    for stale in path.parent.glob(f".{path.name}.*.tmp"):
        with suppress(OSError):
            stale.unlink()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            _write_and_flush(temporary, parts)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_directory(path.parent)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}; free space or choose another directory"
        ) from error


def _write_and_flush(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(descriptor, rest[:_CHUNK]) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    """Make a rename last through a power cut. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
