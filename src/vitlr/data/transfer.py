"""A file over HTTP: resumed where it was cut off, from the first address that gives it, checked by its MD5.

httpx2 transfers; around it is a short loop that asks for the rest of a file (``Range``), as no library that
fetches data sets (pooch among them) resumes. What has arrived stays in ``NAME.part`` through Ctrl-C, a cut
connection or a crash, and the next call continues it, from the same address or another.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlr.data.formats import open_regular
from vitlr.data.unpack import ensure_space, megabytes
from vitlr.errors import DataError
from vitlr.storage.files import sync_directory

__all__ = ["RETRIES", "Pause", "Progress", "Say", "fetch", "md5_of", "silent"]

MAX_BYTES = 2**36  # of any archive
RETRIES = 5
_WORTHWHILE = 2**20  # bytes gained by a connection after which failures are counted from zero again
_LONGEST_PAUSE = 60.0  # seconds between two tries
_TIMEOUT = 60.0  # seconds of silence after which a connection counts as cut
_ADDRESS = r"https?://(\[[\da-fA-F:.]+\]|[^\s/?#\[]+)"

Progress = Callable[[str, int, int], None]  # stage, done, total (0 if unknown)
Say = Callable[[str], None]  # sentences for the user
Pause = Callable[[float], Any]  # waits that many seconds


class _Cut(Exception):
    """The same address may answer better in a moment."""


class _Unusable(Exception):
    """This address will not do; its sentence says why."""


def silent(*args: Any) -> None:
    """Shows and says nothing."""


def md5_of(path: Path, progress: Progress = silent) -> str:
    """MD5 of a file in hexadecimal; DataError if it cannot be read."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    try:
        total = path.stat().st_size
        with open_regular(path) as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
                done += len(chunk)
                progress("checking", done, total)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check permissions") from None
    return digest.hexdigest()


def fetch(
    urls: Sequence[str],
    target: Path,
    md5: str,
    *,
    retries: int = RETRIES,
    progress: Progress = silent,
    say: Say = silent,
    pause: Pause = time.sleep,
) -> None:
    """Download ``target`` from the first address that gives it, continuing ``target.part`` if that exists.

    A connection that is cut, silent for a minute or answered by a server error is tried again ``retries`` times,
    after 1, 2, 4, ... seconds, and counted afresh once a connection has brought a megabyte. If a server ignores
    ranges the file starts from zero; one that answers with another range is not used.

    Raises:
        DataError: every address failed (what has arrived is kept), or the disk did.
    """
    part, reasons = target.with_name(f"{target.name}.part"), []
    for url in urls:
        if not re.match(_ADDRESS, url):
            raise DataError(f"{_shown(url)!r} is not an address to download from; give one with http(s)://")
    if not urls:
        raise DataError(
            f"no address to download {target.name} from; give one with --url, or the file with --archive"
        )
    try:
        whole = part.exists() and md5_of(part, progress) == md5.lower()
        for url in urls:
            try:
                whole = whole or _Source(url, part, progress, say).give(md5.lower(), retries, pause)
            except _Unusable as reason:
                reasons.append(f"{_shown(url)} {reason}")
                say(reasons[-1])
        if whole:
            os.replace(part, target)
            sync_directory(target.parent)
            return
        kept = _size(part)
        if not kept:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{error.filename or part} cannot be written ({error.strerror or error}); free space or choose another"
            " directory, what has arrived is kept"
        ) from error
    again = f"{megabytes(kept)} are kept in {part}: run the same command again to go on"
    raise DataError(
        f"{target.name} could not be downloaded: {'; '.join(reasons)}; {again if kept else 'try again later'},"
        " or give another --url"
    )


def _shown(url: str) -> str:
    """An address without a password that may be in it, and not endless."""
    return re.sub(r"(?<=//)[^/@]*@", "", url)[:200]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@dataclass(frozen=True)
