"""Files and directories that are either the old or the new ones, whatever happens while they are written.

What two processes write at once at one place is there as the last one wrote it. An unfinished file or directory is
locked by the process that writes it: those of killed processes are known by their free locks and removed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from vitlr.errors import RunError
from vitlr.storage.reading import TOO_MANY, TOO_MANY_FILES

__all__ = [
    "clear_directory",
    "make_directory",
    "new_directory",
    "sync_directory",
    "sync_tree",
    "temporary_directory",
    "write_all",
    "write_atomically",
]

_CHUNK = 2**22  # bytes handed to one write
_MANY = 1000  # files, from which on all of the system's writes are flushed at once


def make_directory(directory: Path) -> None:
    """Make a directory and those above it so that they last through a power cut; OSError."""
    missing = [path for path in (directory.absolute(), *directory.absolute().parents) if not path.is_dir()]
    if missing:
        directory.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_directory(path.parent)


def write_atomically(path: str | Path, parts: Iterable[bytes | memoryview]) -> None:
    """Replace a file by the joined parts, flushed to the disk. Of two processes that do, the last one's stays.

    Temporary files that a killed process left for this path are removed.

    Raises:
        RunError: the disk refuses (full, read-only); the file is as it was or, if only the last flush of the
            directory failed, whole and new.
    """
    path = Path(path)
    _remove_abandoned(path)
    try:
        descriptor, temporary = _new_file(path)
        try:
            try:
                for part in parts:
                    write_all(descriptor, part)
                os.fsync(descriptor)
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


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it, in one system call unless it is long or the disk takes only a part at once; OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest[:_CHUNK]) :]


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
        make_directory(directory.parent)
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


@contextmanager
def temporary_directory(name: str) -> Iterator[Path]:
    """A directory of this process and user alone below the system's one for temporary files, removed at the end.

    What a killed process left under that name is removed first. Raises RunError if the disk refuses.
    """
    place = Path(tempfile.gettempdir(), name).absolute()
    try:
        _remove_abandoned(place)
        descriptor, temporary = _new_folder(place)
        temporary.chmod(0o700)
    except OSError as error:
        raise _refused(place, error) from error
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if descriptor is not None:
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
    try:
        if not (replace and directory.is_dir()):
            os.replace(new, directory)
            return
    except OSError as error:
        if not replace or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise  # not because another process put a directory there meanwhile
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


# -- temporary files and directories ----------------------------------------------------------------------


def _new_file(path: Path) -> tuple[int, Path]:
    """An open file beside the path, locked."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        temporary = _new_name(path)
        descriptor = os.open(temporary, flags, 0o666)
        if _lock(descriptor, temporary):
            return descriptor, temporary


def _new_folder(directory: Path) -> tuple[int | None, Path]:
    """An empty directory beside that one, locked; no descriptor on Windows, where a directory cannot be opened."""
    while True:
        temporary = _new_name(directory)
        temporary.mkdir()
        if os.name == "nt":
            return None, temporary
        with suppress(FileNotFoundError):  # removed as abandoned before it was locked
            descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            if _lock(descriptor, temporary):
                return descriptor, temporary


def _new_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _lock(descriptor: int, temporary: Path) -> bool:
    """Lock a new file or directory; False, and it is closed, if another process just took it for abandoned."""
    if os.name == "nt":  # what is open is not removed there
        return True
    from filelock import lock_descriptor

    try:
        held = lock_descriptor(descriptor, blocking=False)
        if held and os.path.samestat(os.fstat(descriptor), os.lstat(temporary)):
            return True
    except FileNotFoundError:
        pass
    except OSError:  # a file system without locks: nothing is removed there
        return True
    os.close(descriptor)
    return False


def _remove_abandoned(path: Path) -> None:
    """Remove unfinished files and directories for this place that no living process writes."""
    from filelock import lock_descriptor

    found: list[Path] = []
    with suppress(OSError):  # what is wrong with the directory is said by whoever writes into it
        found = list(path.parent.glob(f".{escape(path.name)}.{'[0-9a-f]' * 8}.tmp"))
    for stale in found:
        with suppress(OSError):
            if os.name == "nt":  # a file that is open is not removed there, and a directory is never known
                stale.unlink()
                continue
            descriptor = os.open(stale, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if lock_descriptor(descriptor, blocking=False):
                    shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink()
            finally:
                os.close(descriptor)


def _refused(path: Path, error: OSError) -> RunError:
    reason = error.strerror or error
    if error.errno in TOO_MANY:
        return RunError(TOO_MANY_FILES)
    return RunError(f"{path} cannot be written: {reason}; free space or choose another directory")
