"""A file over HTTP: resumed where it was cut off, from the first address that gives it, checked by its MD5.

The transfer is httpx2's; around it goes a short loop that asks for the rest of a file (``Range``), as none of the
libraries that fetch data sets (pooch among them) resumes. What is there so far lies in ``NAME.part`` and is kept
by Ctrl-C, a cut connection or a crash; the next call goes on from it, from the same address or another. Only the
whole file with the right MD5 gets its name.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from vitlr.data.unpack import ensure_space, megabytes
from vitlr.errors import DataError
from vitlr.storage.files import sync_directory

__all__ = ["RETRIES", "Pause", "Progress", "Say", "fetch", "md5_of", "no_progress", "no_words"]

MAX_BYTES = 2**36  # of any archive
RETRIES = 5
_WORTHWHILE = 2**20  # bytes gained by a connection after which failures are counted from zero again
_LONGEST_PAUSE = 60.0  # seconds between two tries
_TIMEOUT = 60.0  # seconds of silence after which a connection counts as cut
_CHUNK = 2**20

Progress = Callable[[str, int, int], None]  # stage, done, total (0 where unknown)
Say = Callable[[str], None]  # sentences for the user
Pause = Callable[[float], Any]  # waits that many seconds


class _Cut(Exception):
    """The same address may answer better in a moment."""


class _Unusable(Exception):
    """This address will not do; its sentence says why."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


def no_words(sentence: str) -> None:
    """Says nothing."""


def md5_of(path: Path, progress: Progress = no_progress) -> str:
    """MD5 of a file in hexadecimal; DataError where it cannot be read."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    try:
        total = path.stat().st_size
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                done += len(chunk)
                progress("checking", done, total)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check permissions") from None
    return digest.hexdigest()


# -- several addresses ------------------------------------------------------------------------------


def fetch(
    urls: Sequence[str],
    target: Path,
    md5: str,
    *,
    retries: int = RETRIES,
    progress: Progress = no_progress,
    say: Say = no_words,
    pause: Pause = time.sleep,
) -> None:
    """Download ``target`` from the first address that gives it, going on from ``target.part`` where that exists.

    A connection that is cut, silent for a minute or answered by a server error is tried again ``retries`` times,
    after 1, 2, 4, ... seconds, and counted afresh once a connection has brought a megabyte. A server that ignores
    ranges makes the file start from zero; one that answers with another range is not used.

    Raises:
        DataError: every address failed (what is there so far is kept), or the disk did.
    """
    part = target.with_name(f"{target.name}.part")
    for url in urls:
        _check_address(url)
    if not urls:
        raise DataError(
            f"no address to download {target.name} from; give one with --url, or the file with --archive"
        )
    try:
        if part.exists() and md5_of(part, progress) == md5.lower():
            _finish(part, target)
            return
        reasons = []
        for url in urls:
            try:
                _fetch_from(url, part, md5.lower(), retries, progress, say, pause)
                _finish(part, target)
                return
            except _Unusable as reason:
                reasons.append(f"{_shown(url)} {reason}")
                say(reasons[-1])
        kept = _size(part)
        if not kept:
            part.unlink(missing_ok=True)
    except OSError as error:
        where = error.filename or part
        raise DataError(
            f"{where} cannot be written ({error.strerror or error}); free space or choose another directory, what"
            " is there so far is kept"
        ) from error
    remedy = (
        f"{megabytes(kept)} are kept in {part}: run the same command again to go on"
        if kept
        else "try again later"
    )
    raise DataError(
        f"{target.name} could not be downloaded: {'; '.join(reasons)}; {remedy}, or give another --url"
    )


def _finish(part: Path, target: Path) -> None:
    os.replace(part, target)
    sync_directory(target.parent)


def _fetch_from(
    url: str,
    part: Path,
    md5: str,
    retries: int,
    progress: Progress,
    say: Say,
    pause: Pause,
) -> None:
    """The whole file from one address into ``part``, its MD5 checked; _Unusable where that cannot be had."""
    import httpx2

    resumed = _size(part) > 0
    with httpx2.Client(follow_redirects=True, timeout=_TIMEOUT) as client:
        while True:
            _until_whole(client, url, part, retries, progress, say, pause)
            found = md5_of(part, progress)
            if found == md5:
                return
            part.unlink()
            reason = f"gave a file with the MD5 {found} and not {md5}, which was deleted"
            if not resumed:
                raise _Unusable(reason)
            resumed = False  # what was there before may have been of another file
            say(f"{_shown(url)} {reason}; starting again from zero")


def _until_whole(
    client: Any, url: str, part: Path, retries: int, progress: Progress, say: Say, pause: Pause
) -> None:
    """One connection after the other until all bytes are there."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if _one_connection(client, url, part, progress, say):
                return
        except _Cut as reason:
            gained = _size(part) - before
            failures = 1 if gained >= _WORTHWHILE else failures + 1
            if failures > retries:
                raise _Unusable(f"{reason}, {failures} times in a row") from None
            seconds = min(_LONGEST_PAUSE, 2.0 ** (failures - 1))
            say(f"{_shown(url)} {reason}; trying again in {seconds:.0f} s ({failures} of {retries})")
            pause(seconds)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise DataError(f"{_shown(url)!r} is not an address to download from; give one with http(s)://")


