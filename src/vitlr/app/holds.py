"""Frames that visitors show until they say what they are, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vitlr.app.limits import BusyError, Limits
from vitlr.errors import DataError

__all__ = ["Holds"]

_STALE = 120.0  # seconds after which frames of a visitor who left may give way to another one's


@dataclass
class _Hold:
    frames: list[np.ndarray] = field(default_factory=list)
    touched: float = 0.0

    @property
    def num_bytes(self) -> int:
        return sum(frame.nbytes for frame in self.frames)


class Holds:
    """Frames by visitor. Frames handed on with ``take`` count until ``give_back``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._holds: OrderedDict[str, _Hold] = OrderedDict()
        self._waiting = 0  # bytes of frames that wait to be learned

    def add(self, visitor: str, frames: Sequence[np.ndarray]) -> int:
        """Add frames; returns how many the visitor has shown.

        Raises:
            DataError: more than can be taught at once. BusyError: too many visitors or frames at once.
        """
        most, now = self._limits.frames, time.monotonic()
        with self._lock:
            for key in [key for key, hold in self._holds.items() if now - hold.touched > _STALE]:
                del self._holds[key]
            hold = self._holds.get(visitor) or _Hold()
            if len(hold.frames) + len(frames) > most:
                raise DataError(f"{most} frames are enough: release the button to learn them")
            if visitor not in self._holds and len(self._holds) >= self._limits.holds:
                raise BusyError("too many visitors are teaching at once; try again in a moment")
            held = self._waiting + sum(each.num_bytes for each in self._holds.values())
            if held + sum(frame.nbytes for frame in frames) > self._limits.held_bytes:
                raise BusyError("too many frames wait to be learned; try again in a moment")
            hold.frames.extend(frames)
            hold.touched = now
            self._holds[visitor] = hold
            return len(hold.frames)

    def shown(self, visitor: str) -> list[np.ndarray]:
        """The frames of a visitor, who keeps them."""
        with self._lock:
            hold = self._holds.get(visitor)
            return list(hold.frames) if hold else []

    def take(self, visitor: str) -> None:
        """Move a visitor's frames to those that wait to be learned."""
        with self._lock:
            hold = self._holds.pop(visitor, None)
            self._waiting += hold.num_bytes if hold else 0

    def give_back(self, num_bytes: int) -> None:
        """Frames were learned, or will never be."""
        with self._lock:
            self._waiting -= num_bytes

    def drop(self, visitor: str) -> bool:
        """Discard the frames of a visitor; True if there were any."""
        with self._lock:
            return self._holds.pop(visitor, None) is not None
