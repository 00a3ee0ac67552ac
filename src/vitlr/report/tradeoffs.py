"""The figure of what accuracy costs: bytes of memory, seconds, trained blocks. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from vitlr.report.figures import COLOURS, literal, new_axes

__all__ = ["Point", "accuracy_against", "bytes_text"]

# Where a point's name may stand, in the order of liking; 1 and -1: at an end of its error bar, 0: beside the point.
_PLACES = (
    ({"xytext": (-6, 5), "ha": "right", "va": "bottom"}, 0),
    ({"xytext": (0, 4), "ha": "center", "va": "bottom"}, 1),
    ({"xytext": (0, -4), "ha": "center", "va": "top"}, -1),
    ({"xytext": (7, -5), "ha": "left", "va": "top"}, 0),
    ({"xytext": (7, 5), "ha": "left", "va": "bottom"}, 0),
    ({"xytext": (-6, -5), "ha": "right", "va": "top"}, 0),
)
MARKERS = ("o", "s", "D", "^", "v", "P")


@dataclass(frozen=True, kw_only=True)
class Point:
    """Mean and s.d. of the final accuracy (fractions), at a place on the horizontal axis, with a short name."""

    x: float
    accuracy: float
    spread: float
    name: str = ""


def accuracy_against(
    series: Mapping[str, Sequence[Point]],
    xlabel: str,
    *,
    logarithmic: bool = True,
    text: Callable[[float], str] = lambda value: f"{value:g}",
    title: str = "",
    note: str = "",
) -> Figure:
    """Final accuracy against what it costs, a line a series, points named.

    Args:
        series: points by name of the series.
        text: of a place on the horizontal axis.
        note: small print under the figure.
    """
    figure, axes = new_axes((7.6, 4.4), title, note)
    for index, (name, points) in enumerate(series.items()):
        _errorbars(axes, points, name, index)
    places = [point.x for points in series.values() for point in points]
    above = [place for place in places if place > 0]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if logarithmic and above:  # a method that costs nothing is drawn at 0, a decade before the others
        symmetric = len(above) < len(places)
        axes.set_xscale("symlog", linthresh=min(above)) if symmetric else axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(xlabel)
    axes.set_ylabel("final accuracy on the whole test set")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.margins(x=0.12, y=0.15)
    if any(len(points) > 1 for points in series.values()):  # else the names of the points suffice
        axes.legend(
            frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, -0.32), ncols=2, borderaxespad=0
        )
    _name_points(figure, axes, series)
    return figure


def _errorbars(axes: Axes, points: Sequence[Point], name: str, index: int) -> None:
    ordered = sorted(points, key=lambda point: point.x)
    axes.errorbar(
        [point.x for point in ordered],
        [point.accuracy for point in ordered],
        yerr=[point.spread for point in ordered],
        marker=MARKERS[index % len(MARKERS)],
        color=COLOURS[index % len(COLOURS)],
        linewidth=1.8,
        capsize=3,
        label=literal(name),
    )


def _name_points(figure: Figure, axes: Axes, series: Mapping[str, Sequence[Point]]) -> None:
    """Write each point's name beside it, within the axes, where it meets the fewest lines, error bars and names."""
    figure.draw_without_rendering()  # the layout is settled: places on the page are known
    inside = axes.get_window_extent()
    taken: list[Path] = []
    for points in series.values():
        ordered = sorted(points, key=lambda point: point.x)
        taken.append(Path(axes.transData.transform([(point.x, point.accuracy) for point in ordered])))
        for point in points:
            ends = [(point.x, point.accuracy + sign * point.spread) for sign in (-1, 1)]
            taken.append(Path(axes.transData.transform(ends)))
    for index, points in enumerate(series.values()):
        for point in (point for point in points if point.name):
            tries = []
            for place, end in _PLACES:
                text = axes.annotate(
                    literal(point.name),
                    (point.x, point.accuracy + end * point.spread),
                    textcoords="offset points",
                    fontsize=8,
                    color=COLOURS[index % len(COLOURS)],
                    **place,  # type: ignore[arg-type]
                )
                box = text.get_window_extent().padded(2)
                outside = not (inside.x0 <= box.x0 and box.x1 <= inside.x1)
                met = sum(path.intersects_bbox(box, filled=False) for path in taken)
                tries.append((met + len(taken) * outside, text, box))
            _, kept, box = min(tries, key=lambda one: one[0])
            for _, text, _ in tries:
                if text is not kept:
                    text.remove()
            corners = [
                (box.x0, box.y0),
                (box.x1, box.y0),
                (box.x1, box.y1),
                (box.x0, box.y1),
                (box.x0, box.y0),
            ]
            taken += [Path(corners), Path([corners[0], corners[2]])]


def bytes_text(value: float) -> str:
    """``20 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} B"
