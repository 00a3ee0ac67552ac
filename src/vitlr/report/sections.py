"""The sections of a report that show figures, from finished runs by method."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vitlr.evaluation import metrics
from vitlr.evaluation.records import class_matrix, running_forgetting, value_of
from vitlr.report.charts import class_heat_map, memory_composition, time_per_experience
from vitlr.report.confusion import confusion_matrix
from vitlr.report.figures import figure_bytes, spread_curves
from vitlr.report.gather import RunData
from vitlr.report.page import Part
from vitlr.report.tradeoffs import Point, accuracy_against, bytes_text

__all__ = [
    "PUBLISHED",
    "Drawn",
    "Groups",
    "along",
    "classes",
    "confusions",
    "memory",
    "stream_name",
    "time",
    "tradeoffs",
]

FRAMES_PER_SECOND = 20  # at which CORe50 was recorded (Lomonaco & Maltoni 2017)
SHOWN = 12  # methods with figures of their own

# Published for CORe50 at full size with another network each (MobileNetV1, 128 pixels): levels to compare with,
# not targets. Without replay: Lomonaco et al. 2020 (arXiv:1907.03799), mean of ten runs; latent replay, 1500
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

Groups = Mapping[str, Sequence[RunData]]


class Drawn:
    """Figures that have been drawn and their SVG by file name, shared by the page and the files."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}
        self.svgs: dict[str, bytes] = {}

    def svg(self, name: str, figure: Figure) -> bytes:
        """Add a figure under a file name; returns its SVG."""
        self.figures[name], self.svgs[name] = figure, figure_bytes(figure, "svg")
        return self.svgs[name]


def along(groups: Groups, drawn: Drawn) -> Part:
    """Accuracy, category accuracy and forgetting along the stream."""
    lines = _published(groups)
    caption = "Accuracy along the stream: the mean of a method's runs, and a band of one standard deviation."
    if lines:
        sets = " and ".join(sorted({str(r.config["data"].get("test")) for g in groups.values() for r in g}))
        caption += " Grey: published figures on the same data and protocol, with MobileNetV1. "
        caption += f"Judged here on the {sets} test set."
    accuracy = spread_curves(_curves(groups, "test_accuracy"), lines=lines)
    shown = [(drawn.svg("accuracy", accuracy), caption)]
    others = (
        (
            "accuracy-categories",
            _curves(groups, "category_accuracy"),
            "category accuracy on the whole test set",
            "The same predictions judged by category: right if the predicted object is of the right one.",
        ),
        (
            "forgetting",
            {name: [running_forgetting(run.metrics) for run in group] for name, group in groups.items()},
            "forgetting",
            "Forgetting up to each experience: how far classes are below their best accuracy so far.",
        ),
    )
    for name, curves, ylabel, caption in others:
        if any(not np.isnan(run).all() for runs in curves.values() for run in runs):
            shown.append((drawn.svg(name, spread_curves(curves, ylabel=ylabel)), caption))
    return Part(title="Along the stream", figures=tuple(shown))


def _curves(groups: Groups, measure: str) -> dict[str, list[list[float]]]:
    return {
        name: [[value_of(line.get(measure)) for line in run.metrics] for run in group]
        for name, group in groups.items()
    }


def _published(groups: Groups) -> dict[str, float]:
    """Published levels, only if every run is CORe50 itself, whole, with its 50 objects as labels, and all are judged
    on one test set."""
    protocols = set()
    for run in (run for group in groups.values() for run in group):
        summary, data = run.summary or {}, run.config.get("data", {})
        whole = data.get("dataset") == "core50" and data.get("labels") == "object"
        whole = whole and not summary.get("notes") and not summary.get("skipped_images")
        protocols.add((data.get("scenario"), data.get("test")) if whole else None)
    protocol = protocols.pop() if len(protocols) == 1 else None
    return PUBLISHED.get(str(protocol[0]), {}) if protocol else {}


def tradeoffs(rows: Sequence[Mapping[str, Any]], drawn: Drawn) -> Part | None:
    """What accuracy costs in bytes and in seconds, if there are methods to compare; ``rows`` of the table."""
    whole = [row for row in rows if row.get("test_accuracy")][:SHOWN]
    if len(whole) < 2:
        return None

    def points(cost: str) -> dict[str, list[Point]]:
        return {
            row["method"]: [
                Point(
                    x=row[cost]["mean"],
                    accuracy=row["test_accuracy"]["mean"],
                    spread=row["test_accuracy"]["sd"] or 0.0,
                    name=row["method"],
                )
            ]
            for row in whole
        }

    by_bytes = accuracy_against(points("memory_bytes"), "memory", text=bytes_text)
    by_seconds = accuracy_against(points("learn_seconds"), "seconds to learn an experience")
    return Part(
        title="What accuracy costs",
        text="The final accuracy of each method, mean and standard deviation of its runs.",
        figures=(
            (
                drawn.svg("accuracy-bytes", by_bytes),
                "Final accuracy against the most bytes that are remembered.",
            ),
            (
                drawn.svg("accuracy-seconds", by_seconds),
                "The same against seconds to learn an experience, without encoding.",
            ),
        ),
    )


