"""Ctrl-C at a chosen line, wherever that is: raised by a trace function in the thread that calls."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def interrupted_at(line: int, call: Callable[[], object], within: str = "vitlr/") -> bool:
    """Raise KeyboardInterrupt before the ``line``-th line (from 0) that ``call`` runs of files whose path has
    ``within`` in it. Returns False if it ran to its end before."""
    passed = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal passed
        if within not in frame.f_code.co_filename.replace("\\", "/"):
            return None
        if event == "line":
            passed += 1
            if passed == line + 1:
                raise KeyboardInterrupt
        return trace

    tracer = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracer)
    return False


def lines_of(call: Callable[[], object], within: str = "vitlr/") -> int:
    """Lines of such files that ``call`` runs."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if within not in frame.f_code.co_filename.replace("\\", "/"):
            return None
        count += event == "line"
        return trace

    tracer = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(tracer)
    return count
