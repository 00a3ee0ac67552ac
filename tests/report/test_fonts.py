"""Names in letters that DejaVu Sans lacks, drawn with a font made here that has one such letter: an empty square."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager

from vitlr.report import fonts
from vitlr.report.confusion import confusion_matrix
from vitlr.report.figures import figure_bytes
from vitlr.report.overlay import Row, gallery

APPLE = "\u82f9"


def square_font(path: Path, letters: str) -> Path:
    """A font whose letters are all squares."""
    pen = TTGlyphPen(None)
    for x, y, go in (
        (100, 0, pen.moveTo),
        (100, 800, pen.lineTo),
        (900, 800, pen.lineTo),
        (900, 0, pen.lineTo),
    ):
        go((x, y))
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square" for letter in letters})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "IPAGothic", "styleName": "Regular", "psName": "IPAGothic"})
    builder.setupOS2(sTypoAscender=800)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture()
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The font, installed after matplotlib made its list; no other of the machine's."""
    path = square_font(tmp_path / "square.ttf", APPLE + "…")
    before = list(fontManager.ttflist)
    fontManager.ttflist = [font for font in before if font.name not in fonts._FONTS]
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(path)])
    fonts.fallbacks.cache_clear()
    yield path
    fontManager.ttflist = before
    fonts.fallbacks.cache_clear()


@pytest.fixture()
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = list(fontManager.ttflist)
    fontManager.ttflist = [font for font in before if font.name not in fonts._FONTS]
    monkeypatch.setattr(fonts, "findSystemFonts", list)
    fonts.fallbacks.cache_clear()
    yield
    fontManager.ttflist = before
    fonts.fallbacks.cache_clear()


def drawn(name: str) -> bytes:
    return figure_bytes(confusion_matrix(np.eye(2, dtype=int), [name, "mug"]), "svg")


def test_a_letter_that_dejavu_lacks_is_drawn_with_an_installed_font_that_has_it(installed: Path) -> None:
    assert fonts.fallbacks() == ("IPAGothic",)
    assert b"IPAGothic" in drawn(APPLE)  # the shapes' names in the file tell their font
    assert b"IPAGothic" not in drawn("кружка")


def test_without_such_a_font_it_is_a_box_and_no_warning(nothing_installed: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert b"<svg" in drawn(APPLE)
    assert fonts.file_with(APPLE) is None


def test_a_font_that_lacks_one_letter_of_a_caption_is_not_taken(installed: Path) -> None:
    assert fonts.file_with(APPLE) == str(installed)
    assert fonts.file_with(APPLE + "x") is None


def test_captions_of_attention_are_drawn_with_it(installed: Path) -> None:
    black = np.zeros((32, 32, 3), dtype=np.uint8)

    def sheet(name: str) -> np.ndarray:
        return gallery([Row(name=name, picture_HWC=black, maps=(np.ones((4, 4)),))], side=64)

    horse, bird = "\u9a6c", "\u9e1f"  # in neither font: the same box
    assert np.array_equal(sheet(horse), sheet(bird))
    assert not np.array_equal(sheet(APPLE), sheet(horse))
