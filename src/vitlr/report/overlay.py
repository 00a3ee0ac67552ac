"""Maps of attention laid over pictures, one beside the other, and pages of them. Never imports torch.

The map glows in matplotlib's ``inferno`` on a grey and darkened picture: lightness rises with the value, so that
colour-blind people and black-and-white printers keep the order, and the picture's own colours cannot be taken
for those of the map. Each map has its own scale, and its highest 3 % of patches share the brightest colour:
pretrained networks keep a few patches, often corners, as scratch space (Darcet et al., ICLR 2024), beside which
nothing else would be seen.

Shapes: H and W sides of a picture in pixels, h and w of a map in patches.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from vitlr.errors import DataError
from vitlr.report.fonts import file_with, lacking
from vitlr.storage.reading import open_regular
from vitlr.text import harmless

__all__ = ["Row", "fitted", "gallery", "is_ours", "overlay", "png", "scaled", "side_by_side"]

COLOURS = "inferno"
INK, QUIET, PAPER = (32, 32, 32), (110, 110, 110), (255, 255, 255)

_BRIGHTEST = 0.03  # share of patches that have the brightest colour
_DARKENED = 0.7  # of the picture's lightness stays below the map
_GAP = 6  # pixels between panels
_MARGIN, _BETWEEN = 24, 30  # around a page, and between two groups side by side
_SMALL, _CAPTION, _HEADING, _TITLE = 13, 14, 15, 20  # sizes of type in pixels
_WIDEST = 1500  # pixels a page may be wide, where one group is not wider
_MADE_BY = "ViT-LR attention"
_LEGEND = "more of the class token comes from here; each map has its own scale"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One picture, uint8 (H, W, 3), its maps (h, w), and the name printed below."""

    name: str
    picture_HWC: np.ndarray
    maps: tuple[np.ndarray, ...]


def scaled(map_hw: np.ndarray) -> np.ndarray:
    """float64 (h, w) from 0, the map's lowest value, to 1, its highest 3 %; 0 everywhere for a flat map.

    Raises:
        DataError: the map is not two-dimensional, is empty or has values that are not finite.
    """
    map_hw = np.asarray(map_hw, dtype=np.float64)
    if map_hw.ndim != 2 or map_hw.size == 0 or not np.isfinite(map_hw).all():
        raise DataError(f"a map must be (h, w) finite numbers, got {map_hw.shape}")
    low, high = map_hw.min(), np.quantile(map_hw, 1 - _BRIGHTEST)
    if high <= low:  # all but a few patches are equal: those few are what there is to see
        high = map_hw.max()
    return np.clip((map_hw - low) / (high - low), 0, 1) if high > low else np.zeros_like(map_hw)


def overlay(picture_HWC: np.ndarray, map_hw: np.ndarray, *, strength: float = 0.85) -> np.ndarray:
    """uint8 (H, W, 3): the map, stretched over the whole picture, on its grey version.

    Args:
        strength: how much of a pixel is the map's colour where the map is highest, 0..1; less where it is
            low, so that the picture stays recognisable there.

    Raises:
        DataError: picture, map or strength are none.
    """
    picture_HWC = _picture(picture_HWC)
    if not 0 <= strength <= 1:
        raise DataError(f"strength must be 0 to 1, got {strength}")
    height, width = picture_HWC.shape[:2]
    stretched = Image.fromarray(scaled(map_hw).astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    values_HW = np.clip(np.asarray(stretched, dtype=np.float64), 0, 1)  # bicubic overshoots beside steps
    colour_HWC = 255 * matplotlib.colormaps[COLOURS](values_HW)[..., :3]
    grey_HW1 = _DARKENED * (picture_HWC @ np.array([0.299, 0.587, 0.114]))[..., None]
    share_HW1 = strength * (0.15 + 0.85 * values_HW[..., None])
    return np.round((1 - share_HW1) * grey_HW1 + share_HW1 * colour_HWC).clip(0, 255).astype(np.uint8)


def fitted(picture_HWC: np.ndarray, side: int) -> np.ndarray:
    """The picture as large as fits into a square of ``side`` pixels, in its own proportions."""
    picture_HWC = _picture(picture_HWC)
    if side < 1:
        raise DataError(f"side must be >= 1, got {side}")
    height, width = picture_HWC.shape[:2]
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(picture_HWC).resize(size, Image.Resampling.LANCZOS))


def side_by_side(picture_HWC: np.ndarray, *maps: np.ndarray, side: int = 224) -> np.ndarray:
    """uint8 (side, about (1 + maps) * side, 3): the picture, then each map over it, fitted into squares."""
    picture_HWC = fitted(picture_HWC, side)
    panels = [picture_HWC, *(overlay(picture_HWC, map_hw) for map_hw in maps)]
    page = np.full((side, len(panels) * side + (len(panels) - 1) * _GAP, 3), PAPER, dtype=np.uint8)
    height, width = picture_HWC.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    for index, panel in enumerate(panels):
        x = index * (side + _GAP) + left
        page[top : top + height, x : x + width] = panel
    return page