def _shown(url: str) -> str:
    """An address without a password that may be in it, and not endless."""
    return re.sub(r"(?<=//)[^/@]*@", "", url)[:200]


# -- one connection ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """Which bytes of the file a response holds: ``start`` up to ``stop`` of ``total``, None where it does not say."""

    start: int
    stop: int | None
    total: int | None


def _one_connection(client: Any, url: str, part: Path, progress: Progress, say: Say) -> bool:
    """Ask for what is missing and write it; True once the file is whole.

    Raises:
        _Cut: worth another try. _Unusable: not worth one. OSError: of the disk alone.
    """
    import httpx2

    with open(part, "r+b" if part.exists() else "x+b") as file:
        offset = file.seek(0, os.SEEK_END)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        try:
            with client.stream("GET", url, headers=headers) as response:
                plan = _plan(response.status_code, response.headers, offset)
                if plan.start < offset:
                    say(f"{_shown(url)} does not continue a file; starting again from zero")
                    file.truncate(plan.start)
                if plan.start == plan.total:
                    return True
                _ensure_space(part, plan)
                position = _copy(response, file, plan, progress)
        except (httpx2.UnsupportedProtocol, httpx2.TooManyRedirects, httpx2.InvalidURL) as error:
            raise _Unusable(f"cannot be followed ({error})") from None
        except httpx2.HTTPError as error:
            raise _Cut(_what_happened(error)) from None
        finally:
            file.flush()
            os.fsync(file.fileno())
        if plan.stop is not None and position < plan.stop:
            raise _Cut("closed the connection early")
        if plan.stop is None or position == plan.total:
            return True
        if position - plan.start < _WORTHWHILE:
            raise _Cut("sends its file in very small pieces")
        return False  # whoever gives large pieces is asked for the next one


def _copy(response: Any, file: BinaryIO, plan: _Plan, progress: Progress) -> int:
    """Write the body behind ``plan.start``; returns where it ended."""
    position = file.seek(plan.start)
    for chunk in response.iter_raw():
        position += len(chunk)
        if position > (MAX_BYTES if plan.stop is None else plan.stop):
            raise _Unusable("sent more bytes than it announced or than an archive may have")
        file.write(chunk)
        progress("downloading", position, plan.total or 0)
    return position


def _what_happened(error: Exception) -> str:
    import httpx2

    if isinstance(error, httpx2.TimeoutException):
        return "does not answer"
    if isinstance(error, httpx2.ConnectError):
        return f"cannot be reached ({error})"
    return f"cut the connection ({type(error).__name__})"


def _plan(status: int, headers: Mapping[str, str], offset: int) -> _Plan:
    """What a response to a request from ``offset`` on holds; a range that was not asked for is refused."""
    if status in (408, 425, 429) or status >= 500:
        raise _Cut(f"answers with status {status}")
    if status == 416 and offset:  # there is nothing from there on
        match = re.fullmatch(r"bytes \*/(\d{1,18})", headers.get("Content-Range", ""))
        if match and int(match[1]) == offset:
            return _Plan(offset, offset, offset)
        raise _Unusable("has a shorter file than what is there so far; remove the .part file to start again")
    if status not in (200, 206) or (status == 206 and not offset):
        raise _Unusable(f"answers with status {status}")
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _Unusable("packs what it sends, so that a download cannot be continued")
    length = headers.get("Content-Length", "")
    if length and not re.fullmatch(r"\d{1,18}", length):
        raise _Unusable("announces a length that is no number")
    if headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _Unusable("sends a web page")  # the login of a network, say; what is there so far stays
    if status == 200:
        total = int(length) if length else None
        if total is not None and total > MAX_BYTES:
            raise _Unusable(f"announces {megabytes(total)}, more than an archive may have")
        return _Plan(0, total, total)
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", headers.get("Content-Range", ""))
    start, stop = (int(match[1]), int(match[2]) + 1) if match else (-1, -1)
    total = None if match is None or match[3] == "*" else int(match[3])
    sound = start == offset < stop <= (MAX_BYTES if total is None else min(total, MAX_BYTES))
    if not sound or (length and int(length) != stop - start):
        raise _Unusable(
            f"answers a request from byte {offset} with the range {headers.get('Content-Range', '')[:60]!r}"
        )
    return _Plan(start, stop, total)


def _ensure_space(part: Path, plan: _Plan) -> None:
    """Room for the rest of the archive and once more for its images, which are packed already."""
    if plan.total is not None:
        ensure_space(
            part.parent, 2 * plan.total - plan.start, f"download and unpack {part.name.removesuffix('.part')}"
        )
