"""From runs to one page: measures, tables, figures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure

from vitlr.evaluation.metrics import mean_and_sd
from vitlr.evaluation.records import run_measures, value_of
from vitlr.report import sections
from vitlr.report.gather import RunData
from vitlr.report.page import Part, Table, html_page
from vitlr.report.sections import Drawn, Groups, stream_name

__all__ = ["Report", "make_report", "measures", "problems_of"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The page, its figures and their SVG by file name without suffix, and the tables' numbers for scripts."""

    html: str
    figures: dict[str, Figure]
    svgs: dict[str, bytes]
    rows: list[dict[str, Any]]


def make_report(runs: Sequence[RunData], failures: Sequence[str]) -> Report:
    """One report over all these runs; runs with the same method's name are its repetitions."""
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        groups.setdefault(run.method, []).append(run)
    finished = {name: [run for run in group if run.finished] for name, group in groups.items()}
    finished = {name: group for name, group in finished.items() if group}
    rows = [_row(name, groups[name], finished.get(name, [])) for name in groups]
    drawn = Drawn()
    parts: list[Part | None] = [_table_part(rows, problems_of(runs, failures)), _sessions_part(finished)]
    if finished:
        parts += [sections.along(finished, drawn), sections.tradeoffs(rows, drawn)]
        parts += [sections.classes(finished, drawn), sections.confusions(finished, drawn)]
        parts += [sections.memory(finished, drawn), sections.time(finished, drawn)]
    parts.append(_settings(groups))
    streams = sorted({stream_name(run) for run in runs} - {""})
    title = f"Continual learning report: {', '.join(streams) or 'no finished run'}"
    page = html_page(title, _note(runs, finished), [part for part in parts if part])
    return Report(html=page, figures=drawn.figures, svgs=drawn.svgs, rows=rows)


def problems_of(runs: Sequence[RunData], failures: Sequence[str]) -> list[str]:
    """What is missing or was left out, a sentence each."""
    return [*failures, *(f"{run.method}, {run.repetition}: {run.problem}" for run in runs if run.problem)]


def measures(run: RunData) -> dict[str, float]:
    """Everything the table shows of one finished run; NaN if the run has no such value."""
    peak = value_of((run.summary or {}).get("peak_memory_bytes"))
    return {**run_measures(run.metrics), "peak_memory_bytes": peak}


# -- the table ------------------------------------------------------------------------------------------

_Columns = Mapping[str, tuple[str, Callable[[float], str]]]
_PERCENT: Callable[[float], str] = lambda value: f"{100 * value:.1f}"  # noqa: E731
_ACCURACY: _Columns = {
    "test_accuracy": ("final accuracy, %", _PERCENT),
    "seen_accuracy": ("on seen classes, %", _PERCENT),
    "average_test_accuracy": ("average along the stream, %", _PERCENT),
    "category_accuracy": ("category accuracy, %", _PERCENT),
    "forgetting": ("forgetting, points", _PERCENT),
    "backward_transfer": ("backward transfer, points", _PERCENT),
    "forward_transfer": ("forward transfer, points", _PERCENT),
    "calibration_error": ("calibration error, %", _PERCENT),
}
_COST: _Columns = {
    "learn_seconds": ("learning, s an experience", lambda value: f"{value:.3f}"),
    "seconds": ("with encoding, s", lambda value: f"{value:.3f}"),
    "gflop": ("GFLOP an experience", lambda value: f"{value:.1f}"),
    "memory_bytes": ("remembered, MB", lambda value: f"{value / 1e6:.2f}"),
    "peak_memory_bytes": ("peak memory of the process, MB", lambda value: f"{value / 1e6:.0f}"),
}


def _row(name: str, group: Sequence[RunData], finished: Sequence[RunData]) -> dict[str, Any]:
    failed = sum(run.failed for run in group)
    row: dict[str, Any] = {
        "method": name,
        "runs": len(finished),
        "failed": failed,
        "not_finished": len(group) - len(finished) - failed,
    }
    values = [measures(run) for run in finished]
    for key in (*_ACCURACY, *_COST) if values else ():
        row[key] = _spread([value[key] for value in values])
    return row


def _spread(values: Sequence[float]) -> dict[str, float | None] | None:
    pair = mean_and_sd(values)
    return None if pair is None else {"mean": pair[0], "sd": pair[1]}


