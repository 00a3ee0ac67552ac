"""Files that others may have made, opened so that none of them can hang or flood the process.

Only regular files are opened, behind links too: a pipe may have no end. The header of a safetensors file is looked at
before anything makes objects of it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from vitlr.errors import RunError

__all__ = [
    "ENTRY_LIMIT",
    "HEADER_LIMIT",
    "TOO_MANY",
    "TOO_MANY_FILES",
    "NotRegularError",
    "check_open_files",
    "excess",
    "header_excess",
    "open_regular",
    "read_regular",
]

TOO_MANY = (errno.EMFILE, errno.ENFILE)
TOO_MANY_FILES = "too many files are open for this system's limit: raise it (ulimit -n 1024) and try again"

# Of a safetensors header: bytes of names, shapes and JSON, and entries (braces) among them.
HEADER_LIMIT = 2**24
ENTRY_LIMIT = 2**14


class NotRegularError(OSError):
    """A folder, pipe, socket or device in place of a file; ``kind`` says which."""

    def __init__(self, kind: str, path: str | os.PathLike[str]) -> None:
        super().__init__(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))
        self.kind = kind


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, open for reading.

    Raises:
        NotRegularError: it is something else. OSError: it is missing or may not be read. ValueError: no path.
        RunError: this process has too many files open.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):
        # Without waiting, in case a pipe takes its place at this moment.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            check_open_files(error)
            raise
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return open(descriptor, "rb")
        os.close(descriptor)
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    raise NotRegularError(next((name for test, name in kinds if test(mode)), "a device"), path)


def read_regular(path: str | os.PathLike[str], limit: int | None = None) -> bytes:
    """The content of a regular file; see :func:`open_regular`.

    Args:
        limit: bytes it may have; OSError above it.
    """
    with open_regular(path) as file:
        content = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", os.fspath(path))
    return content


def check_open_files(error: OSError) -> None:
    """RunError if the system has refused to open one file more: nothing is wrong with that file."""
    if error.errno in TOO_MANY:
        raise RunError(TOO_MANY_FILES) from None


def header_excess(path: Path) -> str:
    """What of a safetensors header is above its limit, or nothing; every tensor has braces of its own."""
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        return excess(size, file.read(min(size, HEADER_LIMIT)))


def excess(size: int, header: bytes) -> str:
    """The same of a header of that many bytes."""
    if size > HEADER_LIMIT:
        return f"{size} bytes of at most {HEADER_LIMIT}"
    entries = header.count(b"{")
    return f"{entries} entries of at most {ENTRY_LIMIT}" if entries > ENTRY_LIMIT else ""
