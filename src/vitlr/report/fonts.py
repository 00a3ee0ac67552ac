"""Which font has the letters of a name: DejaVu Sans, which comes with matplotlib, or one of this machine's."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from warnings import catch_warnings, simplefilter

from matplotlib.font_manager import findfont, findSystemFonts, fontManager, get_font

__all__ = ["FONT", "fallbacks", "file_with", "inches", "lacking"]

FONT = "DejaVu Sans"  # comes with matplotlib
_FONTS = (
    *(
        "Noto Sans CJK JP",
        "Noto Sans CJK SC",
        "Noto Sans CJK KR",
        "Source Han Sans",
        "IPAGothic",
        "WenQuanYi Micro Hei",
    ),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Arabic", "Noto Sans Hebrew"),
)


def lacking(text: str) -> bool:
    """Whether the text has a letter that DejaVu Sans lacks."""
    return any(ord(letter) not in _letters(findfont(FONT)) for letter in text)


@cache
def fallbacks() -> tuple[str, ...]:
    """Names of this machine's fonts that have what DejaVu lacks, such as Chinese, Japanese and Korean."""
    listed = {font.fname for font in fontManager.ttflist}
    # matplotlib lists fonts once and for all; one may have been installed since.
    for path in findSystemFonts():
        if path not in listed:
            with suppress(OSError, RuntimeError, ValueError):  # a font that it cannot read
                fontManager.addfont(path)
    there = {font.name for font in fontManager.ttflist}
    return tuple(name for name in _FONTS if name in there)


def file_with(text: str) -> str | None:
    """File of the first such font that has all letters of the text; None if there is none."""
    for name in fallbacks():
        path = findfont(name)
        if all(ord(letter) in _letters(path) for letter in text):
            return path
    return None


def inches(text: str, size: float) -> float:
    """About how wide the text is, in one line, at a size in points: by DejaVu Sans, with a square for a letter that
    it lacks."""
    font = get_font(findfont(FONT))
    font.set_size(size, 72)
    with catch_warnings():
        simplefilter("ignore", UserWarning)
        font.set_text("".join(letter for letter in text if ord(letter) in _letters(findfont(FONT))))
    lacked = sum(ord(letter) not in _letters(findfont(FONT)) for letter in text)
    return (font.get_width_height()[0] / 64 + size * lacked) / 72


@cache
def _letters(path: str) -> frozenset[int]:
    """Code points that a font has, and the end of a line."""
    return frozenset(get_font(path).get_charmap()) | {ord("\n")}
