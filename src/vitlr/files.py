"""Files and directories that are either the old or the new ones, and directories with one writer at a time."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitlr.errors import RunError

__all__ = ["locked", "new_directory", "sync_directory", "write_atomically"]

_CHUNK = 2**22  # bytes handed to one write


@contextmanager
def locked(directory: str | Path) -> Iterator[None]:
    """Be the only one in a directory; it is made where it is missing. The system frees a dead owner's lock.

    Raises:
        RunError: someone else is in it, or it cannot be written.
    """
    directory = Path(directory)
    try:
        _make(directory)
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{directory} cannot be written: {reason}; choose another directory") from error
    try:
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _make(directory: Path) -> None:
    """The directory and those above it, each of them there after a power cut too."""
    missing = [path for path in (directory.absolute(), *directory.absolute().parents) if not path.is_dir()]
    if missing:
        directory.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_directory(path.parent)


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
        sync_directory(path.parent)
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


def sync_directory(directory: Path) -> None:
    """Make a rename last through a power cut. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- directories ----------------------------------------------------------------------------------------


@contextmanager
def new_directory(directory: str | Path) -> Iterator[Path]:
    """An empty directory to fill; when the block ends without error it takes the place of ``directory``.

    One that was there is gone afterwards. Where the system can exchange two names (Linux, macOS) there is no
    moment without a whole directory in that place, whatever happens; elsewhere there is a short one, between
    two renames, after which a crash leaves the old one beside its place. What a killed process left behind is
    removed by the next one that writes there.

    Raises:
        RunError: the disk refuses; the old directory is as it was.
    """
    directory = Path(directory).absolute()
    try:
        _make(directory.parent)
        _remove_abandoned(directory)
        temporary = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.tmp")
        temporary.mkdir()
    except OSError as error:
        raise _refused(directory, error) from error
    try:
        with _held(temporary):
            yield temporary
            _sync_tree(temporary)
            _put(temporary, directory)
            sync_directory(directory.parent)
    except OSError as error:
        raise _refused(directory, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # what was not finished, or the old one


def _refused(path: Path, error: OSError) -> RunError:
    reason = error.strerror or error
    return RunError(f"{path} cannot be written: {reason}; free space or choose another directory")


def _remove_abandoned(directory: Path) -> None:
    """Remove unfinished directories for this place that no living process holds."""
    if os.name == "nt":
        return  # a directory cannot be held there, so that none is known to be abandoned
    for path in directory.parent.glob(f".{directory.name}.{'[0-9a-f]' * 8}.tmp"):
        with suppress(OSError, RunError), _held(path):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Be known as the owner of an unfinished directory for as long as the process lives."""
    if os.name == "nt":
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _sync_tree(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            # Windows flushes only what is open for writing.
            descriptor = os.open(Path(folder) / name, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(folder))


def _put(new: Path, directory: Path) -> None:
    if not directory.exists():
        os.replace(new, directory)
        return
    if _exchange(new, directory):
        return
    aside = directory.with_name(new.name.replace(".tmp", ".old"))
    os.replace(directory, aside)
    try:
        os.replace(new, directory)
    except OSError:
        os.replace(aside, directory)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    call = {"linux": "renameat2", "darwin": "renameatx_np"}.get(sys.platform)
    function = getattr(ctypes.CDLL(None, use_errno=True), call, None) if call else None
    if function is None:
        return False
    here = {"linux": -100, "darwin": -2}[sys.platform]  # AT_FDCWD
    swap = ctypes.c_uint(2)  # RENAME_EXCHANGE, RENAME_SWAP
    if function(here, os.fsencode(one), here, os.fsencode(other), swap) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV):
        return False
    raise OSError(code, os.strerror(code), str(other))
