"""What commands share: progress that also reads well in a log file, and tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from vitlr.text import harmless

if TYPE_CHECKING:
    from vitlr.data.experience import Stream

__all__ = ["Bar", "Bars", "err", "notes", "out", "say", "table"]

WITHIN = 10.0  # seconds


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
        err().print(harmless(sentence), markup=False, soft_wrap=True)


def say(text: object) -> None:
    """A result on standard output, its lines and fields (between tabs) as any terminal can show them."""
    for line in str(text).split("\n"):
        print("\t".join(map(harmless, line.split("\t"))))


def table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[object]], left: Collection[str]
) -> None:
    """A table on standard output.

    Args:
        left: headings of the columns that are not aligned to the right.
    """
    made = Table(title=Text(harmless(title)), title_justify="left")  # as text: names may hold brackets
    for heading in headings:
        made.add_column(heading, justify="left" if heading in left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text("?" if cell is None else harmless(str(cell))) for cell in row))
    out().print(made)


class Bar:
    """A progress bar on stderr; a line for every tenth of the way if stderr is no terminal.

    Use as a context manager and call ``update(done, total, note)``.

    Args:
        quiet: show nothing.
        pause: seconds between two such lines at least, for what is mostly over soon.
    """

    def __init__(self, title: str, *, quiet: bool = False, pause: float = 0.0) -> None:
        self._title, self._quiet, self._pause = harmless(title), quiet, pause
        self._done, self._total, self._said = 0, 1, time.perf_counter()
        self._console = err()
        self._progress: Progress | None = None
        self._task: Any = None
        self._tenth = 0
        self._began = time.perf_counter()

    def __enter__(self) -> Bar:
        self._began = self._said = time.perf_counter()
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
        self._done, self._total = done, total
        tenth, note = 10 * done // max(1, total), harmless(note)
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total, note=note)
        elif (tenth > self._tenth or done == total) and time.perf_counter() - self._said >= self._pause:
            self._tenth = 11 if done == total else tenth
            self._line(note)

    def within(self, done: int, total: int) -> None:
        """``done`` of ``total`` images of the step that is going on; lines of it are ``WITHIN`` seconds apart."""
        note = f"{done:,} of {total:,} images encoded"
        if self._progress is not None:
            self._progress.update(self._task, note=note)
        elif done < total and time.perf_counter() - self._said >= WITHIN:
            self._line(note)

    def _line(self, note: str) -> None:
        self._said = time.perf_counter()
        if self._quiet:
            return
        spent = self._said - self._began
        left = f", {spent / self._done * (self._total - self._done):.0f} s left" if self._done else ""
        line = f"{self._title} {self._done}/{self._total} {note} {spent:.0f} s{left}"
        self._console.print(line.replace("  ", " "), soft_wrap=True, markup=False)

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
        self._found: set[str] = set()
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

    def found(self, stream: Stream) -> None:
        """What a stream says of its data, each sentence once, unless quiet."""
        for sentence in () if self._quiet else (*stream.facts, *stream.notes):
            if sentence not in self._found:
                self._found.add(sentence)
                self.say(sentence)

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
