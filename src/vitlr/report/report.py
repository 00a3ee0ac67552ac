"""From runs to one page: measures, tables, figures."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure

from vitlr.evaluation import metrics
from vitlr.evaluation.records import (
    backward_transfer,
    class_matrix,
    forward_transfer,
    running_forgetting,
    value_of,
)
from vitlr.report.charts import class_heat_map, memory_composition, spread_curves, time_per_experience
from vitlr.report.confusion import confusion_matrix
from vitlr.report.figures import figure_bytes
from vitlr.report.gather import RunData
from vitlr.report.page import Part, Table, html_page

__all__ = ["Report", "make_report", "measures", "problems_of"]

FRAMES_PER_SECOND = 20  # at which CORe50 was recorded (Lomonaco & Maltoni 2017)
SHOWN = 12  # methods with figures of their own

# Published beside CORe50 at full size, another network each (MobileNetV1, 128 pixels), so levels to compare with
# and no targets. Without replay: Lomonaco et al. 2020 (arXiv:1907.03799), mean of ten runs; latent replay, 1500
# patterns: the PyTorch port of Pellegrini et al. 2020 (arXiv:1912.01100).
PUBLISHED = {
    "nicv2_391": {
        "published: latent replay, 1500 patterns": 0.77,
        "published: CWR*, no replay": 0.5699,
        "published: AR1*, no replay": 0.5632,
        "published: naive": 0.0803,
    },
    "nicv2_196": {
        "published: AR1*, no replay": 0.6058,
        "published: CWR*, no replay": 0.5688,
        "published: naive": 0.1888,
    },
    "nicv2_79": {
        "published: AR1*, no replay": 0.6350,
        "published: CWR*, no replay": 0.5707,
        "published: naive": 0.2675,
    },
}


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
    problems = problems_of(runs, failures)
    figures = _Figures()
    parts: list[Part | None] = [_table_part(rows, problems), _sessions_part(finished)]
    if finished:
        parts += [_along(finished, figures), _classes(finished, figures), _confusions(finished, figures)]
        parts += [_memory(finished, figures), _time(finished, figures)]
    parts.append(_settings(groups))
    streams = sorted({_stream(run) for run in runs} - {""})
    title = f"Continual learning report: {', '.join(streams) or 'no finished run'}"
    return Report(
        html=html_page(title, _note(runs, finished), [part for part in parts if part]),
        figures=figures.figures,
        svgs=figures.svgs,
        rows=rows,
    )


def problems_of(runs: Sequence[RunData], failures: Sequence[str]) -> list[str]:
    """What is missing or was left out, a sentence each."""
    return [*failures, *(f"{run.method}, {run.order}: {run.problem}" for run in runs if run.problem)]


# -- measures -------------------------------------------------------------------------------------------


def measures(run: RunData) -> dict[str, float]:
    """Everything the table shows of one finished run; NaN where the run does not tell it."""
    matrix_EC, learned_C = class_matrix(run.metrics)
    last, told = run.metrics[-1], run.predictions or {}
    names = told.get("class_names", [])
    labels, predictions = np.array(told.get("labels", []), int), np.array(told.get("predictions", []), int)
    category_C = metrics.categories_of(names)[0]
    confidence = np.array(told.get("confidence", []), float)
    seconds = [line["seconds"]["encode"] + line["seconds"]["learn"] for line in run.metrics]
    gflop = [sum(line["gflop"].values()) for line in run.metrics if line.get("gflop")]
    known = learned_C < len(matrix_EC)
    return {
        "test_accuracy": value_of(last["test_accuracy"]),
        "seen_accuracy": value_of(last["seen_accuracy"]),
        "average_accuracy": metrics.average_incremental_accuracy(
            [value_of(line["test_accuracy"]) for line in run.metrics]
        ),
        "forgetting": metrics.forgetting(matrix_EC[:, known], learned_C[known]),
        "backward_transfer": backward_transfer(run.metrics),
        "forward_transfer": forward_transfer(run.metrics),
        "category_accuracy": metrics.category_accuracy(labels, predictions, category_C)
        if category_C is not None and len(labels)
        else float("nan"),
        "calibration_error": metrics.calibration_error(confidence, labels == predictions)
        if len(confidence)
        else float("nan"),
        "learn_seconds": float(np.mean([line["seconds"]["learn"] for line in run.metrics])),
        "seconds": float(np.mean(seconds)),
        "memory_bytes": float(max(line["memory"]["bytes"] for line in run.metrics)),
        "peak_memory_bytes": value_of((run.summary or {}).get("peak_memory_bytes")),
        "gflop": float(np.mean(gflop)) if gflop else float("nan"),
    }


# -- the table ------------------------------------------------------------------------------------------

_PERCENT: Callable[[float], str] = lambda value: f"{100 * value:.1f}"  # noqa: E731
_MEGA: Callable[[float], str] = lambda value: f"{value / 1e6:.1f}"  # noqa: E731
_ACCURACY: dict[str, tuple[str, Callable[[float], str]]] = {
    "test_accuracy": ("final accuracy, %", _PERCENT),
    "seen_accuracy": ("on seen classes, %", _PERCENT),
    "average_accuracy": ("average along the stream, %", _PERCENT),
    "category_accuracy": ("category accuracy, %", _PERCENT),
    "forgetting": ("forgetting, points", _PERCENT),
    "backward_transfer": ("backward transfer, points", _PERCENT),
    "forward_transfer": ("forward transfer, points", _PERCENT),
    "calibration_error": ("calibration error, %", _PERCENT),
}
_COST: dict[str, tuple[str, Callable[[float], str]]] = {
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
        row[key] = _mean_sd([value[key] for value in values])
    return row


def _mean_sd(values: Sequence[float]) -> dict[str, float | None] | None:
    mean, spread = metrics.mean_and_sd(values)
    return None if np.isnan(mean) else {"mean": mean, "sd": None if np.isnan(spread) else spread}


def _table_part(rows: Sequence[dict[str, Any]], problems: Sequence[str]) -> Part:
    return Part(
        title="Results",
        text="Mean ± sample standard deviation over runs. Images of classes not yet seen count as wrong in the"
        " accuracy. Forgetting is the best accuracy that a class ever had before the last experience minus its last,"
        " averaged over classes (Chaudhry et al. 2018); backward transfer is its last accuracy minus that after its"
        " first experience, and forward transfer how often an object is taken for one of its category just before"
        " its first experience, minus chance (Lopez-Paz & Ranzato 2017); calibration error is the expected one with 15"
        " bins (Guo et al. 2017), of probabilities by softmax, which the scores of nearest class mean and RanPAC are"
        " not made for. Latents that were encoded before, for another run or on disk, cost no time again.",
        warnings=tuple(problems),
        tables=(_table(rows, _ACCURACY), _table(rows, _COST)),
    )


def _table(
    rows: Sequence[dict[str, Any]], columns: Mapping[str, tuple[str, Callable[[float], str]]]
) -> Table:
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
    """Final accuracy by recording session, where the runs tell it."""
    told = {
        name: [run.metrics[-1].get("session_accuracy") or {} for run in group]
        for name, group in groups.items()
    }
    sessions = sorted({session for runs in told.values() for run in runs for session in run}, key=int)
    if not sessions:
        return None
    rows = [
        (
            name,
            *(_cell(_mean_sd([run.get(session, np.nan) for run in runs]), _PERCENT) for session in sessions),
        )
        for name, runs in told.items()
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


# -- figures --------------------------------------------------------------------------------------------

Groups = Mapping[str, Sequence[RunData]]


class _Figures:
    """What has been drawn: figures, and their SVG, which page and files share."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}
        self.svgs: dict[str, bytes] = {}

    def svg(self, name: str, figure: Figure) -> bytes:
        """Keep a figure under a file name; returns its SVG."""
        self.figures[name], self.svgs[name] = figure, figure_bytes(figure, "svg")
        return self.svgs[name]