def _table_part(rows: Sequence[dict[str, Any]], problems: Sequence[str]) -> Part:
    return Part(
        title="Results",
        text="Mean ± sample standard deviation over runs. Images of classes not yet seen count as wrong in the"
        " accuracy. Forgetting is the best accuracy that a class had before the last experience minus its last,"
        " averaged over classes (Chaudhry et al. 2018). Backward transfer is its last accuracy minus that after its"
        " first experience, and forward transfer how often an object is taken for one of its category just before"
        " its first experience, minus chance (Lopez-Paz & Ranzato 2017). Calibration error is the expected one with"
        " 15 bins (Guo et al. 2017), over images of classes seen, of probabilities by softmax, which the scores of"
        " nearest class mean and RanPAC are not made for. Latents that were encoded before, for another run or on"
        " disk, cost no time again.",
        warnings=tuple(problems),
        tables=(_table(rows, _ACCURACY), _table(rows, _COST)),
    )


def _table(rows: Sequence[dict[str, Any]], columns: _Columns) -> Table:
    shown = [key for key in columns if any(row.get(key) for row in rows)]
    lines = [
        (row["method"], _count(row), *(_cell(row.get(key), columns[key][1]) for key in shown)) for row in rows
    ]
    return Table(headings=("method", "runs", *(columns[key][0] for key in shown)), rows=tuple(lines))


def _count(row: Mapping[str, Any]) -> str:
    """``2, 1 failed``."""
    others = [f"{row[key]} {key.replace('_', ' ')}" for key in ("failed", "not_finished") if row[key]]
    return ", ".join([str(row["runs"]), *others])


def _sessions_part(groups: Groups) -> Part | None:
    """Final accuracy by recording session, if runs have it."""
    final = {
        name: [run.metrics[-1].get("session_accuracy") or {} for run in group]
        for name, group in groups.items()
    }
    sessions = sorted({session for runs in final.values() for run in runs for session in run}, key=int)
    if not sessions:
        return None
    rows = [
        (
            name,
            *(_cell(_spread([run.get(session, np.nan) for run in runs]), _PERCENT) for session in sessions),
        )
        for name, runs in final.items()
    ]
    return Part(
        title="Sessions",
        text="Final accuracy, %, on the test images of each recording session, none of which was trained on.",
        tables=(Table(headings=("method", *(f"session {each}" for each in sessions)), rows=tuple(rows)),),
    )


def _cell(pair: Mapping[str, float | None] | None, text: Callable[[float], str]) -> str:
    if pair is None or pair["mean"] is None:
        return "–"
    return text(pair["mean"]) + ("" if pair["sd"] is None else f" ± {text(pair['sd'])}")


# -- settings -------------------------------------------------------------------------------------------


def _settings(groups: Groups) -> Part:
    folded = []
    number = count(1)
    for name, group in groups.items():
        begun = [run for run in group if run.config]
        if not begun:
            continue
        commands = [
            f"vitlr train --config {shlex.quote(str(run.path / 'config.yaml'))} --out runs/again-{next(number)}"
            for run in begun
        ]
        text = "\n".join([*commands, "", yaml.safe_dump(begun[0].config, sort_keys=False).strip()])
        folded.append((f"{name}: {'; '.join(run.repetition for run in begun)}", text))
    return Part(
        title="Settings",
        text="The resolved configuration of each method's first run, and the commands that repeat all of them, in the"
        " directory in which they were started (paths are as they were given).",
        folded=tuple(folded),
    )


def _note(runs: Sequence[RunData], finished: Groups) -> str:
    machines = {
        json.dumps((run.summary or {}).get("machine", {}), sort_keys=True) for run in runs if run.summary
    }
    where = dict.fromkeys(
        f"{each.get('processor')}, {each.get('threads')} thread{'' if each.get('threads') == 1 else 's'},"
        f" vitlr {each.get('vitlr')}, torch {each.get('torch')}"
        for each in map(json.loads, sorted(machines))
    )
    notes = sorted({str(note) for run in runs for note in (run.summary or {}).get("notes", [])})
    number = sum(len(group) for group in finished.values())
    first = f"{number} finished run{'' if number == 1 else 's'}"
    return ". ".join([first, *notes, *(["; ".join(where)] if where else [])]) + "."
