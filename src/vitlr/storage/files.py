"""Files and directories that are either the old or the new ones, with one writer at a time.

Two processes may be at the same place at once. What is theirs for long (a run, a saved classifier) they hold by
``locked``, and the second one is refused; what both need and one has to make (rendered objects) is made by one
while the other waits (``making``); what each writes whole (a file, an exported model) is there as the last one
wrote it. A lock is the system's, so that a dead owner's is free.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from vitlr.errors import RunError

__all__ = [
    "clear_directory",
    "holding",
    "locked",
    "making",
    "new_directory",
    "sync_directory",
    "sync_tree",
    "write_all",
    "write_atomically",
]

_HELD: dict[Path, threading.RLock] = {}  # directories that this process holds for long
_CHUNK = 2**22  # bytes handed to one write
_PAUSE = 0.02  # seconds between two looks at a lock that another process has
_MANY = 1000  # files, from which on all of the system's writes are flushed at once


@contextmanager
def locked(directory: str | Path, *, wait: float = 0.0) -> Iterator[None]:
    """Be the only one in a directory; it is made where it is missing. The system frees a dead owner's lock.

    Args:
        wait: seconds to wait for someone else who is in it.

    Raises:
        RunError: someone else is in it, or it cannot be written.
    """
    directory = Path(directory)
    held = _HELD.get(directory.resolve())
    if held is not None:  # by this process, for longer
        with held:
            yield
        return
    descriptor = _open_lock(directory, directory / ".lock")
    try:
        end = time.monotonic() + wait
        while not _try_lock(descriptor, directory):
            if time.monotonic() >= end:
                raise _in_use(directory)
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def holding(directory: str | Path, *, wait: float = 0.0) -> Iterator[None]:
    """``locked`` over everything from reading to writing, so that nobody's change in between is lost.

    Within it this process may ask for ``locked`` again, in any thread, one at a time. Errors as there.
    """
    with locked(directory, wait=wait):
        place = Path(directory).resolve()
        _HELD[place] = threading.RLock()
        try:
            yield
        finally:
            del _HELD[place]


@contextmanager
def making(path: str | Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Be the only one who makes ``path``, after waiting for others who do: look again then whether it is there.

    The lock is a file beside the path, which is removed again. Who waits does not give up: the other one
    ends, and where it is killed its lock is free.

    Args:
        waiting: called at least once a second while another process is at it.

    Raises:
        RunError: nothing can be written beside the path.
    """
    path = Path(path).absolute()
    lock = path.with_name(f".{path.name}.lock")
    while True:
        descriptor = _open_lock(path.parent, lock)
        try:
            told = 0.0
            while not _try_lock(descriptor, path):
                if waiting is not None and time.monotonic() - told > 1:
                    told = time.monotonic()
                    waiting()
                time.sleep(_PAUSE)
            if not _is_at(descriptor, lock):
                continue  # the one before removed it, so that others do not know of it
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no file that others wait for
                    lock.unlink()
            return
        finally:
            os.close(descriptor)


def _open_lock(directory: Path, lock: Path) -> int:
    try:
        _make(directory)
        return os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{directory} cannot be written: {reason}; choose another directory") from error


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file or directory is what has that name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _make(directory: Path) -> None:
    """The directory and those above it, each of them there after a power cut too."""
    missing = [path for path in (directory.absolute(), *directory.absolute().parents) if not path.is_dir()]
    if missing:
        directory.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_directory(path.parent)


def _try_lock(descriptor: int, place: Path) -> bool:
    """Take the lock of an open file or directory; False where someone else has it.

    Raises:
        RunError: the file system has no locks.
    """
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise RunError(f"{place} cannot be locked: {error.strerror}; choose another directory") from error
    return True


def _in_use(directory: Path) -> RunError:
    return RunError(
        f"{directory} is in use by another process: wait until it is done or choose another directory"
    )


def write_atomically(path: str | Path, parts: Iterable[bytes | memoryview]) -> None:
    """Replace a file by the joined parts, flushed to the disk. Of two processes that do, the last one's stays.

    Temporary files that a killed process left for this path are removed.

    Raises:
        RunError: the disk refuses (full, read-only); the file is as it was or, where only the last flush of
            the directory failed, whole and new.
    """
    path = Path(path)
    _remove_abandoned_files(path)
    try:
        descriptor, temporary = _new_file(path)
        try:
            try:
                _write_and_flush(descriptor, parts)
                if os.name != "nt":
                    os.replace(temporary, path)  # while it is locked
            finally:
                os.close(descriptor)
            if os.name == "nt":  # where a file that is open cannot be renamed, or removed by another process
                os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise _refused(path, error) from error


