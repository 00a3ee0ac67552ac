"""What commands share: progress that also reads well in a log file, and tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Bar", "Bars", "err", "notes", "out"]


def out() -> Console:
    """For results; a table keeps its width when printed to a file."""
    return Console(
        file=sys.stdout, soft_wrap=False, highlight=False, width=None if sys.stdout.isatty() else 110
    )


def err() -> Console:
    """For everything that a script does not want in its input."""
    return Console(file=sys.stderr, highlight=False)


def notes(sentences: Iterable[str]) -> None:
    """Sentences for the user, a line each, as they are."""
    for sentence in sentences:
        err().print(sentence, markup=False, soft_wrap=True)


class Bar:
    """A progress bar on stderr; a line for every tenth of the way if stderr is no terminal.

    ``quiet`` shows nothing. Use as a context manager and call ``update(done, total, note)``.
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title, self._quiet = title, quiet
        self._console = err()
        self._progress: Progress | None = None
        self._task: Any = None
        self._tenth = 0
        self._began = time.perf_counter()

    def __enter__(self) -> Bar:
        self._began = time.perf_counter()
        if not self._quiet and self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),  # a name may hold brackets
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[note]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=1, note="")
        return self

    def update(self, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` steps; ``note`` is shown beside them."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total, note=note)
        elif not self._quiet:
            tenth = 10 * done // max(1, total)
            if tenth > self._tenth or done == total:
                self._tenth = 11 if done == total else tenth
                spent = time.perf_counter() - self._began
                left = spent / max(1, done) * (total - done)
                self._console.print(
                    f"{self._title} {done}/{total} {note} {spent:.0f} s, {left:.0f} s left".replace(
                        "  ", " "
                    ),
                    soft_wrap=True,
                    markup=False,
                )

    def callback(self) -> Callable[[int, int], None]:
        """``update`` for code that reports done and total alone."""
        return lambda done, total: self.update(done, total)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


class Bars:
    """One bar after the other, each with its title."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._title = ""
        self._bar: Bar | None = None

    def __enter__(self) -> Bars:
        return self

    def update(self, title: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` under a title; a new title begins a new bar."""
        if self._bar is None or title != self._title:
            self._close()
            self._title, self._bar = title, Bar(title, quiet=self._quiet).__enter__()
        self._bar.update(done, total, note)

    def megabytes(self, title: str, done: int, total: int) -> None:
        """The same for bytes, shown in megabytes, except of what is unpacked; a total of 0 is not known yet."""
        whole = -(-total // 10**6)
        if title == "unpacking":
            self.update(title, done, total)
        elif total:
            self.update(title, whole if done == total else done // 10**6, whole, "MB")
        else:
            self.update(title, 0, 1, f"{done // 10**6} MB")

    def say(self, sentence: str) -> None:
        """A sentence between two bars, also if these are not shown."""
        self._close()
        notes([sentence])

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
