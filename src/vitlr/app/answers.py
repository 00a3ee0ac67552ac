"""Answers to pictures, joined over the last frames of a visitor, and what the network looked at.

Shapes: C classes.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np

from vitlr.learning.sequence import together

__all__ = ["Answer", "Smoother"]

_SECONDS, _FRAMES, _VISITORS = 1.0, 6, 64


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a picture.

    Attributes:
        label: the most probable class, or ``unknown``; None if nothing is known yet.
        probabilities: of the most probable classes, highest first.
        known: how much it looks like something known, 0..1.
        attention_HWC: the picture with what the network looked at, as ``vitlr rollout`` draws it, if asked for.
    """

    label: str | None
    probabilities: tuple[tuple[str, float], ...] = ()
    known: float = 0.0
    attention_HWC: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class _Seen:
    at: float
    probabilities_C: np.ndarray
    known: float


class Smoother:
    """Joins the answers to a visitor's frames of about the last second, at most six.

    They are joined as the frames of a video (``vitlr.learning.sequence``), so that one blurred frame that is sure of
    something else does not outweigh the others. The frames are forgotten if what is known changes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, tuple[int, deque[_Seen]]] = OrderedDict()

    def joined(
        self, visitor: str, state: int, probabilities_C: np.ndarray, known: float
    ) -> tuple[np.ndarray, float]:
        """Probabilities (C,) and ``known`` of this frame and the last ones.

        Args:
            state: a number that changes with what is known.
        """
        now = time.monotonic()
        with self._lock:
            before, frames = self._seen.pop(visitor, (state, deque(maxlen=_FRAMES)))
            if before != state or any(len(each.probabilities_C) != len(probabilities_C) for each in frames):
                frames = deque(maxlen=_FRAMES)
            frames.append(_Seen(at=now, probabilities_C=probabilities_C, known=known))
            while frames[0].at < now - _SECONDS:
                frames.popleft()
            self._seen[visitor] = (state, frames)
            while len(self._seen) > _VISITORS:
                self._seen.popitem(last=False)
            last = list(frames)
        joined_C = together(np.stack([each.probabilities_C for each in last]))
        return joined_C, float(np.mean([each.known for each in last]))

    def drop(self, visitor: str) -> None:
        """Start afresh for a visitor."""
        with self._lock:
            self._seen.pop(visitor, None)