def gallery(
    rows: Sequence[Row],
    *,
    headings: Sequence[str] = ("attention",),
    title: str = "",
    note: str = "",
    side: int = 224,
    across: int | None = None,
) -> np.ndarray:
    """uint8 (H, W, 3): a page of pictures, each with its maps to the right and its name below.

    Args:
        headings: one for each map, above the columns.
        note: a line of small print below the title.
        side: of the square that a picture is fitted into, in pixels.
        across: groups of picture and maps in a line; by default as many as make the page about as wide as high.

    Raises:
        DataError: there are no pictures, or another number of maps than headings.
    """
    if not rows or any(len(row.maps) != len(headings) for row in rows):
        raise DataError(f"a gallery needs pictures with {len(headings)} maps each, one for each heading")
    panels = 1 + len(headings)
    wide, high = panels * side + (panels - 1) * _GAP, side + _CAPTION + 16
    across = across or _across(len(rows), wide, high)
    width = across * wide + (across - 1) * _BETWEEN + 2 * _MARGIN
    top = _MARGIN + (_TITLE + 10 if title else 0) + (_SMALL + 8 if note else 0) + _HEADING + 12
    lines = math.ceil(len(rows) / across)
    page = Image.new("RGB", (width, top + lines * high + _SMALL + _MARGIN + 8), PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        font = _font(_TITLE, title, bold=True)
        draw.text((_MARGIN, _MARGIN), _short(title, width - 2 * _MARGIN, font, keep_end=False), INK, font)
    if note:
        font = _font(_SMALL, note)
        text = _short(note, width - 2 * _MARGIN, font, keep_end=False)
        draw.text((_MARGIN, top - _HEADING - 20), text, QUIET, font, anchor="ls")
    for index, row in enumerate(rows):
        x = _MARGIN + index % across * (wide + _BETWEEN)
        y = top + index // across * high
        if index < across:
            _head(draw, headings, x, y - 8, side)
        page.paste(Image.fromarray(side_by_side(row.picture_HWC, *row.maps, side=side)), (x, y))
        font = _font(_CAPTION, row.name)
        draw.text((x, y + side + 3), _short(row.name, wide, font), QUIET, font)
    _legend(page, draw, page.height - _MARGIN - _SMALL)
    return np.asarray(page)


def png(image_HWC: np.ndarray) -> bytes:
    """The image as a PNG file; the same image gives the same bytes."""
    buffer, info = io.BytesIO(), PngInfo()
    info.add_text("Software", _MADE_BY)
    Image.fromarray(image_HWC).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def is_ours(path: Path) -> bool:
    """Whether that file was made by ``png``, so that it may be replaced."""
    try:
        with open_regular(path) as file, Image.open(file, formats=("PNG",)) as image:
            return image.info.get("Software") == _MADE_BY
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _picture(picture_HWC: np.ndarray) -> np.ndarray:
    picture_HWC = np.asarray(picture_HWC)
    shape = picture_HWC.shape
    if picture_HWC.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise DataError(f"a picture must be uint8 (H, W, 3), got {picture_HWC.dtype} {shape}")
    return picture_HWC


def _across(groups: int, wide: int, high: int) -> int:
    """Groups in a line: a page about as wide as high, rather wider, within ``_WIDEST``."""
    square = math.ceil(math.sqrt(groups * high / wide))
    return int(np.clip(square, 1, max(1, min(groups, _WIDEST // (wide + _BETWEEN)))))


def _head(draw: ImageDraw.ImageDraw, headings: Sequence[str], x: int, y: int, side: int) -> None:
    for index, heading in enumerate(("picture", *headings)):
        font = _font(_HEADING, heading, bold=True)
        text = _short(heading, side, font, keep_end=False)
        draw.text((x + index * (side + _GAP), y), text, INK, font, anchor="ls")


def _legend(page: Image.Image, draw: ImageDraw.ImageDraw, y: int) -> None:
    """What the colours mean, as far as there is room."""
    font, middle = _font(_SMALL, _LEGEND), y + _SMALL // 2
    ramp_NC = 255 * matplotlib.colormaps[COLOURS](np.linspace(0, 1, 120))[:, :3]
    ramp_HWC = np.tile(np.round(ramp_NC).astype(np.uint8), (_SMALL, 1, 1))
    draw.text((_MARGIN, middle), "less", QUIET, font, anchor="lm")
    x = _MARGIN + round(font.getlength("less")) + 8
    page.paste(Image.fromarray(ramp_HWC), (x, y))
    x += ramp_HWC.shape[1] + 8
    text = _short(_LEGEND, page.width - x - _MARGIN, font, keep_end=False)
    draw.text((x, middle), text, QUIET, font, anchor="lm")


@lru_cache
def _font(size: int, text: str, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, the same letters on every machine; a font of this machine where that lacks some of the text's."""
    other = file_with(text) if lacking(text) else None
    if other is not None:
        return ImageFont.truetype(other, size)
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _short(text: str, room: int, font: ImageFont.FreeTypeFont, *, keep_end: bool = True) -> str:
    """The text in one line, shortened where it does not fit; the end of a path tells files apart."""
    text = harmless(" ".join(text.split()))
    if font.getlength(text) <= room:
        return text
    text = text[-room:] if keep_end else text[:room]  # no letter is narrower than a pixel
    while text and font.getlength(text + "…") > room:
        text = text[1:] if keep_end else text[:-1]
    return "…" + text if keep_end else text.rstrip(" ,;") + "…"
