"""Patterns and palettes: what an object's surface looks like, drawn from a random generator.

A pattern maps u, v in 0..1 of each face to colours (F, 3) in 0..1.
"""

from __future__ import annotations

import colorsys

import numpy as np

from vitlr.data.render.mesh import Pattern

__all__ = ["buttons", "checks", "colour", "dots", "label", "metal", "palette", "plain", "screen", "stripes", "surface"]

Colour = tuple[float, float, float]


def colour(rng: np.random.Generator, *, grey: float = 0.25) -> Colour:
    """A colour as things are painted in: mostly saturated, sometimes (share ``grey``) black, white or grey."""
    if rng.random() < grey:
        level = float(rng.choice([0.08, 0.2, 0.45, 0.7, 0.92]))
        return (level, level, min(1.0, level * float(rng.uniform(0.95, 1.05))))
    return colorsys.hsv_to_rgb(float(rng.random()), float(rng.uniform(0.45, 0.95)), float(rng.uniform(0.35, 0.95)))


def palette(rng: np.random.Generator, size: int = 3) -> list[Colour]:
    """Colours that differ visibly from one another."""
    chosen: list[Colour] = []
    for _ in range(200):
        candidate = colour(rng)
        if all(np.abs(np.subtract(candidate, other)).sum() > 0.5 for other in chosen):
            chosen.append(candidate)
        if len(chosen) == size:
            break
    return chosen + chosen[: size - len(chosen)]


def plain(base: Colour) -> Pattern:
    return lambda u, v: np.tile(base, (len(u), 1))


def _choose(mask: np.ndarray, on: Colour, off: Colour) -> np.ndarray:
    return np.where(mask[:, None], on, off)


def stripes(a: Colour, b: Colour, *, number: int, along: str = "v", share: float = 0.5) -> Pattern:
    return lambda u, v: _choose(((v if along == "v" else u) * number) % 1 < share, a, b)


def checks(a: Colour, b: Colour, *, number: int) -> Pattern:
    return lambda u, v: _choose((np.floor(u * number * 2) + np.floor(v * number)) % 2 == 0, a, b)


def dots(a: Colour, b: Colour, *, number: int, size: float = 0.3) -> Pattern:
    def pattern(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        x, y = (u * number * 2) % 1 - 0.5, (v * number) % 1 - 0.5
        return _choose(x**2 + y**2 < size**2, a, b)

    return pattern


def label(base: Colour, paper: Colour, ink: Colour, *, low: float, high: float, wide: float = 1.0) -> Pattern:
    """A label from ``low`` to ``high`` of v over the share ``wide`` of u, with lines of ink."""

    def pattern(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        inside = (v > low) & (v < high) & (np.abs(u - 0.5) < wide / 2)
        height = (v - low) / (high - low)
        written = inside & (np.abs(height - 0.5) < 0.28) & ((u * 7) % 1 < 0.6)
        return _choose(written, ink, base) * ~(inside & ~written)[:, None] + np.multiply.outer(inside & ~written, paper)

    return pattern


def metal(base: Colour = (0.72, 0.72, 0.75)) -> Pattern:
    return lambda u, v: np.asarray(base) * (0.85 + 0.2 * np.sin(v * 40))[:, None]


def screen(frame: Colour, picture: list[Colour], *, icons: int, margin: float = 0.1) -> Pattern:
    """A bright display with rows of icons inside a frame."""

    def pattern(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        inside = (np.abs(u - 0.5) < 0.5 - margin) & (np.abs(v - 0.5) < 0.5 - margin)
        blend = v[:, None] * np.asarray(picture[0]) + (1 - v)[:, None] * np.asarray(picture[1])
        icon = ((u * icons) % 1 < 0.55) & ((v * icons * 1.6) % 1 < 0.5) & (v < 0.55)
        return np.where(inside[:, None], np.where(icon[:, None], picture[2], blend), frame)

    return pattern


def buttons(body: Colour, keys: list[Colour], *, columns: int, rows: int, top: float = 0.95, low: float = 0.15) -> Pattern:
    """Rows of keys on a body, one colour a row in turn."""

    def pattern(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        height = (v - low) / (top - low)
        key = ((u * columns) % 1 > 0.3) & ((height * rows) % 1 > 0.4) & (height > 0) & (height < 1)
        row = np.clip(np.floor(height * rows), 0, rows - 1).astype(int) % len(keys)
        return np.where(key[:, None], np.asarray(keys)[row], body)

    return pattern


def surface(rng: np.random.Generator, colours: list[Colour]) -> Pattern:
    """One of all the patterns, in these colours."""
    a, b, c = (colours * 3)[:3]
    kind = int(rng.integers(7))
    number = int(rng.integers(2, 6))
    if kind == 0:
        return plain(a)
    if kind == 1:
        return stripes(a, b, number=number, along="v", share=float(rng.uniform(0.3, 0.7)))
    if kind == 2:
        return stripes(a, b, number=number, along="u", share=float(rng.uniform(0.3, 0.7)))
    if kind == 3:
        return checks(a, b, number=number)
    if kind == 4:
        return dots(a, b, number=number, size=float(rng.uniform(0.2, 0.4)))
    if kind == 5:
        low = float(rng.uniform(0.1, 0.4))
        return label(a, b, c, low=low, high=low + float(rng.uniform(0.25, 0.5)), wide=float(rng.uniform(0.5, 1)))
    return stripes(a, b, number=1, along="v", share=float(rng.uniform(0.25, 0.75)))
