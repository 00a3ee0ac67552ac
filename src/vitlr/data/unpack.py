"""A zip of images to a folder, whole or not at all, whatever the zip tries.

Everything that the directory of the archive says is checked before the first byte is written: a name that could
leave the folder, a link, a duplicate or a size out of bounds refuses the whole archive. Then the files are written
into a temporary folder beside the place they are for, flushed, and moved there by one rename.

A zip cannot unpack to more than its directory announces (reading stops there), so the bounds below, on what it
announces, bound memory and disk: about 0.5 GB of memory for the largest directory that is read, 16 GiB of disk.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import BinaryIO

from vitlr.errors import DataError
from vitlr.storage.files import sync_directory, sync_tree

__all__ = ["Limits", "ensure_space", "megabytes", "unpack"]

_CHUNK = 2**20
_BLOCK = 4096  # bytes that a file may take beyond its own, for the estimate of disk space
_SUFFIX = ".unpacking"  # of temporary folders
# What zipfile and zlib raise for an archive that is none, or no longer one.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError),
    *(NotImplementedError, RuntimeError, KeyError, IndexError, MemoryError, OSError),
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may hold at most; sizes in bytes. CORe50 has 164,866 frames of about 25 kB."""

    entries: int = 200_000
    directory: int = 2**25  # of the list of entries, which is read into memory as a whole
    entry: int = 2**24
    total: int = 2**34
    ratio: int = 100  # unpacked to packed, of an entry over 64 KiB and of all together


def unpack(
    archive: str | Path,
    into: str | Path,
    folder: str,
    *,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, int]:
    """Unpack ``folder`` of a zip to ``into/folder``, which must not exist. The caller holds ``into``.

    Temporary folders that a killed process left are removed first. Entries outside ``folder`` are checked
    like the others and left out.

    Args:
        progress: called with files written so far and files to write.

    Returns:
        Files written, and files left out because they lie outside the folder.

    Raises:
        DataError: not a zip, damaged, out of bounds, an entry that is no plain file or has an unsafe name; no
            such folder in it; ``into/folder`` exists; the disk refuses or has too little space.
    """
    archive, into, limits = Path(archive), Path(into), limits or Limits()
    target = into / folder
    if os.path.lexists(target):
        raise DataError(f"{target} exists already; remove it or choose another directory")
    try:
        with (
            _BoundedReader(io.FileIO(archive), limits.directory) as file,
            _open(file, archive) as opened,
        ):
            wanted, left_out = _plan(opened.infolist(), archive, folder, limits)
            ensure_space(into, sum(info.file_size + _BLOCK for info in wanted), f"unpack {archive.name}")
            _unpack_beside(opened, wanted, archive, target, progress)
    except OSError as error:
        where = error.filename or into
        raise DataError(
            f"{where} cannot be read or written ({error.strerror or error}); free space or choose another directory"
        ) from error
    return len(wanted), left_out


class _BoundedReader(io.BufferedReader):
    """A file of which no single piece larger than ``limit`` is read: zipfile reads a whole directory at once."""

    def __init__(self, raw: io.FileIO, limit: int) -> None:
        super().__init__(raw)
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._limit:
            raise DataError(
                f"{self.name} announces a list of {megabytes(size)} of entries, more than the"
                f" {megabytes(self._limit)} allowed; use another copy of it"
            )
        return super().read(size)