def _along(groups: Groups, figures: _Figures) -> Part:
    accuracy = {
        name: [[value_of(line["test_accuracy"]) for line in run.metrics] for run in group]
        for name, group in groups.items()
    }
    lost = {name: [running_forgetting(run.metrics) for run in group] for name, group in groups.items()}
    lines = _published(groups)
    drawn = spread_curves(accuracy, ylabel="accuracy on the whole test set", lines=lines)
    caption = "Accuracy along the stream: the mean of a method's runs, and a band of one standard deviation."
    if lines:
        sets = " and ".join(sorted({str(r.config["data"].get("test")) for g in groups.values() for r in g}))
        caption += " Grey: published figures on the same data and protocol, with MobileNetV1. "
        caption += f"Judged here on the {sets} test set."
    shown = [(figures.svg("accuracy", drawn), caption)]
    category = {
        name: [[value_of(line.get("category_accuracy")) for line in run.metrics] for run in group]
        for name, group in groups.items()
    }
    if any(not np.isnan(run).all() for runs in category.values() for run in runs):
        drawn = spread_curves(category, ylabel="category accuracy on the whole test set")
        caption = (
            "The same predictions judged by category: right where the predicted object is of the right one."
        )
        shown.append((figures.svg("accuracy-categories", drawn), caption))
    if any(not np.isnan(run).all() for runs in lost.values() for run in runs):
        drawn = spread_curves(lost, ylabel="forgetting")
        shown.append(
            (
                figures.svg("forgetting", drawn),
                "Forgetting up to each experience: how far classes are below their best accuracy so far.",
            )
        )
    return Part(title="Along the stream", figures=tuple(shown))


