"""``vitlr compare``: many runs, one summary."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitlr.commands.console import Bars, notes, say, table
from vitlr.errors import ConfigError

__all__ = ["add_parsers", "finish", "numbers", "print_table", "run_plan"]

_MOST = 10_000  # orders or seeds in one range


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``compare``."""
    parser = commands.add_parser(
        "compare",
        help="variants over orders and seeds: table, figure, mean and s.d.",
        description="Run every variant of a recipe on its orders and seeds and write run directories, summary.json,"
        " table.md and accuracy.png. Started again, it continues.",
        epilog="example: vitlr compare recipes/rendered-nicv2-391.yaml --out runs/comparison --orders 1-3",
        **common,
    )
    parser.add_argument("recipe", type=Path, help="YAML with title, base, variants, orders and seeds")
    parser.add_argument("--out", type=Path, required=True, help="directory for runs and summary")
    parser.add_argument("--orders", "--runs", help="orders in place of the recipe's: 0-9 or 1,2,3")
    parser.add_argument("--seeds", help="seeds in place of the recipe's, written likewise")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="only this variant; may be given again"
    )
    parser.add_argument("--data-root", help="folder of the images, in place of the recipe's data.root")
    parser.add_argument("--backbone", help="network, in place of the recipe's backbone.name")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run_command=compare_variants)


def numbers(text: str, flag: str) -> tuple[int, ...]:
    """``0-2,5`` as 0, 1, 2, 5; each once."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip(), re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + _MOST:
            raise ConfigError(f"{flag} must be numbers such as 0-9 or 1,2,3, got {text!r:.60}")
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found))


def compare_variants(options: argparse.Namespace) -> int:
    from vitlr.runs.plan import read_plan

    plan = read_plan(options.recipe)
    if options.orders:
        plan = replace(plan, orders=numbers(options.orders, "--orders"))
    if options.seeds:
        plan = replace(plan, seeds=numbers(options.seeds, "--seeds"))
    given = {"data.root": options.data_root, "backbone.name": options.backbone}
    base = {**plan.base, **{name: value for name, value in given.items() if value}}
    variants = plan.variants
    if options.only:
        missing = [name for name in options.only if name not in variants]
        if missing:
            raise ConfigError(f"--only names {missing[0]!r}; the recipe has {', '.join(variants)}")
        variants = {name: variants[name] for name in options.only}
    rows = run_plan(
        replace(plan, base=base, variants=variants), options.out, quiet=options.quiet or options.json
    )
    return finish(plan.title, rows, options.out, as_json=options.json)


def finish(title: str, rows: list[dict[str, Any]], where: Path, *, as_json: bool) -> int:
    """Print the summary; returns the exit code, 1 if a run failed."""
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(title, rows)
        if (where / "accuracy.png").is_file():  # unless every run failed
            say(where / "accuracy.png")
    return 1 if any(row["failures"] for row in rows) else 0


def run_plan(plan: Any, where: Path, *, quiet: bool) -> list[dict[str, Any]]:
    """Compare with a progress bar for each stage and run; returns the summary's rows."""
    from vitlr.runs.compare import compare
    from vitlr.runs.summary import summarise

    caches: list[str] = []
    with Bars(quiet=quiet) as bars:
        outcomes = compare(
            plan,
            where,
            on_progress=bars.update,
            on_stream=bars.found,
            on_record=lambda name, done, total, record: bars.update(
                name, done, total, f"test accuracy {record.evaluation.test_accuracy:.3f}"
            ),
            on_note=caches.append,
        )
    notes(caches)
    notes(f"failed: {outcome.config.run_dir}: {outcome.failure}" for outcome in outcomes if outcome.failure)
    return summarise(plan, outcomes)


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """The summary as a table on the terminal."""
    from vitlr.runs.summary import HEADINGS, table_cells

    table(title, HEADINGS, map(table_cells, rows), HEADINGS[:1])
