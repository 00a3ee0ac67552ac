"""Figures of a report: everything named, nothing over anything else."""

from __future__ import annotations

import io
import warnings
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from vitlr.errors import DataError
from vitlr.report.charts import class_heat_map, memory_composition, time_per_experience
from vitlr.report.confusion import confusion_matrix
from vitlr.report.figures import figure_bytes, spread_curves
from vitlr.report.sections import PUBLISHED


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), format="png")
    return figure


def drawn_as_files(figure: Figure) -> Figure:
    assert figure_bytes(figure, "png") and figure_bytes(figure, "svg")
    return figure


def test_the_band_is_one_sample_standard_deviation_around_the_mean() -> None:
    runs = [[0.1, 0.2], [0.3, 0.6]]
    axes = spread_curves({"method": runs}, ylabel="accuracy").axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.2, 0.4])
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(0.4 + np.std([0.2, 0.6], ddof=1))
    assert heights.min() == pytest.approx(0.2 - np.std([0.1, 0.3], ddof=1))


@pytest.mark.parametrize("scenario", PUBLISHED)
def test_published_levels_are_named_beside_the_axes_and_no_name_lies_over_another(scenario: str) -> None:
    levels = PUBLISHED[scenario]
    rising = np.linspace(0.05, 0.75, 50)
    figure = drawn(spread_curves({"method": [rising, rising]}, ylabel="accuracy", lines=levels))
    axes = figure.axes[0]
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    every = {**levels, "method": 0.75}
    assert sorted(boxes) == sorted(f"{name} {level:.1%}" for name, level in every.items())
    pairs = [(a, b) for a in boxes for b in boxes if a < b]
    assert not any(boxes[a].overlaps(boxes[b]) for a, b in pairs)
    assert all(box.x0 >= axes.bbox.x1 and box.x1 <= figure.bbox.x1 for box in boxes.values())


def labels(figure: Figure) -> dict[str, Bbox]:
    return {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts if text.get_text()}


def test_many_long_names_stand_within_the_figure_and_leave_the_axes_their_size() -> None:
    few = drawn(spread_curves({"a": [[0.1, 0.2]]}))
    names = [f"latent replay (cut 11, trunk and training in 16 bits), variant {n}" for n in range(32)]
    many = drawn(spread_curves({name: [[0.1, 0.2]] for name in names}))
    boxes = list(labels(many).values())
    assert len(boxes) == 32 and not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    assert all(box.x1 <= many.bbox.x1 and box.y0 >= 0 and box.y1 <= many.bbox.y1 for box in boxes)
    assert many.axes[0].bbox.height > 0.8 * few.axes[0].bbox.height
    assert many.axes[0].bbox.width > 0.4 * many.bbox.width


def test_a_legend_of_many_long_names_lies_within_the_figure() -> None:
    names = [f"latent replay (cut 11, trunk and training in 16 bits), variant {n}" for n in range(32)]
    figure = drawn(time_per_experience({name: [0.1, 0.2] for name in names}, {}))
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.axes[0].bbox.y0


def test_a_line_may_fall_below_zero_and_one_without_values_is_named_without_one() -> None:
    nan = float("nan")
    figure = drawn(
        spread_curves({"better": [[nan, -0.2, -0.1]], "one": [[nan, nan, nan]]}, ylabel="forgetting")
    )
    assert sorted(labels(figure)) == ["better -10.0%", "one"] and figure.axes[0].get_ylim()[0] < -0.2
    assert drawn(spread_curves({"a": [[0.4, 0.5]]})).axes[0].get_ylim()[0] == 0


