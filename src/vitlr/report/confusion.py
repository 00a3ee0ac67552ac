"""The confusion matrix as a picture. Never imports torch.

Rows are true classes and are normalised: a cell is the share of a class's test images that were given the
column's label, so that classes with many images do not drown the others and the diagonal is recall.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from vitlr.errors import DataError
from vitlr.evaluation.metrics import row_normalised
from vitlr.report.figures import head, literal

__all__ = ["confusion_matrix"]

# Letters in a cell go with the cell's colour: neither is the page's white or black, which a dark page exchanges.
_ON_DARK, _ON_LIGHT = "#fefefe", "#252525"
_LONGEST = 28  # letters of a class's name
_WRITTEN = 20  # classes up to which a number fits into its cell


def confusion_matrix(
    counts_CC: np.ndarray, names: Sequence[str], *, title: str = "", size: float | None = None
) -> Figure:
    """Picture of a confusion matrix, labels readable at 50 classes.

    Args:
        counts_CC: (C, C) test images by true class (row) and predicted class (column), not normalised.
        names: C class names, in the order of rows and columns.
        title: by default none.
        size: side of the figure in inches; grows with the number of classes by default.

    Returns:
        A figure without a window: rows divided by their sums, a row without images is left empty (grey).

    Raises:
        DataError: the counts are no square matrix of finite numbers >= 0 with a row a name.
    """
    counts_CC = np.asarray(counts_CC, dtype=float)
    classes = len(names)
    if classes == 0 or counts_CC.shape != (classes, classes):
        raise DataError(
            f"a confusion matrix of {classes} classes must be ({classes}, {classes}) and not empty, "
            f"got {counts_CC.shape}"
        )
    if not np.isfinite(counts_CC).all() or counts_CC.min() < 0:
        raise DataError("a confusion matrix must hold counts, finite and not negative")

    shares_CC = np.ma.masked_invalid(row_normalised(counts_CC))
    side = size or float(np.clip(3.2 + 0.17 * classes, 5.0, 16.0))
    figure = Figure(figsize=(side, 0.94 * side), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor="0.85")
    # Perceptually uniform, and distinct for colour-blind people; white is left for "never".
    image = axes.imshow(shares_CC, cmap=_white_to_dark(), vmin=0.0, vmax=1.0, interpolation="nearest")
    _label(axes, [literal(name, _LONGEST) for name in names], side)
    if classes <= _WRITTEN:
        _write_shares(axes, shares_CC, 9.0 if classes <= 10 else 6.5)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02, format=PercentFormatter(1.0, decimals=0))
    bar.set_label("share of the true class's images")
    head(figure, title)
    return figure


def _white_to_dark() -> ListedColormap:
    colours_N4 = colormaps["viridis_r"](np.linspace(0, 1, 256))
    blend_N1 = np.clip(np.linspace(0, 1, 256) / 0.08, 0, 1)[:, None]
    # From white to yellow within the first twelfth, so that a rare confusion is seen but not loud.
    return ListedColormap(colours_N4 * blend_N1 + (1 - blend_N1))


def _label(axes: Axes, names: Sequence[str], side: float) -> None:
    """Names along both axes in a size that fits: rows and columns are side / C inches apart."""
    room = 72 * 0.72 * side / len(names)  # points a row
    fontsize = float(np.clip(0.85 * room, 4.0, 10.0))
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90, fontsize=fontsize)
    axes.set_yticks(places, names, fontsize=fontsize)
    axes.tick_params(length=0, pad=2)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    # Lines and not a grid of minor ticks, which take matplotlib half a second at 50 classes.
    borders, ends = np.arange(0.5, len(names) - 1), (-0.5, len(names) - 0.5)
    axes.hlines(borders, *ends, color="0.9", linewidth=0.4)
    axes.vlines(borders, *ends, color="0.9", linewidth=0.4)
    axes.set(xlim=ends, ylim=ends[::-1])
    axes.spines[:].set_color("0.6")


def _write_shares(axes: Axes, shares_CC: np.ma.MaskedArray, fontsize: float) -> None:
    for row, column in np.argwhere(shares_CC.filled(0) >= 0.005):
        share = float(shares_CC[row, column])
        axes.text(
            column,
            row,
            f"{100 * share:.0f}",
            ha="center",
            va="center",
            fontsize=fontsize,
            color=_ON_DARK if share > 0.5 else _ON_LIGHT,
        )