def classes(groups: Groups, drawn: Drawn) -> Part:
    """Accuracy of each class after each experience."""
    shown = []
    for number, (name, group) in enumerate(list(groups.items())[:SHOWN]):
        matrix_EC, _ = class_matrix(group[0].metrics)
        figure = class_heat_map(matrix_EC, list(group[0].metrics[0]["class_accuracy"]), title=name)
        caption = f"{name}, {group[0].repetition}: accuracy of each class; grey before it is known."
        shown.append((drawn.svg(f"classes-{number + 1}", figure), caption))
    return Part(title="Classes over time", text=_only_first(groups), figures=tuple(shown))


def _only_first(groups: Groups) -> str:
    text = "Of each method its first run is drawn."
    if len(groups) > SHOWN:
        text += f" {SHOWN} of {len(groups)} methods are shown; give fewer runs for the others."
    return text


def confusions(groups: Groups, drawn: Drawn) -> Part:
    """What classes and categories were taken for at the end."""
    shown = []
    for number, (name, group) in enumerate(list(groups.items())[:SHOWN]):
        found = [run.predictions for run in group if run.predictions]
        if not found:
            continue
        names = found[0]["class_names"]
        found = [each for each in found if each["class_names"] == names]
        counts = np.zeros((len(names), len(names)), dtype=np.int64)
        for each in found:
            labels, predictions = np.array(each["labels"], int), np.array(each["predictions"], int)
            counts += metrics.confusion_matrix(labels, predictions, len(names))
        runs = "1 run" if len(found) == 1 else f"{len(found)} runs together"
        caption = f"{name}: {{}} classes, {runs}; a row is a true class and sums to 100 %."
        svg = drawn.svg(f"confusion-{number + 1}", confusion_matrix(counts, names, title=name))
        shown.append((svg, caption.format(len(names))))
        category_C, categories = metrics.categories_of(names)
        if category_C is not None:
            merged = np.zeros((len(categories), len(categories)), dtype=int)
            np.add.at(merged, (category_C[:, None], category_C[None, :]), counts)
            figure = confusion_matrix(merged, categories, title=f"{name}, categories")
            svg = drawn.svg(f"confusion-categories-{number + 1}", figure)
            shown.append((svg, caption.format(len(categories))))
    return Part(
        title="Confusion", text="After the last experience, on the whole test set.", figures=tuple(shown)
    )


def memory(groups: Groups, drawn: Drawn) -> Part | None:
    """What the memory holds after each experience, by category or class."""
    shown = []
    for number, (name, group) in enumerate(list(groups.items())[:SHOWN]):
        lines = group[0].metrics
        if not any(line["memory"]["count"] for line in lines):
            continue
        names, what = list(lines[0]["class_accuracy"]), "class"
        counts_EC = np.array([[line["memory"]["per_class"].get(each, 0) for each in names] for line in lines])
        category_C, categories = metrics.categories_of(names)
        if category_C is not None:
            merged = np.zeros((len(counts_EC), len(categories)), dtype=int)
            np.add.at(merged.T, category_C, counts_EC.T)
            counts_EC, names, what = merged, categories, "category"
        svg = drawn.svg(f"memory-{number + 1}", memory_composition(counts_EC, names, title=name))
        shown.append((svg, f"{name}, {group[0].repetition}: latents of each {what}."))
    if not shown:
        return None
    return Part(title="What is remembered", text=_only_first(groups), figures=tuple(shown))


def time(groups: Groups, drawn: Drawn) -> Part:
    """Seconds of each experience beside the length of the video that it was taken from."""
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
        lengths, source = _recorded(run)
        if lengths is not None:
            recorded.setdefault(stream_name(run), lengths)
            how = how or source
    if len(recorded) == 1:
        recorded = {"recorded length": next(iter(recorded.values()))}
    else:
        recorded = {f"recorded length, {name}": lengths for name, lengths in recorded.items()}
    caption = (
        "Seconds to encode and learn each experience, the mean of a method's runs: a point each, and a line through the"
        " median of those around it (latents that were encoded before, for another run or on disk, cost no time again)."
    )
    svg = drawn.svg("time", time_per_experience(seconds, recorded))
    return Part(title="Time", figures=((svg, f"{caption} {how}"),))


def stream_name(run: RunData) -> str:
    """``core50 nicv2_391``; empty for a run that is not finished, which has no such record."""
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