def test_names_are_drawn_letter_by_letter_and_none_is_left_out_or_breaks_the_layout() -> None:
    names = ["cost $5 vs $6", r"$\foo$", "_naive", "x" * 120, "\u65e5\u672c\u8a9e"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = drawn_as_files(spread_curves({name: [[0.1, 0.2]] for name in names}, ylabel="accuracy"))
        drawn_as_files(class_heat_map(np.zeros((3, 5)), names))
        drawn_as_files(memory_composition(np.ones((3, 5)), names))
        drawn_as_files(spread_curves({name: [[0.1, 0.2]] for name in names}, title="cost $5 vs $6"))
        drawn_as_files(time_per_experience({name: [0.1, 0.2] for name in names}, {}))
        drawn_as_files(confusion_matrix(np.eye(5), names, title=names[1]))
    shown = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert len(shown) == len(names) and "cost" in "".join(shown)
    assert max(len(each.rpartition(" ")[0]) for each in shown) <= 60
    assert figure.axes[0].bbox.width > 4.5 * figure.dpi


def test_a_class_that_is_not_known_yet_is_grey_in_the_heat_map() -> None:
    figure = class_heat_map(np.array([[0.5, np.nan], [1.0, 0.0]]), ["cup", "can"])
    shown = figure.axes[0].images[0].get_array()
    assert shown.mask.tolist() == [[False, False], [True, False]]
    assert figure.axes[0].get_facecolor() == (0.88, 0.88, 0.88, 1.0)


def test_names_of_50_classes_do_not_overlap_in_the_heat_map() -> None:
    names = [f"remote_control_{number}" for number in range(50)]
    figure = drawn(class_heat_map(np.zeros((391, 50)), names))
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(below.y1 <= above.y0 for above, below in pairwise(boxes))


def test_the_memory_is_stacked_to_what_it_holds_also_after_a_single_experience() -> None:
    for counts in ([[2, 3]], [[2, 3], [1, 4]]):
        axes = memory_composition(np.array(counts), ["cup", "can"]).axes[0]
        top = max(area.get_paths()[0].vertices[:, 1].max() for area in axes.collections)
        assert top == 5


def test_methods_in_the_figure_of_times_look_different_and_each_stream_has_its_length() -> None:
    seconds = {f"method {number}": [0.1, 0.2] for number in range(12)}
    recorded = {"recorded length, a": [15.0, 15.0], "recorded length, b": [120.0]}
    axes = time_per_experience(seconds, recorded).axes[0]
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(lines) == [*seconds, *recorded]
    assert len({(lines[name].get_color(), lines[name].get_linestyle()) for name in seconds}) == 12
    assert [list(lines[name].get_ydata()) for name in recorded] == list(recorded.values())


def test_one_slow_experience_is_a_point_and_does_not_move_the_line_of_many() -> None:
    seconds = [0.1] * 100
    seconds[50] = 5.0
    points, line = time_per_experience({"method": seconds}, {}).axes[0].lines
    assert max(points.get_ydata()) == 5.0 and max(line.get_ydata()) == 0.1


def test_arrays_that_do_not_fit_their_names_are_refused() -> None:
    with pytest.raises(DataError, match="heat map of 1 classes"):
        class_heat_map(np.zeros((2, 3)), ["cup"])
    with pytest.raises(DataError, match="memory of 1 groups"):
        memory_composition(np.zeros((2, 3)), ["cup"])


def test_a_stream_of_one_experience_is_drawn_as_points() -> None:
    one = spread_curves({"naive": [[0.5], [0.7]]}, ylabel="accuracy").axes[0]
    assert [line.get_marker() for line in one.lines] == ["o"]
    two = spread_curves({"naive": [[float("nan"), 0.7]]}, ylabel="forgetting").axes[0]
    assert [line.get_marker() for line in two.lines] == ["o"]
    many = spread_curves({"naive": [[0.5, 0.7]]}, ylabel="accuracy").axes[0]
    assert [line.get_marker() for line in many.lines] == ["None"]
    time = time_per_experience({"naive": [0.5]}, {"recorded length": [3.0]}).axes[0]
    assert all(line.get_marker() != "None" for line in time.lines)
    assert all(float(tick).is_integer() for tick in time.get_xticks())


@pytest.mark.parametrize(
    "title", ["many words in a title " * 7, "latent replay (cut 5, capacity 1500), categories"]
)
def test_titles_stay_on_the_figure(title: str) -> None:
    for figure in (
        confusion_matrix(np.eye(5, dtype=int), list("abcde"), title=title),
        class_heat_map(np.ones((3, 2)), ["red", "blue"], title=title),
    ):
        figure.draw_without_rendering()
        wanted = ("latent", "share of", "accuracy on")
        texts = [text for text in figure.findobj(Text) if text.get_text().startswith(("many", *wanted))]
        assert len(texts) == 2  # title and colour bar
        places = [text.get_window_extent() for text in texts]
        assert all(p.x0 >= 0 and p.x1 <= figure.bbox.x1 for p in places)
        assert all(p.y0 >= 0 and p.y1 <= figure.bbox.y1 + 1 for p in places)


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("letter", ["W", "i", "\u82f9"])
def test_legends_of_wide_letters_stay_on_the_figure(letter: str) -> None:
    figure = time_per_experience({letter * 21 + str(i): [0.1, 0.2] for i in range(6)}, {})
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    figure = spread_curves({letter * 21 + str(i): [[0.1, 0.2]] for i in range(6)})
    figure.draw_without_rendering()
    assert all(box.x1 <= figure.bbox.x1 for box in labels(figure).values())


def test_the_memory_of_many_classes_has_a_row_for_each() -> None:
    figure = memory_composition(np.arange(36).reshape(3, 12), [f"class {n}" for n in range(12)])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        f"class {n}" for n in range(12)
    ]
    shown = figure.axes[0].images[0].get_array()
    assert shown.mask.tolist() == [[n == 0, False, False] for n in range(12)]  # nothing of class 0 yet
    assert shown[5].tolist() == [5, 17, 29]


def test_the_same_figure_gives_the_same_bytes() -> None:
    figures = [spread_curves({"naive": [[0.5, 0.7]]}, ylabel="accuracy") for _ in range(2)]
    for kind in ("svg", "png"):
        assert figure_bytes(figures[0], kind) == figure_bytes(figures[1], kind)


def test_control_characters_in_a_name_leave_the_svg_well_formed() -> None:
    import xml.etree.ElementTree as ElementTree

    svg = figure_bytes(spread_curves({"a\x01b\x1b": [[0.5, 0.7]]}, ylabel="accuracy"), "svg")
    assert ElementTree.fromstring(svg) is not None
