"""Threads of the page: each kind of work has its own, and a bound on what waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vitlr.app.limits import BusyError, Limits

__all__ = ["Lane", "Lanes"]

_T = TypeVar("_T")


class Lane:
    """Threads for one kind of work, and how many may wait for them."""

    def __init__(self, name: str, threads: int, most: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"vitlr-{name}")
        self._free, self._active = most, 0
        self._lock = threading.Lock()

    async def run(self, act: Callable[[], _T]) -> _T:
        """What ``act`` returns; BusyError at once if too many wait. Called in the event loop's thread alone."""
        if self._free < 1:
            raise BusyError("too many requests of this kind are waiting; send fewer at once")
        self._free -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._counted, act)
        finally:
            self._free += 1

    def _counted(self, act: Callable[[], _T]) -> _T:
        with self._lock:
            self._active += 1
        try:
            return act()
        finally:
            with self._lock:
                self._active -= 1

    def close(self) -> bool:
        """Drop what waits; True if nothing is being worked on."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        return self._active == 0


class Lanes:
    """Short work is never behind long work."""

    def __init__(self, limits: Limits) -> None:
        self.short = Lane("short", 4, 512)
        self.answers = Lane("answer", 2, limits.answers)
        self.takes = Lane("take", 2, limits.takes)
        self.uploads = Lane("upload", 1, limits.uploads)

    def close(self) -> bool:
        """Drop what waits; True if nothing is being worked on."""
        return all([lane.close() for lane in vars(self).values()])
