"""A zip of images to a folder, whole or not at all, whatever the zip tries.

Everything that the directory of the archive says is checked before the first byte is written: a name that could
leave the folder, a link, a duplicate or a size out of bounds refuses the whole archive. A zip cannot unpack to
more than its directory announces (reading stops there), so the bounds on what it announces bound memory and disk.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vitlr.data.formats import open_regular
from vitlr.errors import DataError
from vitlr.storage.files import new_directory

__all__ = ["Limits", "ensure_space", "megabytes", "unpack"]

_BLOCK = 4096  # bytes that a file may take beyond its own, for the estimate of disk space


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may hold at most; sizes in bytes. CORe50 has 164,866 frames of about 25 kB."""

    entries: int = 200_000
    directory: int = 2**25  # of the list of entries, which is read into memory as a whole
    entry: int = 2**24  # read into memory as a whole, too
    total: int = 2**34
    ratio: int = 100  # unpacked to packed, of an entry over 64 KiB and of all together


def unpack(
    archive: str | Path,
    into: str | Path,
    folder: str | None,
    *,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, int]:
    """Unpack ``folder`` of a zip to ``into/folder``, or everything to ``into`` if it is None; neither may exist.

    Entries outside ``folder`` are checked like the others and left out.

    Args:
        progress: called with files written so far and files to write.

    Returns:
        Files written, and files left out because they are outside the folder.

    Raises:
        DataError: not a zip, damaged, out of bounds, an entry that is no plain file or has an unsafe name; no
            such folder in it; ``into/folder`` exists; too little space.
        RunError: the disk refuses.
    """
    archive, into, limits = Path(archive), Path(into), limits or Limits()
    target = into if folder is None else into / folder
    if os.path.lexists(target):
        raise DataError(f"{target} exists already; remove it or choose another directory")
    with ExitStack() as stack:
        with _reading(archive):
            open_regular(archive).close()
            file = stack.enter_context(_BoundedReader(io.FileIO(archive), limits.directory))
            opened = zipfile.ZipFile(file)
        wanted, left_out = _checked(opened.infolist(), archive, folder, limits)
        ensure_space(
            into if folder else into.parent,
            sum(info.file_size + _BLOCK for info in wanted),
            f"unpack {archive.name}",
        )
        temporary = stack.enter_context(new_directory(target, replace=False))
        for count, info in enumerate(wanted, 1):
            with _reading(archive):
                content = opened.read(info)
                if len(content) != info.file_size:
                    raise EOFError(f"{info.filename} ends early")
            _write(temporary.joinpath(*info.filename.split("/")[folder is not None :]), content)
            if progress is not None:
                progress(count, len(wanted))
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


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """DataError for whatever zipfile raises for bytes that are no zip, or no longer one."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        detail = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(
            f"{archive} is not a zip archive or is damaged ({detail}); use another copy of it"
        ) from None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        file.write(content)


# -- the directory ----------------------------------------------------------------------------------


def _checked(
    entries: Sequence[zipfile.ZipInfo], archive: Path, folder: str | None, limits: Limits
) -> tuple[list[zipfile.ZipInfo], int]:
    """Files to write, and how many are left out; DataError if one entry, or all together, may not be."""
    packed, total = archive.stat().st_size, sum(info.file_size for info in entries)
    files = [info for info in entries if not info.filename.endswith("/")]
    inside = "__MACOSX/" if folder is None else f"{folder}/"  # what Macs add to their archives
    wanted = [info for info in files if info.filename.startswith(inside) == (folder is not None)]
    entry, fault = next(((info, fault) for info in entries if (fault := _fault(info, limits))), (None, ""))
    what = ""
    if len(entries) > limits.entries:
        what = f"it has {len(entries):,} entries, more than {limits.entries:,}"
    elif entry is not None:
        what = f"its entry {entry.orig_filename[:100]!r} {fault}"
    elif total > limits.total or total > limits.ratio * packed:
        what = f"it would unpack from {megabytes(packed)} to {megabytes(total)}"
    elif sum(info.compress_size for info in entries) > packed:
        what = "its entries overlap"
    elif clash := _clash(entries):
        what = f"two of its entries are for one place, {clash[:100]!r}"
    elif not wanted:
        what = "it is empty" if folder is None else f"it has no file in a folder {folder}"
    if what:
        raise DataError(f"{archive} is refused: {what}; use another copy of it")
    return wanted, len(files) - len(wanted)


def _fault(info: zipfile.ZipInfo, limits: Limits) -> str:
    """Why an entry may not be unpacked; empty if it may."""
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if the archive was made without Unix modes
    name, size, is_folder = info.filename, info.file_size, info.filename.endswith("/")
    parts = name.removesuffix("/").split("/")
    # zipfile shortens names at a zero byte; backslashes, colons and dots at an end mean something to Windows.
    odd = info.orig_filename != name or not name.isprintable() or set(name) & set("\\:")
    faults = {
        "has a path that leaves its folder": any(part in ("", ".", "..") for part in parts),
        "has a name that is not safe on every system": odd or any(p != p.rstrip(". ") for p in parts),
        "has a name that is too long": len(name) > 1000 or any(len(p.encode()) > 255 for p in parts),
        "is a link or a device": kind and kind != (stat.S_IFDIR if is_folder else stat.S_IFREG),
        "is encrypted": info.flag_bits & 0x41,
        "is packed in an unusual way": info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
        f"announces {size:,} bytes, more than it may have": size > (0 if is_folder else limits.entry),
        f"would unpack from {info.compress_size:,} to {size:,} bytes": size
        > max(2**16, limits.ratio * info.compress_size),
    }
    return next((fault for fault, found in faults.items() if found), "")


def _clash(entries: Sequence[zipfile.ZipInfo]) -> str:
    """A name that two entries share, on a system that ignores case, or a file that is also a folder."""
    names = [(unicodedata.normalize("NFC", info.filename).casefold(), info.is_dir()) for info in entries]
    counts = Counter(PurePosixPath(name) for name, is_folder in names if not is_folder)
    folders = {PurePosixPath(name) for name, is_folder in names if is_folder}
    folders.update(parent for path in counts for parent in path.parents)
    return next((str(path) for path, times in counts.items() if times > 1 or path in folders), "")


def ensure_space(directory: Path, needed: int, purpose: str) -> None:
    """DataError if the file system of a directory has less than ``needed`` bytes free."""
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
