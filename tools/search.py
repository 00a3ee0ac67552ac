"""Run the search over settings of recipes/search-real.yaml and write its table into docs/search.md.

    python tools/search.py --data-root OBJECTS --backbone VIT_TINY
    python tools/search.py … --page-only          # from the runs that are finished

It uses one thread and, if started again, continues where it was. The page's text is written by hand. The text
between ``<!-- search -->`` and ``<!-- end -->`` is replaced, except that the row of a setting without a run here
stays as it is.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitlr.commands.compare import run_plan
from vitlr.evaluation.records import read_metrics
from vitlr.learning import LearnerConfig
from vitlr.runs.plan import Plan, read_plan
from vitlr.runs.summary import Outcome, summarise
from vitlr.runs.train import FAILURE
from vitlr.storage.files import write_atomically

SEARCHED: dict[str, tuple[str, ...]] = {
    "ar1": ("lr", "si_lambda"),
    "ar1_replay": ("lr", "si_lambda"),
    "der": ("lr", "der_alpha", "der_beta"),
    "class_mean": (),
    "slda": ("slda_shrinkage",),
    "ranpac": ("ranpac_width", "ranpac_ridge"),
}
HERE = Path(__file__).resolve().parent.parent


def ended(plan: Plan, out: Path) -> list[Outcome]:
    """The finished runs, and those that failed."""
    outcomes = []
    for variant in plan.variants:
        for config in plan.configs(variant, out):
            failure = config.run_dir / FAILURE
            if (config.run_dir / "summary.json").is_file():
                metrics = read_metrics(config.run_dir)
                outcomes.append(Outcome(variant=variant, config=config, metrics=metrics))
            elif failure.is_file():
                why = json.loads(failure.read_text())["failure"]
                outcomes.append(Outcome(variant=variant, config=config, metrics=[], failure=why))
    return outcomes


def method_of(plan: Plan, variant: str) -> tuple[str, int]:
    """Method and cut: what settings are compared within."""
    settings = {**plan.base, **plan.variants[variant]}
    return settings.get("learner.method", LearnerConfig.method), settings["backbone.cut"]


def settings_of(plan: Plan, variant: str) -> str:
    """The settings that the search varies within the method, with defaults for those not given."""
    method, _ = method_of(plan, variant)
    given, names = plan.variants[variant], SEARCHED.get(method, ("lr",))
    values = {name: given.get(f"learner.{name}", getattr(LearnerConfig, name)) for name in names}
    shown = (
        f"{name} {'by held-out error' if value is None else f'{value:g}'}" for name, value in values.items()
    )
    return ", ".join(shown) or "none to choose"


def table(plan: Plan, rows: dict[str, dict[str, Any]], standing: str) -> str:
    """The rows as Markdown, those without a run as in ``standing``; the best of each method is bold."""
    kept = {tuple(cells[:2]): cells[2:] for cells in map(_cells, standing.splitlines()) if len(cells) == 4}
    lines = [
        "| method | settings | final accuracy, % | average along the stream, % |",
        "|---|---|---|---|",
    ]
    groups: dict[tuple[str, int], list[str]] = {}
    for variant in plan.variants:
        groups.setdefault(method_of(plan, variant), []).append(variant)
    for (method, cut), variants in groups.items():
        shown: dict[str, list[str]] = {}
        for variant in variants:
            row, label = rows[variant], settings_of(plan, variant)
            if row["runs"]:
                final, average = row["test_accuracy"][0], row["average_test_accuracy"][0]
                shown[label] = [f"{100 * final:.1f}", f"{100 * average:.1f}"]
            elif row["failures"]:
                shown[label] = ["failed: " + row["failures"][0].split(": ", 1)[1], ""]
            else:
                found = kept.get((f"{method} (cut {cut})", label), ["not run", ""])
                shown[label] = [found[0].strip("*"), found[1]]
        finals = [float(cells[0]) for cells in shown.values() if re.fullmatch(r"[\d.]+", cells[0])]
        for label, (final, average) in shown.items():
            best = len(shown) > 1 and finals and final == f"{max(finals):.1f}"
            lines.append(
                f"| {method} (cut {cut}) | {label} | {f'**{final}**' if best else final} | {average} |"
            )
    return "\n".join(lines)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", required=True, help="folder of the images")
    parser.add_argument("--backbone", required=True, help="the network")
    parser.add_argument("--out", type=Path, default=Path("runs/search"), help="default %(default)s")
    parser.add_argument("--page", type=Path, default=HERE / "docs" / "search.md")
    parser.add_argument("--page-only", action="store_true", help="run nothing")
    options = parser.parse_args()
    plan = read_plan(HERE / "recipes" / "search-real.yaml")
    given = {"data.root": options.data_root, "backbone.name": options.backbone}
    plan = replace(plan, base={**plan.base, **given})
    if not options.page_only:
        run_plan(plan, options.out, quiet=False)
    rows = {row["variant"]: row for row in summarise(plan, ended(plan, options.out))}
    text = options.page.read_text(encoding="utf-8")
    place = re.search(r"(<!-- search -->\n)(.*?)(<!-- end -->)", text, re.DOTALL)
    if place is None:
        raise SystemExit(f"{options.page} has no <!-- search --> … <!-- end -->")
    text = f"{text[: place.start(2)]}{table(plan, rows, place[2])}\n{text[place.end(2) :]}"
    write_atomically(options.page, [text.encode()])
    print(options.page)


if __name__ == "__main__":
    main()