class _Source:
    """One address of the file, written to ``part``."""

    url: str
    part: Path
    progress: Progress
    say: Say

    def give(self, md5: str, retries: int, pause: Pause) -> bool:
        """True once the whole file has arrived with that MD5; _Unusable if this address does not give it."""
        import httpx2

        failures, resumed = 0, _size(self.part) > 0
        with httpx2.Client(follow_redirects=True, timeout=_TIMEOUT) as client:
            while True:
                before = _size(self.part)
                try:
                    if not self._connect(client):
                        continue
                    found = md5_of(self.part, self.progress)
                    if found == md5:
                        return True
                    self.part.unlink()
                    # What was there before may have been of another file.
                    kind, resumed = _Cut if resumed else _Unusable, False
                    raise kind(f"gave a file with the MD5 {found} and not {md5}, which was deleted")
                except _Cut as reason:
                    failures = 1 if _size(self.part) - before >= _WORTHWHILE else failures + 1
                    if failures > retries:
                        raise _Unusable(f"{reason}, {failures} times in a row") from None
                    seconds = min(_LONGEST_PAUSE, 2.0 ** (failures - 1))
                    again = f"trying again in {seconds:.0f} s ({failures} of {retries})"
                    self.say(f"{_shown(self.url)} {reason}; {again}")
                    pause(seconds)

    def _connect(self, client: Any) -> bool:
        """Ask once for what is missing and write it; True once the file is whole.

        Raises:
            _Cut: worth another try. _Unusable: not worth one. OSError: of the disk alone.
        """
        import httpx2

        with open(self.part, "r+b" if self.part.exists() else "x+b") as file:
            offset = file.seek(0, os.SEEK_END)
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
            try:
                with client.stream("GET", self.url, headers=headers) as response:
                    start, stop, total = _span(response.status_code, response.headers, offset)
                    if start < offset:
                        self.say(f"{_shown(self.url)} does not continue a file; starting again from zero")
                        file.truncate(start)
                    if total is not None:  # room for the rest, and once more for the images, packed already
                        purpose = f"download and unpack {self.part.name.removesuffix('.part')}"
                        ensure_space(self.part.parent, 2 * total - start, purpose)
                    position = file.seek(start)
                    for chunk in response.iter_raw() if start != total else ():
                        position += len(chunk)
                        if position > (MAX_BYTES if stop is None else stop):
                            raise _Unusable("sent more bytes than it announced or than an archive may have")
                        file.write(chunk)
                        self.progress("downloading", position, total or 0)
            except (httpx2.UnsupportedProtocol, httpx2.TooManyRedirects, httpx2.InvalidURL) as error:
                raise _Unusable(f"cannot be followed ({error})") from None
            except httpx2.TimeoutException:
                raise _Cut("does not answer") from None
            except httpx2.ConnectError as error:
                raise _Cut(f"cannot be reached ({error})") from None
            except httpx2.HTTPError as error:
                raise _Cut(f"cut the connection ({type(error).__name__})") from None
            finally:
                file.flush()
                os.fsync(file.fileno())
        if stop is not None and position < stop:
            raise _Cut("closed the connection early")
        if stop is None or position == total:
            return True
        if position - start < _WORTHWHILE:
            raise _Cut("sends its file in very small pieces")
        return False  # a server that gives large pieces is asked for the next one


def _span(status: int, headers: Mapping[str, str], offset: int) -> tuple[int, int | None, int | None]:
    """First byte, end and size of the file that a response holds; None for what it does not announce.

    Raises:
        _Cut: worth another try. _Unusable: not what was asked for.
    """
    length, said = headers.get("Content-Length", ""), headers.get("Content-Range", "")
    if status in (408, 425, 429) or status >= 500:
        raise _Cut(f"answers with status {status}")
    if status == 416 and offset:  # there is nothing from there on
        if said != f"bytes */{offset}":
            raise _Unusable("has a shorter file than what has arrived; remove the .part file to start again")
        return offset, offset, offset
    if status not in (200, 206) or (status == 206 and not offset):
        raise _Unusable(f"answers with status {status}")
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _Unusable("packs what it sends, so that a download cannot be continued")
    if not re.fullmatch(r"\d{0,18}", length):
        raise _Unusable("announces a length that is no number")
    if headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _Unusable("sends a web page")  # the login of a network, for example; what has arrived stays
    if status == 200:
        total = int(length) if length else None
        if total is not None and total > MAX_BYTES:
            raise _Unusable(f"announces {megabytes(total)}, more than an archive may have")
        return 0, total, total
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", said)
    start, stop = (int(match[1]), int(match[2]) + 1) if match else (-1, -1)
    total = None if match is None or match[3] == "*" else int(match[3])
    sound = start == offset < stop <= (MAX_BYTES if total is None else min(total, MAX_BYTES))
    if not sound or (length and int(length) != stop - start):
        raise _Unusable(f"answers a request from byte {offset} with the range {said[:60]!r}")
    return start, stop, total
