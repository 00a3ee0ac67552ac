"""Textures of the objects: small pictures in linear light, drawn with Pillow.

Every function returns a :class:`Material`. Colours are sRGB triples in 0..1; u runs around a body, v down it.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vitlr.rendered.mesh import Material

__all__ = [
    "blocks", "body", "checks", "colour", "dots", "gradient", "holes", "keys", "label", "linear", "metal", "noisy",
    "palette", "pattern", "plain", "screen", "stripes", "swirl", "timber",
]  # fmt: skip

Colour = tuple[float, float, float]
Rng = np.random.Generator


def colour(rng: Rng) -> Colour:
    """The colour of a manufactured thing: often black, grey or white, otherwise any hue."""
    kind = rng.random()
    if kind < 0.14:
        return _grey(rng.uniform(0.06, 0.2))
    if kind < 0.26:
        return _grey(rng.uniform(0.8, 0.96))
    if kind < 0.36:
        return _grey(rng.uniform(0.3, 0.7))
    saturation = rng.uniform(0.5, 0.95) if kind < 0.8 else rng.uniform(0.15, 0.45)
    return colorsys.hsv_to_rgb(rng.random(), float(saturation), float(rng.uniform(0.35, 0.95)))


def _grey(value: float) -> Colour:
    return (float(value), float(value), float(value))


def palette(rng: Rng, number: int = 3) -> list[Colour]:
    """Colours that differ clearly from one another."""
    chosen: list[Colour] = []
    for _ in range(60):
        candidate = colour(rng)
        if all(float(np.abs(np.subtract(candidate, other)).max()) > 0.3 for other in chosen):
            chosen.append(candidate)
        if len(chosen) == number:
            return chosen
    return [*chosen, *(colour(rng) for _ in range(number - len(chosen)))]


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in 0..1 as linear light, approximated by the square: the inverse, a root, is cheap for every pixel."""
    return np.square(srgb).astype(np.float32)


def _ink(fill: Colour) -> tuple[int, int, int]:
    red, green, blue = (int(255 * np.clip(c, 0, 1)) for c in fill)
    return red, green, blue


def _sheet(base: Colour, width: int = 128, height: int = 128) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (width, height), _ink(base))
    return picture, ImageDraw.Draw(picture)


def _finish(
    picture: Image.Image, gloss: float, metal: float = 0.0, rng: Rng | None = None, wear: float = 0.05
) -> Material:
    texels = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.5)), dtype=np.float32) / 255
    if rng is not None:  # no real surface has exactly one colour
        texels = texels * (1 + wear * noisy_field(rng, 5, texels.shape[:2])[..., None])
    return Material(texels=linear(np.clip(texels, 0, 1)), gloss=gloss, metal=metal)


def noisy_field(rng: Rng, cells: int, shape: tuple[int, int], octaves: int = 3) -> np.ndarray:
    """Fractal noise (h, w) within about -1..1."""
    total, weight = np.zeros(shape, dtype=np.float32), 0.0
    for octave in range(octaves):
        n = cells * 2**octave
        coarse = Image.fromarray(rng.uniform(-1, 1, (n, n)).astype(np.float32))
        total += np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC)) / 2**octave
        weight += 1 / 2**octave
    return total / weight * 1.6


def plain(base: Colour, gloss: float = 0.35, metal: float = 0.0) -> Material:
    """A single colour."""
    return Material(
        texels=linear(np.array(base, dtype=np.float32)).reshape(1, 1, 3), gloss=gloss, metal=metal
    )


def metal(tone: Colour = (0.82, 0.83, 0.86), gloss: float = 0.9) -> Material:
    """Bare metal."""
    return plain(tone, gloss=gloss, metal=0.75)


def noisy(rng: Rng, a: Colour, b: Colour, cells: int = 10, gloss: float = 0.1) -> Material:
    """A blend of two colours in blotches: skin, stone, felt, cloth."""
    share = np.clip(0.5 + 0.6 * noisy_field(rng, cells, (96, 96)), 0, 1)[..., None]
    return Material(texels=linear(np.array(a) * (1 - share) + np.array(b) * share), gloss=gloss)


