"""Bodies of requests, read in bounded time, memory and disk.

Small ones are read into memory, uploads into files of our own names in a private directory. What is sent is counted as
it comes: over all requests together, and of uploads for each visitor.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.requests import ClientDisconnect, Request

from vitlr.app.limits import BusyError, Limits
from vitlr.errors import DataError

__all__ = ["Bodies", "SlowError", "TooLargeError"]

_PAUSE, _SMALL_SECONDS, _LARGE_SECONDS = 10.0, 20.0, 300.0  # between two parts, and in all
_IN_MEMORY = 96 * 2**20  # bytes of all small bodies together, also while they wait
_PART = 2**20  # bytes written to the disk at once


class TooLargeError(DataError):
    """More was sent than is taken."""


class SlowError(DataError):
    """A request that did not arrive in time."""


class Bodies:
    """Reads bodies.

    Args:
        folder: an empty private directory, removed by whoever made it.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._in_memory = 0
        self._lock = threading.Lock()  # files are also removed by the thread that learns
        self._stored = 0
        self._sizes: dict[Path, int] = {}
        self._uploading: Counter[str] = Counter()

    @asynccontextmanager
    async def read(self, request: Request, most: int) -> AsyncIterator[bytes]:
        """The body, which counts as long as it is used.

        Raises:
            TooLargeError: more than ``most`` bytes. SlowError: it took too long. BusyError: too much is being sent.
        """
        body = bytearray()
        try:
            async for part in _parts(request, most, _SMALL_SECONDS):
                self._in_memory += len(part)
                body += part
                if self._in_memory > _IN_MEMORY:
                    raise BusyError("too much is being sent at once; try again in a moment")
            yield bytes(body)
        finally:
            self._in_memory -= len(body)

    @asynccontextmanager
    async def stored(
        self, request: Request, visitor: str, most: int, *, keep: bool = False
    ) -> AsyncIterator[Path]:
        """A file with the body; it is removed afterwards, or by ``remove`` if ``keep`` and nothing was raised.

        Raises:
            As of ``read``; BusyError also if this visitor is sending another file.
        """
        if self._uploading[visitor]:
            raise BusyError("another file of yours is being sent; wait until it has arrived")
        self._uploading[visitor] += 1
        path = self._folder / secrets.token_hex(16)
        self._sizes[path] = 0
        kept = False
        try:
            with open(path, "xb", opener=_private) as file:
                pending = bytearray()
                async for part in _parts(request, most, _LARGE_SECONDS):
                    self._count(path, len(part))
                    pending += part
                    if len(pending) >= _PART:
                        await asyncio.get_running_loop().run_in_executor(None, file.write, bytes(pending))
                        pending.clear()
                file.write(pending)
            yield path
            kept = keep
        finally:
            self._uploading[visitor] -= 1
            self._uploading += Counter()  # without those at zero
            if not kept:
                self.remove(path)

    def remove(self, path: Path) -> None:
        """Remove a stored file; it no longer counts."""
        path.unlink(missing_ok=True)
        with self._lock:
            self._stored -= self._sizes.pop(path, 0)

    def _count(self, path: Path, num_bytes: int) -> None:
        with self._lock:
            if self._stored + num_bytes > self._limits.stored_bytes:
                raise BusyError("too much is stored at the moment; try again in a minute")
            self._stored += num_bytes
            self._sizes[path] += num_bytes


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


async def _parts(request: Request, most: int, seconds: float) -> AsyncIterator[bytes]:
    """The body's parts, as they come."""
    size = f"this is larger than {most / 1e6:.1f} MB; send at most that"
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise TooLargeError(size)
    until, taken = time.monotonic() + seconds, 0
    stream = request.stream()
    while True:
        left = min(_PAUSE, until - time.monotonic())
        try:
            part = await asyncio.wait_for(anext(stream, None), max(left, 0.001))
        except asyncio.TimeoutError:
            raise SlowError("the request did not arrive in time; try again") from None
        except ClientDisconnect:
            raise SlowError("the request ended early") from None
        if part is None:
            return
        taken += len(part)
        if taken > most:
            raise TooLargeError(size)
        yield part
