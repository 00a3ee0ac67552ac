"""Ctrl-C during a run: the first stops it with everything saved, the second leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupts"]

INTERRUPTED = 130  # exit code of a program stopped by Ctrl-C


class Interrupts:
    """Whether a run shall stop. Used as a context manager in the main thread it takes over Ctrl-C.

    Where the last checkpoint has all experiences learned so far, the first Ctrl-C drops the one at hand and
    stops at once (KeyboardInterrupt). Otherwise the one at hand is finished and a checkpoint is written. A
    second Ctrl-C ends the process with exit code 130, without any further step; the last checkpoint is whole.

    Attributes:
        asked: the run shall stop. unsaved: experiences were learned that no checkpoint has.
    """

    def __init__(self) -> None:
        self.asked = False
        self.unsaved = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def stop_if_asked(self) -> None:
        """KeyboardInterrupt where the run shall stop; call it where everything is saved."""
        if self.asked:
            raise KeyboardInterrupt

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            os._exit(INTERRUPTED)
        self.asked = True
        if not self.unsaved:
            raise KeyboardInterrupt
        # Straight to the terminal: a print here may interrupt another one.
        os.write(2, b"\nfinishing this experience and saving; Ctrl-C again leaves at once\n")