def _published(groups: Groups) -> dict[str, float]:
    """Published levels, only where every run is CORe50 itself, whole, with its 50 objects as labels, and all are judged
    on one test set."""
    kinds = set()
    for run in (run for group in groups.values() for run in group):
        summary, data = run.summary or {}, run.config.get("data", {})
        whole = data.get("dataset") == "core50" and data.get("labels") == "object"
        whole = whole and not summary.get("notes") and not summary.get("skipped_images")
        kinds.add((data.get("scenario"), data.get("test")) if whole else None)
    kind = kinds.pop() if len(kinds) == 1 else None
    return PUBLISHED.get(str(kind[0]), {}) if kind else {}


def _classes(groups: Groups, figures: _Figures) -> Part:
    shown = []
    for number, (name, group) in enumerate(list(groups.items())[:SHOWN]):
        matrix_EC, _ = class_matrix(group[0].metrics)
        drawn = class_heat_map(matrix_EC, list(group[0].metrics[0]["class_accuracy"]), title=name)
        caption = f"{name}, {group[0].order}: accuracy of each class; grey before it is known."
        shown.append((figures.svg(f"classes-{number + 1}", drawn), caption))
    return Part(title="Classes over time", text=_only_first(groups), figures=tuple(shown))


def _only_first(groups: Groups) -> str:
    text = "Of each method its first run is drawn."
    if len(groups) > SHOWN:
        text += f" {SHOWN} of {len(groups)} methods are shown; give fewer runs for the others."
    return text


def _confusions(groups: Groups, figures: _Figures) -> Part:
    shown = []
    for number, (name, group) in enumerate(list(groups.items())[:SHOWN]):
        told = [run.predictions for run in group if run.predictions]
        if not told:
            continue
        names = told[0]["class_names"]
        told = [each for each in told if each["class_names"] == names]
        counts = np.zeros((len(names), len(names)), dtype=np.int64)
        for each in told:
            labels, predictions = np.array(each["labels"], int), np.array(each["predictions"], int)
            counts += metrics.confusion_matrix(labels, predictions, len(names))
        runs = "1 run" if len(told) == 1 else f"{len(told)} runs together"
        category_C, categories = metrics.categories_of(names)
        caption = f"{name}: {{}} classes, {runs}; a row is a true class and sums to 100 %."
        drawn = confusion_matrix(counts, names, title=name)
        shown.append((figures.svg(f"confusion-{number + 1}", drawn), caption.format(len(names))))
        if category_C is not None:
            merged = np.zeros((len(categories), len(categories)), dtype=int)
            np.add.at(merged, (category_C[:, None], category_C[None, :]), counts)
            drawn = confusion_matrix(merged, categories, title=f"{name}, categories")
            shown.append(
                (figures.svg(f"confusion-categories-{number + 1}", drawn), caption.format(len(categories)))
            )
    return Part(
        title="Confusion", text="After the last experience, on the whole test set.", figures=tuple(shown)
    )


