"""``vitlr report``: one page and its figures from runs."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitlr.commands.console import Bar, say
from vitlr.errors import RunError

if TYPE_CHECKING:  # matplotlib takes a second that --help need not wait for
    from vitlr.report.gather import RunData
    from vitlr.report.report import Report

__all__ = ["add_parsers", "report_of"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``report``."""
    parser = commands.add_parser(
        "report",
        help="curves, forgetting, confusion, memory and time of runs: one page, and the figures as PNG and SVG",
        description="Write report.html, one page that needs no network, and every figure as PNG and SVG. A RUN is the"
        " directory of vitlr train, or of vitlr compare with all its runs; runs that differ only in order and"
        " seed are repetitions of one method. Runs that failed or are not finished are named.",
        epilog="example: vitlr report runs/comparison --out report",
        **common,
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="directory of a run or a comparison"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report"), help="directory to write into (default report)"
    )
    parser.add_argument(
        "--no-images", action="store_true", help="write the page alone, without PNG and SVG files"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument(
        "--json", action="store_true", help="print the table's figures and the page's path as JSON"
    )
    parser.set_defaults(run_command=report)


_FIGURE = re.compile(
    r"(accuracy(-categories|-bytes|-seconds)?|forgetting|time|(classes|confusion|confusion-categories|memory)-\d+)\.(png|svg)"
)


def _earlier(folder: Path, now: set[str]) -> list[Path]:
    """Figures of an earlier report that this one lacks and that would seem to belong to it."""
    if not (folder / "report.html").is_file():
        return []
    return [path for path in folder.iterdir() if _FIGURE.fullmatch(path.name) and path.name not in now]


def _check_place(folder: Path) -> None:
    """Raises RunError if the report's files would replace those of a run or a comparison."""
    if any((folder / name).is_file() for name in ("config.yaml", "summary.json")):
        raise RunError(f"{folder} holds a run or a comparison; choose another --out")


def report_of(runs: Sequence[RunData], failures: Sequence[str]) -> Report:
    """The report of these runs.

    Raises:
        RunError: it cannot be made; the run whose files are damaged is named.
    """
    from vitlr.report.report import make_report

    faults = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
    try:
        return make_report(runs, failures)
    except faults:
        for run in runs:
            try:
                make_report([run], [])
            except faults as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
                raise RunError(
                    f"{run.path} is damaged ({reason}); leave this run out or run it again"
                ) from error
        raise


def report(options: argparse.Namespace) -> int:
    from vitlr.report.figures import figure_bytes
    from vitlr.report.gather import gather
    from vitlr.report.report import problems_of
    from vitlr.runs.settings import RunConfig
    from vitlr.storage.files import write_atomically
    from vitlr.storage.locks import locked

    _check_place(options.out)
    runs, failures = gather(options.runs, RunConfig)
    made = report_of(runs, failures)
    files: list[tuple[str, bytes]] = []
    with Bar("drawing", quiet=options.quiet or options.json) as bar:
        progress = bar.callback()
        for number, (name, figure) in enumerate({} if options.no_images else made.figures.items()):
            files += [(f"{name}.png", figure_bytes(figure, "png")), (f"{name}.svg", made.svgs[name])]
            progress(number + 1, len(made.figures))
    page = options.out / "report.html"
    with locked(options.out):
        for left in _earlier(options.out, {name for name, _ in files}):
            left.unlink()
        for name, content in files:
            write_atomically(options.out / name, [content])
        write_atomically(page, [made.html.encode()])
    if options.json:
        print(
            json.dumps(
                {
                    "page": str(page),
                    "rows": made.rows,
                    "problems": problems_of(runs, failures),
                }
            )
        )
    else:
        say(page)
    return 0
