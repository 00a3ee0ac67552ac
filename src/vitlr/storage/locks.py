"""Directories in which one process at a time reads and writes, on the system's locks.

What a process needs for long (a run, a saved classifier) it holds by ``locked``, and a second process is
refused; what several need and one has to make (rendered objects) one makes while the others wait (``making``).
The lock of a process that died is free.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vitlr.errors import RunError
from vitlr.storage.files import make_directory
from vitlr.storage.reading import check_open_files

if TYPE_CHECKING:
    from filelock import AcquireReturnProxy, BaseFileLock

__all__ = ["locked", "making"]

_PAUSE = 0.02  # seconds between two looks at a lock that another process has
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
_THREADS: dict[Path, threading.RLock] = {}  # the thread of this process that is in a directory


@contextmanager
def locked(directory: str | Path, *, wait: float = 0.0, across_threads: bool = False) -> Iterator[None]:
    """Be the only one in a directory, which is made if it is missing. The thread that holds it may nest.

    Args:
        wait: seconds to wait for another process or thread that holds it.
        across_threads: hold it for this whole process: within, any of its threads may lock the directory,
            one at a time. For a page that is open for hours and saves from the thread that learns.

    Raises:
        RunError: it is held by another process or thread, or it cannot be written.
    """
    directory = Path(directory)
    place, until = Path(os.path.realpath(directory)), time.monotonic() + wait
    with ExitStack() as held:
        if not across_threads:
            threads = _THREADS.setdefault(place, threading.RLock())
            if not threads.acquire(timeout=wait):
                raise _in_use(directory)
            held.callback(threads.release)
        # One object a directory, whose count of holders is that of the process.
        lock = _file_lock(place / ".lock", is_singleton=True, thread_local=False)
        acquired = _acquire(lock, directory, max(0.0, until - time.monotonic()))
        if acquired is None:
            raise _in_use(directory)
        held.enter_context(acquired)
        yield


@contextmanager
def making(path: str | Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Be the only one who makes ``path``, after waiting for others who do: then check again if it is there.

    The lock is a file beside the path, which is removed again. Waiting has no limit: the other process ends,
    and if it is killed its lock is free.

    Args:
        waiting: called at least once a second while another process is at it.

    Raises:
        RunError: nothing can be written beside the path.
    """
    path = Path(path).absolute()
    file = path.with_name(f".{path.name}.lock")
    lock, wait = _file_lock(file), 0.0
    while (acquired := _acquire(lock, path.parent, wait)) is None:
        wait = 1.0
        if waiting is not None:
            waiting()
    with acquired:
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no file that others wait for
                file.unlink()  # while it is locked: those who wait for it see that it is gone


def _file_lock(file: Path, *, is_singleton: bool = False, thread_local: bool = True) -> BaseFileLock:
    from filelock import FileLock  # here, because only some commands lock anything

    # Without a real lock nobody is kept out: no marker file in its place.
    return FileLock(str(file), is_singleton=is_singleton, thread_local=thread_local, fallback_to_soft=False)


def _acquire(lock: BaseFileLock, directory: Path, wait: float) -> AcquireReturnProxy | None:
    """The lock, released at the end of its ``with``; None if somebody else holds it for all that time."""
    from filelock import Timeout

    try:
        make_directory(directory)
        return lock.acquire(timeout=wait, poll_interval=_PAUSE)
    except Timeout:
        return None
    except OSError as error:
        check_open_files(error)
        reason = error.strerror or error
        if Path(lock.lock_file).is_symlink():
            raise RunError(
                f"{lock.lock_file} is a symbolic link, which is not followed: remove it or choose another"
                " directory"
            ) from error
        failed = "locked" if error.errno in _NO_LOCKS else "written"
        raise RunError(f"{directory} cannot be {failed}: {reason}; choose another directory") from error


def _in_use(directory: Path) -> RunError:
    return RunError(
        f"{directory} is in use by another process: wait until it is done or choose another directory"
    )
