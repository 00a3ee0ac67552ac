from __future__ import annotations

from vitlr.report.figures import figure_bytes
from vitlr.report.tradeoffs import Point, accuracy_against_bytes, accuracy_against_cut


def test_bytes_are_on_a_logarithmic_axis_and_every_point_is_named() -> None:
    points = [
        Point(x=77e3, accuracy=0.44, spread=0.01, name="100"),
        Point(x=15e6, accuracy=0.61, spread=0.02, name="300"),
    ]
    figure = accuracy_against_bytes({"cut 11": points}, title="Objects")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["100", "300"]
    assert axes.lines[0].get_ydata().tolist() == [0.44, 0.61]  # type: ignore[union-attr]
    figure.canvas.draw()
    assert "10 MB" in [label.get_text() for label in axes.get_xticklabels()]


def test_deeper_cuts_stand_further_right() -> None:
    points = [Point(x=cut, accuracy=0.5 + 0.02 * (12 - cut), spread=0.0) for cut in (12, 8, 11)]
    axes = accuracy_against_cut({"latent replay": points}, num_blocks=12).axes[0]
    left, right = axes.get_xlim()
    assert left > right
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "cut 12\n0 trained",
        "cut 11\n1 trained",
        "cut 8\n4 trained",
    ]


def test_the_same_figure_gives_the_same_bytes() -> None:
    def made() -> bytes:
        point = Point(x=1e6, accuracy=0.5, spread=0.1, name="x")
        return figure_bytes(accuracy_against_bytes({"a": [point]}), "png")

    assert made() == made()