def timber(rng: Rng, gloss: float = 0.2) -> Material:
    """Wood with its grain along v."""
    tone = rng.uniform(0.35, 0.8)
    light, dark = np.array([1.0, 0.76, 0.5]) * tone, np.array([0.75, 0.48, 0.28]) * tone
    wave = np.sin(np.linspace(0, 40, 96)[None, :] + 4 * noisy_field(rng, 3, (96, 96)))
    share = np.clip(0.5 + 0.4 * wave, 0, 1)[..., None]
    return Material(texels=linear(light * (1 - share) + dark * share), gloss=gloss)


def gradient(a: Colour, b: Colour, gloss: float = 0.5, metal: float = 0.0) -> Material:
    """From ``a`` at the top to ``b`` at the bottom."""
    share = np.linspace(0, 1, 64)[:, None, None]
    return Material(texels=linear(np.array(a) * (1 - share) + np.array(b) * share), gloss=gloss, metal=metal)


def stripes(rng: Rng, base: Colour, ink: Colour, *, down: bool = False, gloss: float = 0.35) -> Material:
    """Bands around (or, ``down``, along) a body, of several widths."""
    picture, pen = _sheet(base)
    number = int(rng.integers(2, 7))
    width = 128 / number
    share = rng.uniform(0.15, 0.6)
    for i in range(number):
        low, high = i * width, i * width + width * share
        pen.rectangle((low, 0, high, 128) if down else (0, low, 128, high), fill=_ink(ink))
    return _finish(picture, gloss, rng=rng)


def swirl(rng: Rng, base: Colour, ink: Colour, gloss: float = 0.35) -> Material:
    """Slanted bands that wind around a body."""
    y, x = np.mgrid[0:128, 0:128] / 128
    phase = (int(rng.integers(2, 6)) * x + rng.choice([-1, 1]) * rng.uniform(1, 4) * y) % 1
    share = np.clip((0.5 - np.abs(phase - 0.5) - rng.uniform(0.1, 0.3)) * 20, 0, 1)[..., None]
    return Material(texels=linear(np.array(base) * (1 - share) + np.array(ink) * share), gloss=gloss)


def dots(rng: Rng, base: Colour, ink: Colour, gloss: float = 0.35) -> Material:
    """Staggered dots."""
    picture, pen = _sheet(base)
    number = int(rng.integers(3, 8))
    step = 128 / number
    radius = step * rng.uniform(0.18, 0.38)
    for row in range(number):
        for column in range(number + 1):
            x, y = (column + 0.5 * (row % 2)) * step, (row + 0.5) * step
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_ink(ink))
    return _finish(picture, gloss, rng=rng)


def checks(rng: Rng, base: Colour, ink: Colour, gloss: float = 0.3) -> Material:
    """Checks or tartan."""
    picture, pen = _sheet(base)
    number = 2 * int(rng.integers(2, 5))
    step = 128 / number
    blend: Colour = tuple((a + b) / 2 for a, b in zip(base, ink, strict=True))  # type: ignore[assignment]
    tartan = rng.random() < 0.5
    for row in range(number):
        for column in range(number):
            odd, cross = (row + column) % 2, (row % 2) + (column % 2)
            fill = (base, blend, ink)[cross] if tartan else (base, ink)[odd]
            pen.rectangle((column * step, row * step, (column + 1) * step, (row + 1) * step), fill=_ink(fill))
    return _finish(picture, gloss, rng=rng)


