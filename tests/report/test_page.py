"""Figures on the page follow its theme, and nothing else in them changes."""

from __future__ import annotations

import re

import numpy as np
from matplotlib.figure import Figure

from vitlr.report.charts import memory_composition
from vitlr.report.confusion import confusion_matrix
from vitlr.report.figures import COLOURS, figure_bytes, spread_curves
from vitlr.report.page import Part, html_page

INK, PAPER = "#e6e9ed", "#1a1f26"


def colours_when_dark(figure: Figure) -> set[str]:
    """Colours in the figure's SVG as a browser resolves them on a dark page."""
    page = html_page("t", "", [Part(title="p", figures=((figure_bytes(figure, "svg"), "c"),))])
    dark = dict(re.findall(r"(--fig-[0-9a-f]{6}): (#[0-9a-f]{6});", page))
    svg = page[page.index("<svg") :]
    used = set(re.findall(r"(?:fill|stroke): (var\([^)]*\)|#[0-9a-f]{6})", svg))
    names = {colour: re.match(r"var\((--fig-[0-9a-f]{6}), #", colour) for colour in used}
    return {dark[name[1]] if name else colour for colour, name in names.items()}


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2.2, 1 to 21."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_on_a_dark_page_paper_is_dark_and_every_method_s_line_stands_out() -> None:
    curves = {f"method {n}": [[0.1, 0.2 + n / 20], [0.2, 0.3]] for n in range(len(COLOURS))}
    for figure in (spread_curves(curves), spread_curves(curves, lines={"published": 0.4})):
        colours = colours_when_dark(figure)
        assert PAPER in colours and INK in colours and not colours & {"#ffffff", "#000000"}
        shown = [colour for colour in colours if colour not in (PAPER, "#59636e")]  # the grid is faint
        assert len(shown) >= len(COLOURS) and all(contrast(colour, PAPER) >= 3 for colour in shown)


def test_letters_in_the_cells_of_a_confusion_matrix_go_with_the_cell_and_not_with_the_page() -> None:
    cells = colours_when_dark(confusion_matrix(np.array([[9, 1], [4, 6]]), ["a", "b"]))
    assert {"#fefefe", "#252525"} <= cells


def test_areas_that_touch_keep_a_seam_of_the_page_s_colour() -> None:
    colours = colours_when_dark(memory_composition(np.ones((3, 10)), [str(n) for n in range(10)]))
    assert "#ffffff" not in colours and len(colours) >= 12
