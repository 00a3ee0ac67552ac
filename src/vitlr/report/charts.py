"""Figures of a report, from plain arrays: classes over time, memory, time. Never imports torch.

Shape letters: E experiences, C classes, G groups of classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator, PercentFormatter

from vitlr.errors import DataError
from vitlr.report.figures import STYLES, literal, look, new_axes, points_of
from vitlr.report.fonts import inches

__all__ = ["class_heat_map", "memory_composition", "time_per_experience"]

_AROUND = 0.05  # of a stream: the experiences whose median is drawn
# Of a legend: inches of a row and of the piece of a line, points of letters.
_ROW, _HANDLE, _SMALL = 0.19, 0.75, 9.0
_LONGEST = 28  # letters of a class's name

# Paul Tol's "muted" scheme, its grey a little darker: ten areas that colour-blind people can distinguish.
AREAS = (
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933"),
    *("#DDCC77", "#CC6677", "#882255", "#AA4499", "#BBBBBB"),
)


def _legend_below(figure: Figure) -> None:
    """The legend under the axes, in as many columns as fit; the figure grows with it."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    width, height = figure.get_size_inches()
    longest = max((inches(label, _SMALL) for label in labels), default=0)
    columns = int(np.clip(width // (_HANDLE + longest), 1, 3))
    rows = -(-len(labels) // columns)
    figure.set_size_inches(width, height + _ROW * max(0, rows - 2))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=_SMALL)


def class_heat_map(accuracy_EC: np.ndarray, names: Sequence[str], *, title: str = "") -> Figure:
    """Accuracy of each class (row) after each experience (column), 0 yellow to 1 dark; grey before it is known.

    Args:
        accuracy_EC: fractions, NaN before a class is known.
    """
    accuracy_EC = np.asarray(accuracy_EC, dtype=float)
    if accuracy_EC.ndim != 2 or accuracy_EC.shape[1] != len(names) or accuracy_EC.size == 0:
        raise DataError(
            f"a heat map of {len(names)} classes needs (E, {len(names)}), got {accuracy_EC.shape}"
        )
    figure, axes, image = _heat_map(accuracy_EC, names, title, highest=1.0)
    bar = figure.colorbar(image, ax=axes, pad=0.015, shrink=0.7, format=PercentFormatter(1.0, decimals=0))
    bar.set_label("accuracy on its test images")
    return figure


def _heat_map(
    values_EC: np.ndarray, names: Sequence[str], title: str, *, highest: float
) -> tuple[Figure, Axes, AxesImage]:
    """A row a name, a column an experience, from 0 yellow to ``highest`` dark; grey without a value."""
    height = float(np.clip(1.6 + 0.155 * len(names), 3.4, 14.0))
    figure, axes = new_axes((9.2, height), title)
    axes.grid(visible=False)
    axes.set_facecolor("0.88")
    image = axes.imshow(
        np.ma.masked_invalid(values_EC.T),
        aspect="auto",
        interpolation="nearest",
        cmap=colormaps["viridis_r"],
        vmin=0,
        vmax=highest,
        extent=(0.5, len(values_EC) + 0.5, len(names) - 0.5, -0.5),
    )
    names = [literal(name, _LONGEST) for name in names]
    axes.set_yticks(range(len(names)), names, fontsize=float(np.clip(72 * 0.62 * height / len(names), 4, 9)))
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("experiences learned")
    return figure, axes, image


def memory_composition(counts_EG: np.ndarray, names: Sequence[str], *, title: str = "") -> Figure:
    """Latents of each group in the memory after each experience: stacked, or above ten groups a row a group.

    Args:
        counts_EG: latents by experience and group.
    """
    counts_EG = np.asarray(counts_EG, dtype=float)
    if counts_EG.ndim != 2 or counts_EG.shape[1] != len(names) or counts_EG.size == 0:
        raise DataError(f"the memory of {len(names)} groups needs (E, {len(names)}), got {counts_EG.shape}")
    if len(names) > len(AREAS):
        known_EG = np.where(counts_EG > 0, counts_EG, np.nan)
        figure, axes, image = _heat_map(known_EG, names, title, highest=max(1.0, float(counts_EG.max())))
        bar = figure.colorbar(image, ax=axes, pad=0.015, shrink=0.7, ticks=MaxNLocator(integer=True))
        bar.set_label("latents in memory")
        return figure
    figure, axes = new_axes((8.6, 4.2), title)
    steps = np.arange(1, len(counts_EG) + 1)
    if len(steps) == 1:  # an area needs two places
        steps, counts_EG = np.array([0.5, 1.5]), np.repeat(counts_EG, 2, axis=0)
    axes.stackplot(
        steps,
        counts_EG.T,
        labels=[literal(name, _LONGEST) for name in names],
        colors=AREAS[: len(names)],
        linewidth=0.3,
        edgecolor="white",
    )
    axes.set_xlabel("experiences learned")
    axes.set_ylabel("latents in memory")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0)
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5, reverse=True)
    return figure


def time_per_experience(
    seconds: Mapping[str, Sequence[float]], recorded: Mapping[str, Sequence[float]], *, title: str = ""
) -> Figure:
    """Seconds to learn each experience (encoding and learning), and how long its images took to record.

    A point an experience, and a line through the median of those around it, in a method's colour and style.

    Args:
        seconds: for each method the seconds of experience 1, 2, ..., the mean of its runs.
        recorded: seconds of video behind each experience of each stream, if known, by the line's name.
    """
    figure, axes = new_axes((8.6, 4.2), title)
    for index, (name, values) in enumerate(seconds.items()):
        steps = np.arange(1, len(values) + 1)
        colour, style = look(index)
        axes.plot(steps, values, ".", markersize=2.5, alpha=0.35, linewidth=0, color=colour)
        median = np.array(_running_median(values))
        axes.plot(steps, median, style, linewidth=1.8, color=colour, label=literal(name), **points_of(median))
    for index, (name, lengths) in enumerate(recorded.items()):
        steps, style = np.arange(1, len(lengths) + 1), STYLES[index % len(STYLES)]
        drawn: dict[str, Any] = {"marker": "_", "markersize": 40} if len(lengths) == 1 else {}
        drawn |= {"color": "0.3", "linewidth": 1.2, "drawstyle": "steps-mid"}
        axes.plot(steps, lengths, style, label=literal(name), **drawn)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(1, 0.5)))
    most = max(map(len, (*seconds.values(), *recorded.values())), default=1)
    axes.set_xlim(0.5 - 0.02 * most, max(most + 0.5 + 0.02 * most, 2.5))  # room for whole numbers
    axes.set_xlabel("experience")
    axes.set_ylabel("seconds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_below(figure)
    return figure


def _running_median(values: Sequence[float]) -> list[float]:
    """Median of each value and those around it, a twentieth of all; the values themselves if there are few."""
    reach = round(_AROUND * len(values) / 2)
    return [float(np.median(values[max(0, i - reach) : i + reach + 1])) for i in range(len(values))]