def blocks(rng: Rng, colours: list[Colour], gloss: float = 0.3) -> Material:
    """Overlapping shapes in many colours."""
    picture, pen = _sheet(colours[0])
    for _ in range(int(rng.integers(8, 22))):
        x, y, w, h = rng.uniform(0, 128), rng.uniform(0, 128), rng.uniform(8, 45), rng.uniform(8, 45)
        draw = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        draw(
            (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
            fill=_ink(colours[int(rng.integers(1, len(colours)))]),
        )
    return _finish(picture, gloss, rng=rng)


def _writing(
    pen: ImageDraw.ImageDraw, rng: Rng, area: tuple[float, float, float, float], fill: Colour, size: float
) -> None:
    """Lines of strokes that read as print from afar."""
    left, top, right, bottom = area
    y = top
    while y + size < bottom:
        x = left
        while x < right - size:
            width = rng.uniform(0.4, 2.2) * size
            pen.rectangle((x, y, min(x + width, right), y + 0.6 * size), fill=_ink(fill))
            x += width + 0.5 * size
        y += 1.6 * size


def label(
    rng: Rng, base: Colour, paper: Colour, ink: Colour, gloss: float = 0.5, metal: float = 0.0
) -> Material:
    """A printed label: a band, an emblem and lines of print, twice around the body."""
    picture, pen = _sheet(base, 192, 128)
    top, bottom = rng.uniform(8, 40), rng.uniform(85, 120)
    pen.rectangle((0, top, 192, bottom), fill=_ink(paper))
    for edge in (top, bottom):
        pen.rectangle((0, edge - 3, 192, edge + 3), fill=_ink(ink))
    emblem, middle = int(rng.integers(4)), top + rng.uniform(0.3, 0.5) * (bottom - top)
    size = rng.uniform(12, 22)
    for left in (0, 96):
        x = left + 30
        area = (x - size, middle - size, x + size, middle + size)
        if emblem == 0:
            pen.ellipse(area, fill=_ink(ink))
        elif emblem == 1:
            pen.polygon(
                [(x, middle - size), (x + size, middle + size), (x - size, middle + size)], fill=_ink(ink)
            )
        elif emblem == 2:
            pen.rectangle(area, fill=_ink(ink))
            pen.ellipse((x - size / 2, middle - size / 2, x + size / 2, middle + size / 2), fill=_ink(base))
        else:
            pen.polygon(
                [(x, middle - size), (x + size, middle), (x, middle + size), (x - size, middle)],
                fill=_ink(ink),
            )
        _writing(pen, rng, (left + 56, top + 8, left + 92, bottom - 6), ink, rng.uniform(4, 8))
        _writing(pen, rng, (left + 8, middle + size + 4, left + 50, bottom - 3), base, 4)
    return _finish(picture, gloss, metal, rng)


def keys(
    rng: Rng, base: Colour, key: Colour, *, rows: int, columns: int, area: tuple[float, float, float, float],
    size: tuple[int, int] = (96, 192), display: tuple[float, float, float, float] | None = None, wheel: bool = False,
) -> Material:  # fmt: skip
    """A front panel with rows of keys within ``area`` (left, top, right, bottom in 0..1), a display and a wheel."""
    width, height = size
    picture, pen = _sheet(base, width, height)
    left, top, right, bottom = area[0] * width, area[1] * height, area[2] * width, area[3] * height
    across, down = (right - left) / columns, (bottom - top) / rows
    round_ = rng.random() < 0.5
    accent = colour(rng)
    for row in range(rows):
        for column in range(columns):
            x, y = left + (column + 0.5) * across, top + (row + 0.5) * down
            half = (across * 0.36, down * 0.33)
            fill = accent if rng.random() < 0.1 else key
            shape = (x - half[0], y - half[1], x + half[0], y + half[1])
            pen.ellipse(shape, fill=_ink(fill)) if round_ else pen.rounded_rectangle(
                shape, 3, fill=_ink(fill)
            )
            pen.rectangle((x - 2, y - 1, x + 2, y + 1), fill=_ink(base))
    if display is not None:
        box = (display[0] * width, display[1] * height, display[2] * width, display[3] * height)
        pen.rectangle(box, fill=_ink((0.05, 0.06, 0.08)))
        glow = colorsys.hsv_to_rgb(rng.uniform(0.25, 0.65), 0.4, 0.75)
        pen.rectangle((box[0] + 3, box[1] + 3, box[2] - 3, box[3] - 3), fill=_ink(glow))
        _writing(pen, rng, (box[0] + 7, box[1] + 7, box[2] - 7, box[3] - 5), (0.1, 0.15, 0.2), 5)
    if wheel:
        x, y, r = width / 2, (area[1] - 0.14) * height, 0.3 * width
        pen.ellipse((x - r, y - r, x + r, y + r), fill=_ink(key))
        pen.ellipse((x - r / 2.2, y - r / 2.2, x + r / 2.2, y + r / 2.2), fill=_ink(accent))
    return _finish(picture, 0.3, rng=rng)


def screen(rng: Rng, frame: Colour) -> Material:
    """A touch screen that is switched on: icons, a photograph or print, within a frame."""
    picture, pen = _sheet(frame, 96, 176)
    pen.rectangle((6, 16, 90, 158), fill=_ink(colorsys.hsv_to_rgb(rng.random(), 0.5, 0.5)))
    kind = int(rng.integers(3))
    if kind == 0:
        for row in range(6):
            for column in range(4):
                if rng.random() < 0.85:
                    x, y = 10 + column * 20, 20 + row * 23
                    pen.rounded_rectangle(
                        (x, y, x + 14, y + 14), 4, fill=_ink(colorsys.hsv_to_rgb(rng.random(), 0.7, 0.9))
                    )
    elif kind == 1:
        pen.rectangle((6, 16, 90, 158), fill=_ink((0.95, 0.95, 0.93)))
        pen.rectangle((6, 16, 90, 34), fill=_ink(colour(rng)))
        _writing(pen, rng, (11, 42, 84, 154), (0.3, 0.3, 0.35), 5)
    else:
        for _ in range(14):
            left, top, size = rng.uniform(6, 90), rng.uniform(20, 155), rng.uniform(5, 25)
            pen.ellipse((left - size, top - size, left + size, top + size), fill=_ink(colour(rng)))
        pen.rectangle((0, 0, 96, 15), fill=_ink(frame))
        pen.rectangle((0, 159, 96, 176), fill=_ink(frame))
        pen.rectangle((0, 0, 5, 176), fill=_ink(frame))
        pen.rectangle((91, 0, 96, 176), fill=_ink(frame))
    pen.ellipse((43, 162, 53, 172), outline=_ink(_grey(0.6)))
    pen.line((38, 8, 58, 8), fill=_ink(_grey(0.5)), width=2)
    return _finish(picture, 0.9)


def holes(
    rng: Rng, base: Colour, face: Colour, spots: Sequence[tuple[float, float]], *, slot: bool
) -> Material:
    """A round recess with holes (or slots) at ``spots`` in -1..1."""
    picture, pen = _sheet(base)
    pen.ellipse((14, 14, 114, 114), fill=_ink(face), outline=_ink(_grey(0.25)), width=3)
    for x, y in spots:
        px, py = 64 + 44 * x, 64 - 44 * y
        half = (4, 11) if slot else (8, 8)
        shape = (px - half[0], py - half[1], px + half[0], py + half[1])
        pen.rectangle(shape, fill=(8, 8, 8)) if slot else pen.ellipse(shape, fill=(8, 8, 8))
    return _finish(picture, 0.4, rng=rng)


def pattern(rng: Rng, colours: list[Colour]) -> Material:
    """Any printed pattern."""
    a, b, c = colours[:3]
    kind = int(rng.integers(7))
    if kind == 0:
        return stripes(rng, a, b, down=bool(rng.integers(2)))
    if kind == 1:
        return dots(rng, a, b)
    if kind == 2:
        return checks(rng, a, b)
    if kind == 3:
        return label(rng, a, b, c)
    if kind == 4:
        return swirl(rng, a, b)
    if kind == 5:
        return blocks(rng, colours)
    return noisy(rng, a, b, cells=int(rng.integers(3, 12)), gloss=float(rng.uniform(0.05, 0.5)))


def body(rng: Rng, base: Colour) -> Material:
    """The skin of an unprinted part: plastic, paint, rubber or metal."""
    kind = rng.random()
    if kind < 0.15:
        return metal(tuple(np.clip(np.array(base) * 0.4 + 0.5, 0, 1)))
    if kind < 0.35:
        return noisy(rng, base, tuple(np.array(base) * 0.75), cells=16, gloss=0.08)
    return plain(base, gloss=float(rng.uniform(0.2, 0.9)))
