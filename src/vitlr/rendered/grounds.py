"""Grounds and far fields of the scenes, as functions of position: sRGB colours (H, W, 3) in about 0..1."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageDraw

from vitlr.rendered.textures import noisy_field

__all__ = ["GROUNDS", "OTHER_GROUNDS", "OTHER_WALLS", "WALLS", "paint_ground", "paint_wall", "tint"]

Rng = np.random.Generator

# Those of the eleven sessions, and those that only pretraining sees.
GROUNDS = ("wood", "grass", "carpet", "paving", "tiles", "fabric", "concrete", "gravel", "leaves", "sand")
WALLS = ("plaster", "hedge", "shelf", "sky", "window", "curtain", "brick", "panels", "corridor")
OTHER_GROUNDS = ("marble", "water", "rug", "asphalt", "straw", "snow", "mosaic", "mat", "clutter")
OTHER_WALLS = ("bokeh", "trunks", "wallpaper", "mountains", "poster", "blinds", "clutter")


def tint(rng: Rng, hue: float, saturation: float, value: float) -> np.ndarray:
    """A colour near the given one."""
    a, b, c = rng.uniform(-0.04, 0.04, 3)
    parts = colorsys.hsv_to_rgb(
        (hue + a) % 1, float(np.clip(saturation + 2 * b, 0, 1)), float(np.clip(value + 2 * c, 0.1, 1))
    )
    return np.array(parts, dtype=np.float32)


def _mix(share: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a + (b - a) * np.clip(share, 0, 1)[..., None]


def _cells(x: np.ndarray, y: np.ndarray, rng: Rng) -> np.ndarray:
    """A random level in 0..1 for every integer cell of the plane."""
    table = rng.random((64, 64)).astype(np.float32)
    return table[np.floor(y).astype(int) % 64, np.floor(x).astype(int) % 64]


def paint_ground(kind: str, rng: Rng, x: np.ndarray, y: np.ndarray, hue: float) -> np.ndarray:
    """A plane at coordinates x, y: about -1..1 across in the foreground, larger ones farther away; ``hue`` of dyed
    materials."""
    tile = 512
    rows, columns = ((c * 90).astype(int) % tile for c in (y, x))

    def noise(cells: int, octaves: int = 3) -> np.ndarray:
        return noisy_field(rng, cells, (tile, tile), octaves)[rows, columns]

    def speckle() -> np.ndarray:
        return rng.uniform(-1, 1, (tile, tile)).astype(np.float32)[rows, columns]

    fine, wide, dust = noise(60, 2), noise(7), speckle()
    if kind == "wood":
        across = noisy_field(rng, 6, (tile, tile), 4)[rows, (columns // 14) % tile]
        plank = _cells(x * 0.25 + 0.5 * np.floor(y * 1.6), y * 1.6, rng)
        base = _mix(
            0.45 + 0.5 * across + 0.5 * (plank - 0.5), tint(rng, 0.07, 0.6, 0.38), tint(rng, 0.09, 0.5, 0.75)
        )
        return base * (1 - 0.45 * ((y * 1.6) % 1 < 0.035) + 0.04 * dust)[..., None]
    if kind in ("grass", "straw"):
        blades = noisy_field(rng, 90, (tile, tile), 2)[(rows // 3) % tile, columns] + 0.4 * dust
        pair = (
            (tint(rng, 0.3, 0.6, 0.16), tint(rng, 0.23, 0.6, 0.62))
            if kind == "grass"
            else (tint(rng, 0.1, 0.5, 0.35), tint(rng, 0.13, 0.5, 0.85))
        )
        return _mix(0.45 + 0.5 * blades + 0.3 * wide, *pair)
    if kind == "leaves":
        patch = _cells(x * 7 + 1.5 * fine, y * 7 + 1.5 * wide, rng)
        return (
            _mix(patch, tint(rng, 0.04, 0.75, 0.35), tint(rng, 0.11, 0.7, 0.72))
            * (0.8 + 0.3 * fine + 0.1 * dust)[..., None]
        )
    if kind in ("carpet", "rug"):
        pile = 0.5 + 0.2 * fine + 0.25 * dust
        if kind == "rug":
            pile = pile + 0.5 * np.sign(np.sin(x * 5) + np.cos(y * 5))
        return _mix(pile + 0.15 * wide, tint(rng, hue, 0.5, 0.28), tint(rng, hue + 0.08, 0.4, 0.62))
    if kind == "tiles":
        grout = ((x * 1.5) % 1 < 0.045) | ((y * 1.5) % 1 < 0.045)
        tone = 0.35 + 0.3 * _cells(x * 1.5, y * 1.5, rng) + 0.2 * wide
        return np.where(
            grout[..., None], 0.42, _mix(tone, tint(rng, 0.08, 0.12, 0.62), tint(rng, 0.1, 0.1, 0.92))
        )
    if kind in ("gravel", "asphalt"):
        stones = 0.5 + 0.55 * noisy_field(rng, 110, (tile, tile), 2)[rows, columns] + 0.3 * dust
        dark, light = (0.3, 0.78) if kind == "gravel" else (0.18, 0.42)
        return _mix(stones, tint(rng, 0.09, 0.1, dark), tint(rng, 0.1, 0.08, light))
    if kind == "fabric":
        weave = 0.5 + 0.25 * np.sign(np.sin(x * 9)) + 0.25 * np.sign(np.sin(y * 9)) + 0.12 * dust
        return (
            _mix(weave, tint(rng, hue, 0.6, 0.3), tint(rng, hue + 0.1, 0.35, 0.75))
            * (1 + 0.12 * wide)[..., None]
        )
    if kind == "sand":
        ripple = 0.5 + 0.28 * np.sin(y * 9 + 3 * wide) + 0.12 * fine + 0.18 * dust
        return _mix(ripple, tint(rng, 0.1, 0.4, 0.58), tint(rng, 0.12, 0.33, 0.88))
    if kind == "paving":
        shift = 0.5 * (np.floor(y * 1.2) % 2)
        gap = ((x * 0.9 + shift) % 1 < 0.04) | ((y * 1.2) % 1 < 0.05)
        stone = _cells(x * 0.9 + shift, y * 1.2, rng) * 0.5 + 0.25 + 0.2 * fine + 0.15 * dust
        return np.where(
            gap[..., None], 0.25, _mix(stone, tint(rng, 0.04, 0.18, 0.42), tint(rng, 0.08, 0.15, 0.78))
        )
    if kind == "marble":
        vein = np.abs(np.sin(2.5 * x + 3.5 * wide + fine)) ** 0.4
        return _mix(vein, tint(rng, hue, 0.2, 0.35), tint(rng, hue, 0.06, 0.92))
    if kind == "water":
        wave = 0.5 + 0.4 * np.sin(y * 14 + 4 * fine + 3 * np.sin(x * 2 + 3 * wide))
        return _mix(wave**2, tint(rng, 0.55, 0.6, 0.3), tint(rng, 0.5, 0.25, 0.85))
    if kind == "snow":
        return _mix(0.6 + 0.3 * wide + 0.1 * dust, tint(rng, 0.6, 0.2, 0.65), tint(rng, 0.6, 0.03, 0.97))
    if kind == "mosaic":
        grout = ((x * 5) % 1 < 0.1) | ((y * 5) % 1 < 0.1)
        return np.where(
            grout[..., None],
            0.8,
            _mix(_cells(x * 5, y * 5, rng), tint(rng, hue, 0.7, 0.3), tint(rng, hue + 0.2, 0.4, 0.85)),
        )
    if kind == "mat":
        ribs = 0.5 + 0.5 * np.sin(x * 22)
        return _mix(ribs + 0.2 * dust, tint(rng, hue, 0.3, 0.15), tint(rng, hue, 0.3, 0.5))
    if kind == "clutter":
        board = np.asarray(clutter(rng, tile), dtype=np.float32) / 255
        return board[rows, columns]
    return _mix(
        0.5 + 0.15 * fine + 0.4 * wide + 0.1 * dust, tint(rng, 0.6, 0.05, 0.38), tint(rng, 0.1, 0.05, 0.7)
    )  # concrete


def clutter(rng: Rng, size: int) -> Image.Image:
    """Overlapping shapes of all sizes ("dead leaves"), with the statistics of photographs but no content."""
    image = Image.new("RGB", (size, size))
    pen = ImageDraw.Draw(image)
    hue, spread = rng.random(), rng.uniform(0.05, 0.5)
    for _ in range(500):
        radius = min(size * 0.4, 9 * rng.random() ** -0.6)
        x, y = rng.uniform(0, size, 2)
        angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
        fill = tuple(
            int(255 * c)
            for c in colorsys.hsv_to_rgb(
                (hue + rng.normal() * spread) % 1, float(rng.uniform(0, 0.8)), float(rng.uniform(0.1, 0.95))
            )
        )
        if rng.random() < 0.4:
            pen.ellipse((x - radius, y - radius * 0.7, x + radius, y + radius * 0.7), fill=fill)
        else:
            pen.polygon([(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angle], fill=fill)
    return image


def _books(rng: Rng, size: int, busy: float) -> np.ndarray:
    image = Image.new("RGB", (size, size), tuple(int(255 * c) for c in tint(rng, 0.08, 0.4, 0.3)))
    pen = ImageDraw.Draw(image)
    for top in range(8, size, 92):
        left = 0.0
        while left < size:
            width, height = rng.uniform(7, 26), rng.uniform(44, 80)
            fill = tint(rng, rng.random(), rng.uniform(0.1, 0.65), rng.uniform(0.25, 0.85))
            if rng.random() < busy:
                pen.rectangle(
                    (left, top + 80 - height, left + width, top + 80), fill=tuple(int(255 * c) for c in fill)
                )
                pen.rectangle(
                    (left + 1, top + 92 - height, left + width - 1, top + 97 - height),
                    fill=tuple(int(200 * c) for c in fill),
                )
            left += width + (rng.uniform(5, 40) if rng.random() < 0.15 else 1)
        pen.rectangle(
            (0, top + 80, size, top + 91), fill=tuple(int(255 * c) for c in tint(rng, 0.08, 0.45, 0.55))
        )
    return np.asarray(image, dtype=np.float32) / 255


def _furniture(rng: Rng, picture: np.ndarray, number: int) -> np.ndarray:
    """Things in front of a wall: frames, cupboards, a door."""
    size = len(picture)
    for _ in range(number):
        left, width = rng.integers(-40, size - 30), int(rng.integers(40, 150))
        top = int(rng.integers(20, size // 2))
        height = int(rng.integers(50, 220))
        part = picture[top : top + height, max(left, 0) : left + width]
        part[:] = tint(rng, rng.random(), rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.8))
        part[6:-6, 6:-6] *= rng.uniform(0.6, 1.2)
    return picture


def paint_wall(kind: str, rng: Rng, size: int, hue: float) -> np.ndarray:
    """The far field (size, size, 3); ``hue`` of dyed materials."""
    y, x = (np.mgrid[0:size, 0:size] / size).astype(np.float32)
    wide, fine = noisy_field(rng, 5, (size, size)), noisy_field(rng, 45, (size, size), 2)
    if kind == "brick":
        row = np.floor(y * 20)
        shift = 0.5 * (row % 2)
        mortar = ((x * 9 + shift) % 1 < 0.07) | ((y * 20) % 1 < 0.13)
        tone = 0.3 + 0.5 * _cells(x * 9 + shift, y * 20, rng) + 0.2 * fine
        return np.where(
            mortar[..., None], 0.68, _mix(tone, tint(rng, 0.02, 0.6, 0.36), tint(rng, 0.05, 0.5, 0.66))
        )
    if kind == "shelf":
        return _books(rng, size, 0.92)
    if kind == "hedge":
        leaf = _mix(0.4 + 0.6 * fine + 0.6 * wide, tint(rng, 0.33, 0.6, 0.08), tint(rng, 0.25, 0.6, 0.5))
        return np.where((y < 0.16 + 0.07 * wide + 0.03 * fine)[..., None], tint(rng, 0.57, 0.22, 0.93), leaf)
    if kind in ("sky", "mountains"):
        cloud = np.clip(0.2 + wide * 1.5 + 0.2 * fine, 0, 1)
        sky = _mix(y * 1.6, tint(rng, 0.59, 0.6, 0.72), tint(rng, 0.56, 0.2, 0.95))
        sky = sky + (0.96 - sky) * cloud[..., None]
        skyline = 0.36 + (
            0.12 * np.sin(9 * x + 5 * hue) + 0.3 * wide[0]
            if kind == "mountains"
            else 0.05 * np.round(4 * np.sin(27 * x + 9 * hue)) / 4
        )
        far = tint(rng, 0.6, 0.25, 0.5) if kind == "mountains" else tint(rng, 0.3, 0.25, 0.35)
        return np.where((y > skyline)[..., None], far * (0.85 + 0.3 * fine[..., None]), sky)
    if kind == "window":
        pane = ((x * 3 + 0.2) % 1 > 0.1) & ((y * 2.2 + 0.3) % 1 > 0.07)
        outside = _mix(y * 2 + 0.5 * wide, tint(rng, 0.55, 0.1, 1.0), tint(rng, 0.3, 0.4, 0.55))
        return np.where(pane[..., None], outside, tint(rng, 0.1, 0.1, 0.5))
    if kind in ("curtain", "blinds"):
        fold = 0.5 + 0.45 * np.sin(x * 55 + 4 * wide) if kind == "curtain" else ((y * 34) % 1) ** 0.5
        return _mix(fold, tint(rng, hue, 0.5, 0.25), tint(rng, hue + 0.05, 0.35, 0.7))
    if kind == "panels":
        seam = ((x * 5) % 1 < 0.03) | ((y * 3) % 1 < 0.03)
        tone = 0.3 + 0.4 * _cells(x * 5, y * 3, rng) + 0.1 * fine
        return np.where(
            seam[..., None], 0.2, _mix(tone, tint(rng, 0.6, 0.2, 0.4), tint(rng, 0.55, 0.15, 0.7))
        )
    if kind == "corridor":
        side = np.clip(np.abs(x - 0.5) * 2.4, 0, 1)
        wall = _mix(side, tint(rng, 0.12, 0.25, 0.85), tint(rng, 0.1, 0.3, 0.16))
        door = (np.abs(x - 0.5) < 0.07) & (y > 0.12)
        return np.where(door[..., None], tint(rng, 0.13, 0.1, 1.0), wall)
    if kind == "bokeh":
        image = Image.new("RGB", (size, size), (18, 16, 30))
        pen = ImageDraw.Draw(image, "RGBA")
        for _ in range(120):
            cx, cy, r = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(5, 30)
            ink = tuple(int(255 * c) for c in tint(rng, rng.choice([0.08, 0.12, 0.95, 0.55]), 0.5, 0.95))
            pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(*ink, 110))
        return np.asarray(image, dtype=np.float32) / 255
    if kind == "trunks":
        bark = 0.5 + 0.5 * np.sin(x * 40 + 6 * wide[:1]) + 0.4 * fine
        return _mix(bark, tint(rng, 0.08, 0.4, 0.15), tint(rng, 0.22, 0.4, 0.6))
    if kind == "wallpaper":
        motif = np.sin(x * 60) * np.sin(y * 60) > 0.3
        return np.where(motif[..., None], tint(rng, hue + 0.1, 0.4, 0.55), tint(rng, hue, 0.25, 0.85))
    if kind in ("clutter", "poster"):
        return np.asarray(clutter(rng, size), dtype=np.float32) / 255
    shade = 0.55 + 0.35 * (x - 0.5) + 0.15 * wide
    return _furniture(rng, _mix(shade, tint(rng, 0.1, 0.15, 0.5), tint(rng, 0.12, 0.1, 0.9)), 3)  # plaster
