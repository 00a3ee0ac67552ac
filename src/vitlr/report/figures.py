"""Figures of runs, from plain numbers. Never imports torch.

Colours are Okabe & Ito's, which colour-blind people can distinguish, with a dark yellow in place of theirs, which
is too faint for a line; lines also differ in style.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, PercentFormatter

from vitlr.report.fonts import FONT, fallbacks, inches, lacking

__all__ = [
    "COLOURS",
    "STYLES",
    "figure_bytes",
    "head",
    "literal",
    "look",
    "new_axes",
    "points_of",
    "spread_curves",
]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A7A00")
# Inches: height of a line's label, above and below the axes, width of labels for which the size of a figure has room.
_LABEL, _AROUND, _NAMES = 0.18, 1.2, 2.1
_LONGEST, _LONGEST_TITLE = 60, 160  # letters
_LEVEL = ("0.45", (0, (6, 3)))  # colour and style of a level to compare with
_TITLE = 11.0  # points
STYLES = ("-", "--", "-.", ":")


def new_axes(size: tuple[float, float], title: str = "", note: str = "") -> tuple[Figure, Axes]:
    """A figure of that size in inches with one grid; ``note`` is small print under it."""
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    head(figure, title)
    if note:
        figure.supxlabel(literal(note, 200), fontsize=7.5, color="0.35", x=0.01, ha="left")
    return figure, axes


def look(index: int) -> tuple[str, str]:
    """Colour and style of a method's line: no two of 32 have both."""
    return COLOURS[index % len(COLOURS)], STYLES[(index // len(COLOURS) + index) % len(STYLES)]


def spread_curves(
    curves: Mapping[str, Sequence[Sequence[float]]],
    *,
    ylabel: str = "accuracy on the whole test set",
    title: str = "",
    note: str = "",
    size: tuple[float, float] = (8.6, 4.6),
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """A line a method along the stream, the mean of its runs, and a band of one sample s.d. around it.

    Names and final values stand beside the right ends of the lines.

    Args:
        curves: for each method its runs, fractions after experience 1, 2, ...; NaN leaves a gap, and runs of
            different length are cut to the shortest.
        note: small print under the figure.
        lines: levels to compare with, drawn across and named.
    """
    levels = dict(lines or {})
    height = max(size[1], _AROUND + _LABEL * (len(curves) + len(levels)))
    longest = max((inches(literal(name), 9) for name in (*curves, *levels)), default=0)
    figure, axes = new_axes((size[0] + max(0, longest - _NAMES), height), title, note)
    ends: list[tuple[float, str, str, Any]] = []
    lowest = 0.0
    for index, (name, runs) in enumerate(curves.items()):
        length = min(len(run) for run in runs)
        values = np.array([list(run)[:length] for run in runs], dtype=float)
        mean, steps = values.mean(axis=0), np.arange(1, length + 1)
        colour, style = look(index)
        axes.plot(steps, mean, style, color=colour, linewidth=2, label=literal(name), **points_of(mean))
        if len(values) > 1:
            spread = values.std(axis=0, ddof=1)
            axes.fill_between(steps, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
        there = mean[np.isfinite(mean)]
        lowest = min([lowest, *there])
        ends.append((float(there[-1]) if there.size else np.nan, name, colour, style))
    for name, level in levels.items():
        axes.axhline(level, color=_LEVEL[0], linewidth=1, linestyle=_LEVEL[1])
        ends.append((level, name, *_LEVEL))
    if lowest == 0:
        axes.set_ylim(bottom=0)
    low, high = axes.get_ylim()
    _label_ends(axes, ends, gap=(high - low) * _LABEL / (height - _AROUND))
    axes.set_xlabel("experiences learned")
    axes.set_ylabel(ylabel)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(left=0)
    return figure


def points_of(values: np.ndarray) -> dict[str, Any]:
    """Markers for a line that would not be visible, as it has no two values side by side."""
    there = np.isfinite(values)
    return {} if (there[1:] & there[:-1]).any() else {"marker": "o", "markersize": 5}


def head(figure: Figure, title: str) -> None:
    """The title at the figure's upper left, in as many lines as it needs."""
    if not title:
        return
    lines, room = [""], figure.get_size_inches()[0] - 0.25
    for word in literal(title, _LONGEST_TITLE).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and inches(longer, _TITLE) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    figure.suptitle("\n".join(lines), x=0.012, ha="left", fontsize=_TITLE)


def literal(name: str, most: int = _LONGEST) -> str:
    """A name as it is drawn letter by letter: ``$`` begins no formula, ``_`` hides no line from the legend, and a very
    long one is cut in its middle."""
    if len(name) > most:
        name = f"{name[: most - most // 3 - 1]}…{name[-(most // 3) :]}"
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    name = " ".join(name.split()).replace("$", r"\$")
    return f"\N{THIN SPACE}{name}" if name.startswith("_") else name


def _label_ends(axes: Axes, ends: list[tuple[float, str, str, Any]], gap: float) -> None:
    """A piece of each line, its name and its final value beside its right end, at least ``gap`` apart and none
    above the axes. Letters are dark whatever the line's colour: a thin letter in yellow cannot be read."""
    low, high = axes.get_ylim()
    ends = sorted(ends, key=lambda end: np.nan_to_num(end[0], nan=low))
    places = [float(np.nan_to_num(value, nan=low)) for value, *_ in ends]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + gap)
    places[-1] = min(places[-1], high)
    for index in reversed(range(len(places) - 1)):
        places[index] = min(places[index], places[index + 1] - gap)
    for place, (value, name, colour, style) in zip(places, ends, strict=True):
        axes.annotate(
            literal(name) + ("" if np.isnan(value) else f" {value:.1%}"),
            xy=(1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(38, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
        piece = axes.annotate(
            "",
            xy=(1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(34, 0),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": colour, "linestyle": style, "linewidth": 2, "shrinkA": 0},
            annotation_clip=False,
        )
        piece.arrow_patch.shrinkB = 6  # type: ignore[union-attr]


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as ``png`` or ``svg``; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    texts = figure.findobj(Text)
    if any(lacking(text.get_text()) for text in texts):
        # Named one by one: of a family such as sans-serif matplotlib takes one font for all letters.
        for text in texts:
            text.set_fontfamily([FONT, *fallbacks()])
    # Ids in an SVG are made from its content and this; else from the clock.
    with rc_context({"svg.hashsalt": "vitlr"}), catch_warnings():
        simplefilter("ignore", UserWarning)  # a letter that no font here has is drawn as a box
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
