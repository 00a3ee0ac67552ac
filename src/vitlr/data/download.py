"""CORe50's images by one call: its archive found or fetched, checked by its published MD5, unpacked."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from vitlr.data.transfer import RETRIES, Pause, Progress, Say, fetch, md5_of, silent
from vitlr.data.unpack import unpack
from vitlr.errors import DataError

__all__ = ["CORE50_ARCHIVE", "CORE50_FOLDER", "CORE50_MD5", "CORE50_URLS", "download_core50"]

CORE50_FOLDER = "core50_128x128"
CORE50_ARCHIVE = f"{CORE50_FOLDER}.zip"
CORE50_MD5 = "745f3373fed08d69343f1058ee559e13"  # published with the data set
# Where its authors offer it; asked in turn where the caller names none. Plain HTTP: the MD5 tells what came.
CORE50_URLS: tuple[str, ...] = ("http://bias.csr.unibo.it/maltoni/download/core50/core50_128x128.zip",)


def download_core50(
    directory: str | Path,
    *,
    urls: Sequence[str] = (),
    archive: str | Path | None = None,
    md5: str = CORE50_MD5,
    keep_archive: bool = False,
    retries: int = RETRIES,
    progress: Progress = silent,
    say: Say = silent,
    pause: Pause = time.sleep,
) -> Path:
    """CORe50's images in ``directory/core50_128x128``, which is returned; one that is there is left as it is.

    The archive is ``archive``, or ``core50_128x128.zip`` in the directory, or fetched from the first of
    ``urls`` that gives it. Only a fetched one is removed afterwards. The caller holds the directory and
    verifies the result (``vitlr.data.verify``).

    Args:
        md5: of the archive; the published one by default.
        progress: called with ``downloading`` (bytes), ``checking`` (bytes) or ``unpacking`` (files), done, total.
        say: called with sentences for the user.
        pause: waits that many seconds between two tries.

    Raises:
        DataError: no address gives the archive, an archive with another MD5, one that :func:`unpack` refuses,
            too little space.
        RunError: the disk refuses.
    """
    directory = Path(directory)
    target, found = directory / CORE50_FOLDER, directory / CORE50_ARCHIVE
    if not re.fullmatch(r"[0-9a-fA-F]{32}", md5):
        raise DataError(f"an MD5 has 32 hexadecimal digits, got {md5[:40]!r}")
    if os.path.lexists(target):
        say(f"{target} is there already; remove it to download or unpack it again")
        return target
    source, fetched = Path(archive) if archive is not None else found, False
    if archive is not None or source.exists():
        say(f"using {source}")
        _check(source, md5, progress)
    else:
        fetch(urls or CORE50_URLS, source, md5, retries=retries, progress=progress, say=say, pause=pause)
        fetched = True
    _, left_out = unpack(
        source, directory, CORE50_FOLDER, progress=lambda done, total: progress("unpacking", done, total)
    )
    if left_out:
        say(f"{left_out:,} files outside {CORE50_FOLDER} were left out")
    if fetched and not keep_archive:
        source.unlink()
    elif fetched:
        say(f"{source} is kept")
    return target


def _check(archive: Path, md5: str, progress: Progress) -> None:
    if not archive.is_file():
        raise DataError(f"{archive} is not a file; give the downloaded archive, or leave --archive out")
    found = md5_of(archive, progress)
    if found != md5.lower():
        raise DataError(
            f"{archive} has the MD5 {found} and not {md5.lower()}: it is damaged, incomplete or another file;"
            " remove it to download it again"
        )