def _memory(groups: Groups, figures: _Figures) -> Part | None:
    shown = []
    for number, (name, group) in enumerate(list(groups.items())[:SHOWN]):
        lines = group[0].metrics
        if not any(line["memory"]["count"] for line in lines):
            continue
        names = list(lines[0]["class_accuracy"])
        counts_EC = np.array([[line["memory"]["per_class"].get(each, 0) for each in names] for line in lines])
        category_C, groups_of = metrics.categories_of(names)
        if category_C is not None:
            merged = np.zeros((len(counts_EC), len(groups_of)), dtype=int)
            np.add.at(merged.T, category_C, counts_EC.T)
            counts_EC, names = merged, groups_of
        drawn = memory_composition(counts_EC, names, title=name)
        what = "category" if category_C is not None else "class"
        shown.append(
            (
                figures.svg(f"memory-{number + 1}", drawn),
                f"{name}, {group[0].order}: latents of each {what}.",
            )
        )
    if not shown:
        return None
    return Part(title="What is remembered", text=_only_first(groups), figures=tuple(shown))


def _time(groups: Groups, figures: _Figures) -> Part:
    seconds = {}
    for name, group in groups.items():
        length = min(len(run.metrics) for run in group)
        each = [
            [sum(line["seconds"][part] for part in ("encode", "learn")) for line in run.metrics]
            for run in group
        ]
        seconds[name] = np.mean([run[:length] for run in each], axis=0).tolist()
    recorded: dict[str, Sequence[float]] = {}
    how = ""
    for run in (group[0] for group in groups.values()):
        lengths, told = _recorded(run)
        if lengths is not None:
            recorded.setdefault(_stream(run), lengths)
            how = how or told
    if len(recorded) == 1:
        recorded = {"recorded length": next(iter(recorded.values()))}
    else:
        recorded = {f"recorded length, {name}": lengths for name, lengths in recorded.items()}
    drawn = time_per_experience(seconds, recorded)
    caption = (
        "Seconds to encode and learn each experience, the mean of a method's runs: a point each, and a line through the"
        " median of those around it (latents that were encoded"
    )
    caption += f" before, for another run or on disk, cost no time again). {how}"
    return Part(title="Time", figures=((figures.svg("time", drawn), caption),))


def _stream(run: RunData) -> str:
    """``core50 nicv2_391``; empty for a run that is not finished, as it does not tell."""
    name = str((run.summary or {}).get("stream", ""))
    return re.sub(r" run \d+$", "", name)


def _recorded(run: RunData) -> tuple[list[float] | None, str]:
    """Seconds of video behind each experience of CORe50 or its rendered likeness, and how that is known."""
    data, notes = run.config.get("data", {}), (run.summary or {}).get("notes", [])
    part = 1.0
    if data.get("dataset") == "rendered":
        part = float(data.get("frames") or 300) / 300
    elif data.get("dataset") != "core50":
        return None, ""
    for note in notes:
        found = re.match(r"([\d,]+) of ([\d,]+) frames found", str(note))
        if found:
            part = int(found[1].replace(",", "")) / int(found[2].replace(",", ""))
    lengths = [line["num_images"] / part / FRAMES_PER_SECOND for line in run.metrics]
    how = "The grey line is the length of the video that the images were taken from, at CORe50's 20 frames a second"
    if part < 1:
        how += f"; this copy holds {part:.1%} of the frames, so its images stand for {1 / part:.0f} times as many"
    return lengths, how + "."


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
        folded.append((f"{name}: {'; '.join(run.order for run in begun)}", text))
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
    told = [json.loads(text) for text in sorted(machines)]
    each_machine = [
        f"{each.get('processor')}, {each.get('threads')} thread{'' if each.get('threads') == 1 else 's'},"
        f" vitlr {each.get('vitlr')}, torch {each.get('torch')}"
        for each in told
    ]
    where = "; ".join(dict.fromkeys(each_machine))
    notes = {str(note) for run in runs for note in (run.summary or {}).get("notes", [])}
    count = sum(len(group) for group in finished.values())
    return (
        ". ".join(
            [f"{count} finished run{'' if count == 1 else 's'}", *sorted(notes), *([where] if where else [])]
        )
        + "."
    )
