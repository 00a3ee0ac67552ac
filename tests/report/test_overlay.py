"""Overlays and galleries: what is bright where the map is high, sizes, names, bad input."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vitlr.errors import DataError
from vitlr.report.overlay import Row, fitted, gallery, overlay, png, scaled, side_by_side

LUMA = np.array([0.299, 0.587, 0.114])


def picture(height: int = 60, width: int = 60, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def row(name: str = "a.png", maps: int = 1) -> Row:
    return Row(name=name, picture_HWC=picture(), maps=tuple(np.eye(4) for _ in range(maps)))


def test_a_map_is_scaled_from_its_lowest_to_its_highest_patches() -> None:
    values = np.arange(100.0).reshape(10, 10)
    result = scaled(values)
    assert result.min() == 0 and np.count_nonzero(result == 1) == 3, "3 % share the brightest colour"
    assert np.allclose(result[0], np.arange(10) / (0.97 * 99))
    assert np.allclose(scaled(values / 1000 + 0.2), result)


def test_one_patch_that_stands_out_is_seen_and_a_flat_map_is_dark() -> None:
    spike = np.zeros((14, 14))
    spike[3, 5] = 1e-3
    assert scaled(spike)[3, 5] == 1 and scaled(spike).sum() == 1
    assert not scaled(np.full((3, 3), 0.25)).any()


def test_lightness_of_the_overlay_rises_with_the_map_on_any_grey() -> None:
    """So that it reads without telling colours apart."""
    ramp = np.linspace(0, 1, 12)[None].repeat(12, axis=0)
    for value in (0, 60):
        light = overlay(picture(120, 120, value), ramp)[60] @ LUMA
        assert (np.diff(light[::10]) >= -1).all() and light[-1] - light[0] > 120
    bright = overlay(picture(120, 120, 255), ramp)[60] @ LUMA
    assert bright[-1] == bright.max(), "the highest stands out on white as well"


def test_the_map_lies_where_its_patches_are() -> None:
    corner = np.zeros((4, 4))
    corner[0, 3] = 1  # first row, last column: top right
    light = overlay(picture(80, 40, 0), corner) @ LUMA
    top, left = np.unravel_index(light.argmax(), light.shape)
    assert top < 20 and left >= 30


def test_pictures_keep_their_proportions() -> None:
    assert fitted(picture(50, 100), 200).shape == (100, 200, 3)
    assert fitted(picture(1, 3000), 200).shape == (1, 200, 3)
    pair = side_by_side(picture(50, 100, 10), np.eye(2), np.eye(3), side=200)
    assert pair.shape[0] == 200 and pair.shape[1] in range(600, 640)
    assert (pair[0] == 255).all() and (pair[100, :200] == 10).all(), "paper above, the picture in the middle"


def test_a_gallery_holds_every_picture_and_its_name() -> None:
    one, five = (gallery([row(f"{i}.png") for i in range(count)], side=50) for count in (1, 5))
    assert five.size > 3 * one.size
    named, unnamed = gallery([row("some name")], side=50), gallery([row("")], side=50)
    assert named.shape == unnamed.shape and not np.array_equal(named, unnamed)
    assert (gallery([row()], title="network", note="small print", side=50) != 255).any()


def test_names_of_any_length_and_alphabet_stay_within_their_column() -> None:
    for name in ("x" * 4000, "größe/Δ/鳥.png", "two\nlines", ""):
        page = gallery([row(name), row(name)], side=40, across=2)
        assert (page[:, :24] == 255).all() and (page[:, -24:] == 255).all(), "the margins are free"


def test_a_page_is_written_as_the_same_png_each_time() -> None:
    page = gallery([row(maps=2)], headings=("before learning", "after learning"))
    assert png(page) == png(page)
    with Image.open(io.BytesIO(png(page))) as image:
        assert image.format == "PNG" and np.array_equal(np.asarray(image), page)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: scaled(np.zeros(4)),
        lambda: scaled(np.full((2, 2), np.nan)),
        lambda: scaled(np.zeros((0, 3))),
        lambda: overlay(picture().astype(float), np.eye(2)),
        lambda: overlay(picture()[..., 0], np.eye(2)),
        lambda: overlay(picture(), np.eye(2), strength=1.1),
        lambda: fitted(picture(), 0),
        lambda: gallery([]),
        lambda: gallery([row(maps=2)]),
    ],
)
def test_what_cannot_be_drawn_is_said(wrong) -> None:
    with pytest.raises(DataError):
        wrong()


def test_drawing_needs_no_pytorch() -> None:
    code = "import sys, vitlr.report.overlay, vitlr.report.confusion; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