def _open(file: BinaryIO, archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except DataError:
        raise
    except _DAMAGED as error:
        raise _damaged(archive, error) from None


def _chunks(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> Iterator[bytes]:
    """The bytes of an entry, as many as it announces and with the announced checksum; DataError otherwise."""
    num_read = 0
    try:
        with opened.open(info) as source:
            while chunk := source.read(_CHUNK):
                num_read += len(chunk)
                yield chunk
    except _DAMAGED as error:
        raise _damaged(archive, error) from None
    if num_read != info.file_size:
        raise _damaged(archive, EOFError(f"{info.filename} ends early"))


def _damaged(archive: Path, error: BaseException) -> DataError:
    detail = " ".join(str(error).split())[:100] or type(error).__name__
    return DataError(f"{archive} is not a zip archive or is damaged ({detail}); use another copy of it")


# -- the directory ----------------------------------------------------------------------------------


def _plan(
    entries: Sequence[zipfile.ZipInfo], archive: Path, folder: str, limits: Limits
) -> tuple[list[zipfile.ZipInfo], int]:
    """Files to write, and how many are left out; DataError where one entry, or all together, may not be."""

    def refuse(what: str) -> DataError:
        return DataError(f"{archive} is refused: {what}; use another copy of it")

    if len(entries) > limits.entries:
        raise refuse(f"it has {len(entries):,} entries, more than {limits.entries:,}")
    packed = archive.stat().st_size
    for info in entries:
        fault = _fault(info, limits)
        if fault:
            raise refuse(f"its entry {info.orig_filename[:100]!r} {fault}")
    total = sum(info.file_size for info in entries)
    if total > limits.total or total > limits.ratio * packed:
        raise refuse(f"it would unpack from {megabytes(packed)} to {megabytes(total)}")
    if sum(info.compress_size for info in entries) > packed:
        raise refuse("its entries overlap")
    clash = _clash(entries)
    if clash:
        raise refuse(f"two of its entries are for one place, {clash[:100]!r}")
    files = [info for info in entries if not info.is_dir()]
    wanted = [info for info in files if info.filename.startswith(f"{folder}/")]
    if not wanted:
        raise refuse(f"it has no file in a folder {folder}")
    return wanted, len(files) - len(wanted)


def _fault(info: zipfile.ZipInfo, limits: Limits) -> str:
    """Why an entry may not be unpacked; empty where it may."""
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made without Unix modes
    parts = info.filename.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "has a path that leaves its folder"
    # zipfile shortens names at a zero byte; backslashes, colons and dots at an end mean something to Windows.
    odd = (
        info.orig_filename != info.filename
        or not info.filename.isprintable()
        or set(info.filename) & set("\\:")
    )
    if odd or any(part != part.rstrip(". ") for part in parts):
        return "has a name that is not safe on every system"
    if len(info.filename) > 1000 or any(len(part.encode()) > 255 for part in parts):
        return "has a name that is too long"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > info.is_dir():
        return "is a link or a device"
    if info.flag_bits & 0x41:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in an unusual way"
    if info.file_size > limits.entry or (info.is_dir() and info.file_size):
        return f"announces {info.file_size:,} bytes, more than it may have"
    if info.file_size > max(2**16, limits.ratio * info.compress_size):
        return f"would unpack from {info.compress_size:,} to {info.file_size:,} bytes"
    return ""


def _clash(entries: Sequence[zipfile.ZipInfo]) -> str:
    """A name that two entries share, in the eyes of a system without upper case, or a file that is also a folder."""
    files, folders = set(), set()
    for info in entries:
        path = PurePosixPath(unicodedata.normalize("NFC", info.filename).casefold())
        if info.is_dir():
            folders.add(path)
        elif path in files:
            return info.filename
        else:
            files.add(path)
    for path in files:
        folders.update(path.parents)
    return next((str(path) for path in files if path in folders), "")


# -- the files --------------------------------------------------------------------------------------


def _unpack_beside(
    opened: zipfile.ZipFile,
    wanted: Sequence[zipfile.ZipInfo],
    archive: Path,
    target: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write into a temporary folder, flush, rename; the temporary folder is gone in any case."""
    for stale in target.parent.glob(f".{target.name}.*{_SUFFIX}"):
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(mkdtemp(prefix=f".{target.name}.", suffix=_SUFFIX, dir=target.parent))
    try:
        made: set[Path] = set()
        for count, info in enumerate(wanted, 1):
            path = temporary.joinpath(*info.filename.split("/"))
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            _write(opened, info, archive, path)
            if progress is not None:
                progress(count, len(wanted))
        sync_tree(temporary)
        os.rename(temporary / target.name, target)
        sync_directory(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path, path: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(path, flags, 0o644), "wb") as file:
        for chunk in _chunks(opened, info, archive):
            file.write(chunk)


def ensure_space(directory: Path, needed: int, purpose: str) -> None:
    """DataError where the file system of a directory has less than ``needed`` bytes free."""
    with suppress(OSError):
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise DataError(
                f"{directory} has {megabytes(free)} free and {megabytes(needed)} are needed to {purpose};"
                " free space or choose another directory"
            )


def megabytes(num_bytes: int) -> str:
    """``4,213 MB``; small sizes in bytes."""
    return f"{num_bytes:,} bytes" if num_bytes < 10**6 else f"{num_bytes / 10**6:,.0f} MB"
