"""The summary of a comparison: a row a variant, as JSON, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlr.evaluation.metrics import mean_and_sd
from vitlr.evaluation.records import run_measures
from vitlr.report.figures import figure_bytes, spread_curves
from vitlr.runs.plan import Plan
from vitlr.runs.settings import RunConfig
from vitlr.runs.tracking import machine, write_json
from vitlr.storage.files import write_atomically
from vitlr.text import harmless

__all__ = ["HEADINGS", "Outcome", "summarise", "table_cells", "table_lines", "write_summary"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run of a comparison: its records, or the sentence that says why there are none."""

    variant: str
    config: RunConfig
    metrics: list[dict[str, Any]]
    failure: str | None = None


MEASURES = ("test_accuracy", "average_test_accuracy", "forgetting", "learn_seconds")


def summarise(plan: Plan, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row a variant: mean and sample s.d. of ``MEASURES`` over its runs, and the most bytes remembered."""
    rows = []
    for variant in plan.variants:
        mine = [outcome for outcome in outcomes if outcome.variant == variant]
        good = [run_measures(each.metrics) for each in mine if each.failure is None and each.metrics]
        rows.append(
            {
                "variant": variant,
                "runs": len(good),
                "failures": [f"{each.config.repetition}: {each.failure}" for each in mine if each.failure],
                **{measure: mean_and_sd([each[measure] for each in good]) for measure in MEASURES},
                "memory_bytes": int(max((each["memory_bytes"] for each in good), default=0)),
            }
        )
    return rows


HEADINGS = (
    "method",
    "runs",
    "final accuracy",
    "average along the stream",
    "forgetting, points",
    "learning, s an experience",
    "memory, MB",
)


def table_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A summary's row as text under ``HEADINGS``; runs that failed are counted as such."""
    failed = len(row["failures"])

    def pair(key: str, unit: str) -> str:
        if row[key] is None:
            return "failed" if failed and not row["runs"] else "-"
        mean, spread = row[key]
        return f"{100 * mean:.1f}{unit}" + ("" if spread is None else f" ± {100 * spread:.1f}")

    seconds = "-" if row["learn_seconds"] is None else f"{row['learn_seconds'][0]:.3f}"
    return (
        row["variant"],
        f"{row['runs']}" + (f", {failed} failed" if failed else ""),
        pair("test_accuracy", "%"),
        pair("average_test_accuracy", "%"),
        pair("forgetting", ""),
        seconds,
        f"{row['memory_bytes'] / 1e6:.1f}",
    )


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The summary as a Markdown table, and below it why runs failed."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    lines += [
        f"| {' | '.join(harmless(cell).replace('|', chr(92) + '|') for cell in table_cells(row))} |"
        for row in rows
    ]
    failures = [harmless(f"* failed: {row['variant']}, {why}") for row in rows for why in row["failures"]]
    return lines + (["", *failures] if failures else [])


def write_summary(plan: Plan, outcomes: Sequence[Outcome], out: Path) -> None:
    """Write ``OUTPUTS`` into the directory of a comparison."""
    rows = summarise(plan, outcomes)
    info = machine()
    write_json(
        out / "summary.json",
        {"title": plan.title, "orders": plan.orders, "seeds": plan.seeds, "rows": rows, "machine": info},
    )
    note = (
        f"{_counted('order', plan.orders)}; {_counted('seed', plan.seeds)};"
        f"{' mean and sample s.d.;' if len(plan.orders) * len(plan.seeds) > 1 else ''}"
        f" {info['processor']}, {info['threads']} thread{'' if info['threads'] == 1 else 's'}"
    )
    text = "\n".join([f"# {plan.title}", "", *table_lines(rows), "", note, ""])
    write_atomically(out / "table.md", [text.encode()])
    curves = {
        variant: [
            [line["test_accuracy"] for line in o.metrics]
            for o in outcomes
            if o.variant == variant and o.metrics
        ]
        for variant in plan.variants
    }
    curves = {variant: runs for variant, runs in curves.items() if runs}
    if curves:
        figure = spread_curves(curves, title=plan.title, note=note)
        for kind in ("png", "svg"):
            write_atomically(out / f"accuracy.{kind}", [figure_bytes(figure, kind)])


def _counted(noun: str, values: Sequence[int]) -> str:
    return f"{noun if len(values) == 1 else noun + 's'} {', '.join(map(str, values))}"
