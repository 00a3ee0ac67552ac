from __future__ import annotations

from dataclasses import replace

from matplotlib.path import Path

from vitlr.report.figures import figure_bytes
from vitlr.report.tradeoffs import Point, accuracy_against, bytes_text


def test_bytes_are_on_a_logarithmic_axis_and_every_point_is_named() -> None:
    points = [
        Point(x=77e3, accuracy=0.44, spread=0.01, name="100"),
        Point(x=15e6, accuracy=0.61, spread=0.02, name="300"),
    ]
    figure = accuracy_against({"cut 11": points}, "memory", text=bytes_text, title="Objects")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["100", "300"]
    assert axes.lines[0].get_ydata().tolist() == [0.44, 0.61]  # type: ignore[union-attr]
    figure.canvas.draw()
    assert "10 MB" in [label.get_text() for label in axes.get_xticklabels()]


def test_numbers_of_blocks_are_on_an_even_axis_of_whole_numbers() -> None:
    points = [Point(x=12 - cut, accuracy=0.5 + 0.02 * (12 - cut), spread=0.0) for cut in (12, 8, 11)]
    axes = accuracy_against({"latent replay": points}, "trained blocks of 12", logarithmic=False).axes[0]
    assert axes.get_xscale() == "linear" and axes.get_xlabel() == "trained blocks of 12"
    assert axes.lines[0].get_xdata().tolist() == [0, 1, 4]  # type: ignore[union-attr]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_what_costs_nothing_is_drawn_left_of_the_others() -> None:
    free = Point(x=0, accuracy=0.2, spread=0.0, name="naive")
    axes = accuracy_against({"naive": [free], "replay": [replace(free, x=1e6)]}, "memory").axes[0]
    assert axes.get_xscale() == "symlog" and axes.get_xlim()[0] < 0
    assert accuracy_against({"naive": [free]}, "memory").axes[0].get_xscale() == "linear"


def test_the_same_figure_gives_the_same_bytes() -> None:
    def made() -> bytes:
        point = Point(x=1e6, accuracy=0.5, spread=0.1, name="x")
        return figure_bytes(accuracy_against({"a": [point]}, "memory"), "png")

    assert made() == made()


def test_a_point_s_name_lies_over_no_error_bar_line_or_other_name_where_series_meet() -> None:
    def series(*points: tuple[float, float, str]) -> list[Point]:
        return [Point(x=x * 1e6, accuracy=y, spread=0.02, name=name) for x, y, name in points]

    figure = accuracy_against(
        {
            "number": series((5, 0.502, "100"), (15, 0.614, "300"), (50, 0.664, "1000")),
            "codec": series((2, 0.596, "int4"), (3.8, 0.613, "int8"), (7.5, 0.615, "bfloat16"), (15, 0.614, "float32")),
            "int8": series((3.8, 0.613, ""), (12.7, 0.664, "1000")),
        },
        "memory",
    )  # fmt: skip
    figure.canvas.draw()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 8
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    paths = []
    for line, _, bars in (series.lines for series in axes.containers):  # type: ignore[attr-defined]
        paths += [line.get_xydata(), *(ends for bar in bars for ends in bar.get_segments())]
    for path in (Path(axes.transData.transform(places)) for places in paths):
        assert not any(path.intersects_bbox(box, filled=False) for box in boxes)