def _new_file(path: Path) -> tuple[int, Path]:
    """An open file beside the path, locked so that no other process takes it for one that was left behind."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
        )
        if os.name == "nt":
            return descriptor, temporary
        with suppress(RunError):  # a file system without locks
            if not (_try_lock(descriptor, temporary) and _is_at(descriptor, temporary)):
                os.close(descriptor)  # taken for left behind before it was locked
                continue
        return descriptor, temporary


def _write_and_flush(descriptor: int, parts: Iterable[bytes | memoryview]) -> None:
    for part in parts:
        write_all(descriptor, part)
    os.fsync(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it, in one system call unless it is long or the disk takes only a part at once; OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest[:_CHUNK]) :]


def _remove_abandoned_files(path: Path) -> None:
    """Remove unfinished files for this place that no living process writes."""
    for stale in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        with suppress(OSError, RunError):
            if os.name == "nt":  # a file that is open is not removed there
                stale.unlink()
                continue
            descriptor = os.open(stale, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if _try_lock(descriptor, stale):
                    stale.unlink()
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
def new_directory(directory: str | Path, *, replace: bool = True) -> Iterator[Path]:
    """An empty directory to fill; when the block ends without error it takes the place of ``directory``.

    One that was there is gone afterwards. Where the system can exchange two names (Linux, macOS) there is no
    moment without a whole directory in that place, whatever happens; elsewhere there is a short one, between
    two renames, after which a crash leaves the old one beside its place. What a killed process left behind is
    removed by the next one that writes there.

    Args:
        replace: without it, only an empty directory is replaced.

    Raises:
        RunError: the disk refuses, or the place is taken; the old directory is as it was.
    """
    directory = Path(directory).absolute()
    try:
        _make(directory.parent)
        _remove_abandoned(directory)
        descriptor, temporary = _new_folder(directory)
    except OSError as error:
        raise _refused(directory, error) from error
    try:
        yield temporary
        sync_tree(temporary)
        _put(temporary, directory, replace)
        sync_directory(directory.parent)
    except OSError as error:
        raise _refused(directory, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # what was not finished, or the old one
        if descriptor is not None:
            os.close(descriptor)


def _refused(path: Path, error: OSError) -> RunError:
    reason = error.strerror or error
    return RunError(f"{path} cannot be written: {reason}; free space or choose another directory")


def _new_folder(directory: Path) -> tuple[int | None, Path]:
    """An empty directory beside that one, locked so that no other process takes it for one that was left behind."""
    while True:
        temporary = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.tmp")
        temporary.mkdir()
        if os.name == "nt":
            return None, temporary  # a directory cannot be locked there
        with suppress(FileNotFoundError):
            descriptor = _open_folder(temporary)
            with suppress(RunError):  # a file system without locks
                if not (_try_lock(descriptor, temporary) and _is_at(descriptor, temporary)):
                    os.close(descriptor)  # taken for left behind before it was locked
                    continue
            return descriptor, temporary


def _open_folder(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)


def _remove_abandoned(directory: Path) -> None:
    """Remove unfinished directories for this place that no living process fills."""
    if os.name == "nt":
        return  # a directory cannot be locked there, so that none is known to be abandoned
    for path in directory.parent.glob(f".{escape(directory.name)}.{'[0-9a-f]' * 8}.tmp"):
        with suppress(OSError, RunError):
            descriptor = _open_folder(path)
            try:
                if _try_lock(descriptor, path):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


def clear_directory(directory: Path, *, last: str) -> None:
    """Remove everything in a directory that the caller holds (``locked``) but its lock.

    Args:
        last: what shows whose directory it is; it goes last, so that a process that was killed can be followed
            by another one.

    Raises:
        RunError: something cannot be removed.
    """
    try:
        for path in sorted(directory.iterdir(), key=lambda path: path.name == last):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()
    except OSError as error:
        raise RunError(
            f"{directory} cannot be overwritten: {error.strerror}; choose another directory"
        ) from error


def sync_tree(directory: Path) -> None:
    """Bring a written directory to the disk: all that the system has to write at once where it can and there are
    many files, as one flush a file takes hours on a disk that turns and 164,866 frames."""
    files = [Path(folder) / name for folder, _, names in os.walk(directory) for name in names]
    if hasattr(os, "sync") and len(files) > _MANY:
        os.sync()
        return
    for path in files:
        # Windows flushes only what is open for writing.
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for folder, _, _ in os.walk(directory):
        sync_directory(Path(folder))


def _put(new: Path, directory: Path, replace: bool) -> None:
    while True:
        try:
            if not directory.exists() or not replace:
                os.replace(new, directory)
                return
        except OSError as error:
            taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            if not (replace and taken and directory.is_dir()):
                raise
            continue  # another process put one there meanwhile
        if _exchange(new, directory):
            return
        break
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
