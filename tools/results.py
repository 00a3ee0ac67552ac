"""Make the tables and figures of docs/results.md from the recipes, and write them into the page.

    python tools/results.py rendered real --data-root OBJECTS --backbone VIT_TINY
    python tools/results.py rendered                    # needs no download
    python tools/results.py rendered real --page-only   # from the runs that are finished

Every variant of ``recipes/results-PART.yaml`` is run on orders 1, 2 and 3, each run in one thread,
``--processes`` of them side by side; native replay on NICv2-391, which takes hours, only with --slow. If started
again, it continues where it was. Seconds are those of the median experience in the fastest of the orders. The
page's text is written by hand. The text between ``<!-- NAME -->`` and ``<!-- end -->`` is replaced, except that the
row of a variant whose runs are not all finished here stays as it is. A figure is drawn only if all of
its variants are finished.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from vitlr.errors import VitLRError
from vitlr.evaluation.records import read_metrics
from vitlr.report.figures import figure_bytes, spread_curves
from vitlr.report.tradeoffs import Point, accuracy_against, bytes_text
from vitlr.runs.plan import Plan, read_plan
from vitlr.runs.settings import RunConfig, to_yaml
from vitlr.runs.summary import Outcome, summarise
from vitlr.runs.tracking import machine
from vitlr.storage.files import write_atomically

HERE = Path(__file__).resolve().parent.parent
BLOCKS = {"real": 12, "rendered": 6}
SLOW = "native replay"  # names of variants that only --slow runs


def given(plan: Plan, options: argparse.Namespace) -> Plan:
    """The plan over the images and the network that the command line names."""
    given = {"data.root": options.data_root, "backbone.name": options.backbone}
    return replace(plan, base={**plan.base, **{name: value for name, value in given.items() if value}})


def run_flags(config: RunConfig) -> list[str]:
    """Flags of ``vitlr train`` that start this run or continue it."""
    if (config.run_dir / "checkpoint").is_dir():
        return ["--resume", str(config.run_dir)]
    settings = config.run_dir.with_suffix(".yaml")
    settings.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(settings, [to_yaml(config).encode()])
    again = ["--overwrite"] if config.run_dir.exists() else []
    return ["--config", str(settings), "--out", str(config.run_dir), *again]


def one_run(config: RunConfig) -> str:
    """Run it in its own process, in one thread; returns the reason if it failed."""
    try:
        command = [sys.executable, "-m", "vitlr", "train", "--quiet", *run_flags(config)]
        done = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
    except (OSError, VitLRError) as error:
        return str(error)
    return done.stderr.strip()[-300:] or f"exit code {done.returncode}" if done.returncode else ""


def work(plan: Plan, options: argparse.Namespace, out: Path) -> list[str]:
    """Run what is not finished, one process per run; returns the failures."""
    tasks: queue.Queue[tuple[str, int]] = queue.Queue()
    for run in plan.orders:
        for variant in plan.variants:
            tasks.put((variant, run))
    total, failed, lock = tasks.qsize(), [], threading.Lock()
    finished = [0]

    def worker() -> None:
        while True:
            try:
                variant, run = tasks.get_nowait()
            except queue.Empty:
                return
            config = next(iter(replace(plan, orders=(run,)).configs(variant, out)))
            state = "found"
            if not (config.run_dir / "summary.json").is_file():
                began = time.perf_counter()
                failure = one_run(config)
                state = "FAILED" if failure else f"{time.perf_counter() - began:.0f} s"
                if failure:
                    failed.append(f"{variant}, run {run}: {failure}")
            with lock:
                finished[0] += 1
                print(f"[{finished[0]}/{total}] {variant}, run {run}: {state}", flush=True)

    threads = [threading.Thread(target=worker) for _ in range(options.processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def finished_runs(plan: Plan, out: Path) -> list[Outcome]:
    return [
        Outcome(variant=variant, config=config, metrics=read_metrics(config.run_dir))
        for variant in plan.variants
        for config in plan.configs(variant, out)
        if (config.run_dir / "summary.json").is_file()
    ]


def learn_seconds(outcomes: list[Outcome]) -> dict[str, float]:
    """Seconds to learn a run's median experience, by variant, in the fastest of its runs, so that a run that had to
    wait for the machine does not count."""
    found: dict[str, list[float]] = {}
    for outcome in outcomes:
        spent = statistics.median(line["seconds"]["learn"] for line in outcome.metrics)
        found.setdefault(outcome.variant, []).append(spent)
    return {variant: min(values) for variant, values in found.items()}


def table(
    rows: dict[str, dict],
    names: list[str],
    expected: int,
    seconds: dict[str, float],
    standing: dict[str, str],
) -> str:
    """The rows as Markdown; ``standing``: the page's rows by variant, kept if not all runs are finished."""
    lines = [
        "| | final accuracy, % | average along the stream, % | learning, s an experience | memory, kB |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        row, kept = rows[name], standing.get(_md(name), "not run")
        if row["runs"] < expected and "not run" not in kept:
            lines.append(kept)
        elif not row["runs"]:
            lines.append(f"| {_md(name)} | not run | | | |")
        else:
            few = "" if row["runs"] == expected else f" ({row['runs']} of {expected} orders)"
            lines.append(
                f"| {_md(name)}{few} | {_percent(row, 'test_accuracy')} | {_percent(row, 'average_test_accuracy')}"
                f" | {seconds[name]:.2g} | {row['memory_bytes'] / 1e3:,.0f} |"
            )
    return "\n".join(lines)


def _percent(row: dict, measure: str) -> str:
    mean, spread = row[measure]
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def _md(name: str) -> str:
    return name.replace("*", "\\*")


def groups(plan: Plan, last: int) -> dict[str, list[str]]:
    """The variants of each table, by their names."""
    names = list(plan.variants)
    memory = [n for n in names if "memory" in n or re.search(r"bfloat16|int\d", n)]
    streams = [n for n in names if n.startswith(("NICv2-79", "NC ", "NIC ", "NI "))]
    two = [n for n in names if n.startswith("two memories")]
    cuts = [n for n in names if re.fullmatch(r"latent replay \(cut \d+(, training in 16 bits)?\)", n)]
    memory = [n for n in memory if n not in two and n not in streams]
    others = [n for n in names if n not in {*memory, *streams, *cuts, *two}]
    base = [f"latent replay (cut {last})", f"latent replay (cut {last - 1})"]
    precision = [n for n in others if "trunk" in n]
    methods = [n for n in others if n not in precision]
    found = {"methods": ["two memories", *methods, *base], "two": two, "cuts": cuts}
    found |= {"memory": [*base, *memory], "streams": streams}
    return {**found, "precision": [base[1], *precision]} if precision else found


def _point(row: dict, x: float, name: str = "") -> Point:
    return Point(x=x, accuracy=row["test_accuracy"][0], spread=row["test_accuracy"][1] or 0.0, name=name)


def figures(part: str, plan: Plan, rows: dict[str, dict], outcomes: list[Outcome], note: str) -> dict:
    grouped = groups(plan, BLOCKS[part])
    made = {}
    expected = len(plan.orders) * len(plan.seeds)
    whole = {
        group for group, names in grouped.items() if all(rows[name]["runs"] == expected for name in names)
    }
    if "methods" in whole:
        curves = {
            name: [[line["test_accuracy"] for line in o.metrics] for o in outcomes if o.variant == name]
            for name in grouped["methods"]
        }
        made["methods"] = spread_curves(curves, title=f"{plan.title}, NICv2-391", note=note, size=(9.4, 5.4))
    if "cuts" in whole:
        cuts = {name: int(re.search(r"cut (\d+)", name)[1]) for name in grouped["cuts"]}  # type: ignore[index]
        points = [_point(rows[n], BLOCKS[part] - cut, f"cut {cut}") for n, cut in cuts.items()]
        made["cuts"] = accuracy_against(
            {"latent replay, 300 latents": points},
            f"trained blocks of {BLOCKS[part]}",
            logarithmic=False,
            title=plan.title,
            note=note,
        )
    if "memory" not in whole:
        return made
    series: dict[str, list[Point]] = {}
    for name in grouped["memory"]:
        cut = re.search(r"cut (\d+)", name)[1]  # type: ignore[index]
        codec = re.search(r"bfloat16|int\d", name)
        count = re.search(r"memory (\d+)", name)
        key = f"cut {cut}, by codec" if codec else f"cut {cut}, float32 by number of latents"
        label = codec[0] if codec else (count[1] if count else "300")
        if codec and count:
            key, label = f"cut {cut}, {codec[0]} by number of latents", count[1]
            fewer = rows[f"latent replay (cut {cut}, {codec[0]})"]  # the start of this line
            series.setdefault(key, []).append(_point(fewer, fewer["memory_bytes"]))
        point = _point(rows[name], rows[name]["memory_bytes"], label)
        series.setdefault(key, []).append(point)
        if name == f"latent replay (cut {BLOCKS[part] - 1})":  # in both lines, which meet there
            series.setdefault(f"cut {cut}, by codec", []).append(replace(point, name="float32"))
    made["memory"] = accuracy_against(series, "replay memory", text=bytes_text, title=plan.title, note=note)
    return made


def write_page(part: str, plan: Plan, out: Path, page: Path) -> None:
    outcomes = finished_runs(plan, out)
    rows = {row["variant"]: row for row in summarise(plan, outcomes)}
    note = (
        f"orders {', '.join(map(str, plan.orders))}; seed {', '.join(map(str, plan.seeds))}; mean and sample s.d.;"
        f" {machine()['processor']}, one thread a run"
    )
    text = page.read_text(encoding="utf-8")
    seconds = learn_seconds(outcomes)
    for group, names in groups(plan, BLOCKS[part]).items():
        place = _place(text, f"{part}-{group}")
        standing = {
            re.sub(r" \(\d+ of \d+ orders\)$", "", line.split(" | ")[0].removeprefix("| ")): line
            for line in place[2].splitlines()
        }
        made = table(rows, names, len(plan.orders) * len(plan.seeds), seconds, standing)
        text = f"{text[: place.start(2)]}{made}\n{text[place.end(2) :]}"
    folder = page.parent / "figures"
    folder.mkdir(exist_ok=True)
    for name, figure in figures(part, plan, rows, outcomes, note).items():
        write_atomically(folder / f"{part}-{name}.png", [figure_bytes(figure, "png")])
    write_atomically(page, [text.encode()])


def _place(text: str, name: str) -> re.Match[str]:
    """The position of this table in the page, as the second group."""
    found = re.search(rf"(<!-- {name} -->\n)(.*?)(<!-- end -->)", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"the page has no <!-- {name} --> … <!-- end -->")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="+", choices=("rendered", "real"), metavar="PART", help="rendered, real"
    )
    parser.add_argument("--data-root", help="folder of the real images, instead of the recipe's")
    parser.add_argument("--backbone", help="network for the real images, instead of the recipe's")
    parser.add_argument("--out", type=Path, default=Path("runs/results"), help="default %(default)s")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default %(default)s")
    parser.add_argument("--slow", action="store_true", help="also run native replay on NICv2-391: hours more")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="run only this variant; may be repeated"
    )
    parser.add_argument("--page", type=Path, default=HERE / "docs" / "results.md")
    parser.add_argument("--page-only", action="store_true", help="run nothing")
    options = parser.parse_args()
    failed = []
    for part in options.parts:
        recipe, out = HERE / "recipes" / f"results-{part}.yaml", options.out / part
        plan = read_plan(recipe)
        if part == "real":
            plan = given(plan, options)
        if not options.page_only:
            names = options.only or [n for n in plan.variants if options.slow or not n.startswith(SLOW)]
            chosen = {n: plan.variants[n] for n in names}
            failed += work(replace(plan, variants=chosen), options, out)
        if options.page.is_file():
            write_page(part, plan, out, options.page)
            print(options.page)
    if failed:
        print("\n".join(failed), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
