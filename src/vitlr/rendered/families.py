"""Shapes for pretraining that belong to none of the ten categories: named families and free assemblies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vitlr.rendered.mesh import Mesh, ellipsoid, extrude, join, outline, revolve, rotation, torus, tube
from vitlr.rendered.textures import Colour, body, metal, noisy, palette, pattern, plain, timber

__all__ = ["FAMILIES", "build_other"]

Rng = np.random.Generator
QUARTER = np.pi / 2

# Surfaces of revolution: (radius, height) from the bottom up. Every instance stretches them differently.
PROFILES: dict[str, list[tuple[float, float]]] = {
    "bottle": [(0, -1), (0.33, -1), (0.36, -0.9), (0.36, 0.1), (0.3, 0.35), (0.13, 0.6), (0.12, 0.92), (0.15, 0.94), (0.15, 1), (0, 1)],
    "vase": [(0, -1), (0.25, -1), (0.5, -0.5), (0.52, -0.1), (0.25, 0.45), (0.2, 0.65), (0.4, 1), (0.36, 1), (0.15, 0.6), (0, 0.5)],
    "bowl": [(0, -0.4), (0.35, -0.4), (0.75, -0.05), (0.95, 0.4), (0.88, 0.4), (0.65, 0), (0, -0.25)],
    "candle": [(0, -0.8), (0.6, -0.8), (0.62, -0.7), (0.22, -0.65), (0.2, 0.7), (0.05, 0.68), (0.02, 0.85), (0, 0.86)],
    "pawn": [(0, -1), (0.5, -1), (0.52, -0.85), (0.3, -0.7), (0.18, -0.1), (0.16, 0.3), (0.34, 0.36), (0.18, 0.44), (0.32, 0.65), (0.32, 0.8), (0.18, 0.98), (0, 1)],
    "bell": [(0, -0.75), (0.12, -0.72), (0.12, -0.6), (0.75, -0.6), (0.6, -0.3), (0.45, 0.3), (0.3, 0.55), (0.1, 0.6), (0.1, 0.95), (0, 1)],
    "trophy": [(0, -1), (0.45, -1), (0.45, -0.75), (0.12, -0.65), (0.1, -0.2), (0.4, 0.1), (0.55, 0.9), (0.5, 0.9), (0.3, 0.15), (0, 0.1)],
    "spinning_top": [(0, -1), (0.1, -0.8), (0.75, -0.1), (0.8, 0.1), (0.3, 0.3), (0.1, 0.4), (0.1, 0.9), (0, 0.92)],
    "mushroom": [(0, -0.9), (0.22, -0.88), (0.18, 0.1), (0.75, 0.1), (0.7, 0.4), (0.4, 0.75), (0, 0.85)],
    "pear": [(0, -0.8), (0.35, -0.75), (0.6, -0.4), (0.58, -0.1), (0.3, 0.35), (0.22, 0.6), (0.05, 0.75), (0.03, 1), (0, 1)],
    "carrot": [(0, -1), (0.06, -0.9), (0.2, -0.1), (0.27, 0.5), (0.2, 0.65), (0.08, 0.66), (0.12, 1), (0, 0.95)],
    "pin": [(0, -1), (0.24, -1), (0.4, -0.5), (0.36, -0.1), (0.16, 0.4), (0.17, 0.55), (0.24, 0.75), (0.18, 0.95), (0, 1)],
    "torch": [(0, -1), (0.2, -1), (0.22, -0.9), (0.22, 0.3), (0.26, 0.35), (0.4, 0.75), (0.42, 1), (0.36, 1), (0.1, 0.8), (0, 0.8)],
    "jar": [(0, -0.7), (0.5, -0.7), (0.55, -0.6), (0.55, 0.35), (0.45, 0.45), (0.48, 0.47), (0.48, 0.7), (0, 0.72)],
    "reel": [(0, -0.6), (0.6, -0.6), (0.6, -0.45), (0.35, -0.42), (0.38, 0), (0.35, 0.42), (0.6, 0.45), (0.6, 0.6), (0, 0.6)],
    "funnel": [(0.08, -1), (0.12, -0.3), (0.75, 0.4), (0.75, 0.55), (0.7, 0.55), (0.7, 0.4), (0.08, -0.28)],
    "rocket": [(0, -0.9), (0.2, -0.9), (0.26, -0.75), (0.34, -0.4), (0.36, 0.1), (0.26, 0.6), (0.1, 0.9), (0, 1)],
    "goblet": [(0, -1), (0.42, -1), (0.4, -0.94), (0.07, -0.85), (0.06, -0.2), (0.35, 0), (0.45, 0.4), (0.38, 0.95), (0.34, 0.95), (0.4, 0.4), (0, 0.05)],
    "hat": [(0, -0.2), (0.95, -0.25), (0.97, -0.18), (0.5, -0.12), (0.48, 0.4), (0.4, 0.52), (0, 0.5)],
}  # fmt: skip


def _skin(rng: Rng, colours: list[Colour]) -> tuple:
    """A printed material and two plain ones that match it."""
    main = (
        pattern(rng, colours)
        if rng.random() < 0.7
        else (timber(rng) if rng.random() < 0.25 else body(rng, colours[0]))
    )
    return main, body(rng, colours[1]), body(rng, colours[2])


def _turned(name: str) -> Callable[[Rng], Mesh]:
    def build(rng: Rng) -> Mesh:
        main, second, _ = _skin(rng, palette(rng))
        profile = np.array(PROFILES[name])
        profile[:, 0] *= rng.uniform(0.8, 1.25) * np.interp(
            profile[:, 1], [-1, 0, 1], rng.uniform(0.85, 1.18, 3)
        )
        share = int(rng.integers(3, len(profile) - 2))
        lower = revolve(
            [tuple(p) for p in profile[: share + 1]], main, segments=int(rng.choice([6, 24, 24, 24]))
        )
        return join(
            lower,
            revolve([tuple(p) for p in profile[share:]], second if rng.random() < 0.6 else main, segments=24),
        )

    return build


def _rod(rng: Rng, material, low: float, high: float, radius: float, taper: float = 1.0) -> Mesh:
    y = np.linspace(low, high, 5)
    return tube(
        np.stack([np.zeros(5), y, np.zeros(5)], -1), radius * np.linspace(taper, 1, 5), material, segments=12
    )


def _box(size: tuple[float, float, float], front, side, corner: float = 0.15) -> Mesh:
    return extrude(outline(size[0], size[1], corner), size[2], front, side, bevel=0.04)


def spoon(rng: Rng) -> Mesh:
    main, second, _ = _skin(rng, palette(rng))
    head = metal() if rng.random() < 0.6 else main
    bowl = ellipsoid((rng.uniform(0.22, 0.34), 0.36, 0.08), head).moved(y=0.68)
    return join(bowl, _rod(rng, head, -0.2, 0.4, 0.05), _rod(rng, second, -1, -0.2, 0.08))


def hammer(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    head = revolve(
        [(0, -0.5), (0.16, -0.5), (0.18, -0.3), (0.12, -0.2), (0.12, 0.2), (0.05, 0.55), (0, 0.55)],
        metal() if rng.random() < 0.5 else second,
    )
    return join(
        _rod(rng, main, -1, 0.75, 0.085, 1.3),
        head.moved(y=0.8, turn=rotation(z=QUARTER)),
        _rod(rng, third, -1.02, -0.4, 0.12),
    )


def dumbbell(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    radius, number = rng.uniform(0.35, 0.5), int(rng.integers(1, 3))
    disc = [(0, -0.14), (radius, -0.14), (radius, 0.14), (0, 0.14)]
    sides = int(rng.choice([6, 24]))
    parts = [
        revolve(disc, (main, third)[i % 2], segments=sides)
        .scaled(1 - 0.2 * i, 1, 1 - 0.2 * i)
        .moved(y=s * (0.6 + 0.24 * i))
        for s in (-1, 1)
        for i in range(number)
    ]
    return join(_rod(rng, second, -0.6, 0.6, 0.11), *parts)


def banana(rng: Rng) -> Mesh:
    t = np.linspace(0, 1, 14)
    angle, radius = (
        np.linspace(-1, 1, 14) * rng.uniform(0.6, 0.95),
        np.interp(t, [0, 0.1, 0.5, 0.88, 0.94, 1], [0.06, 0.15, 0.23, 0.13, 0.05, 0.05]),
    )
    main, *_ = _skin(rng, palette(rng))
    return tube(
        np.stack([np.cos(angle), np.sin(angle), np.zeros(14)], -1),
        radius * rng.uniform(0.8, 1.2),
        main,
        segments=7,
    )


def toy_car(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    length, width = rng.uniform(0.85, 1.0), rng.uniform(0.35, 0.45)
    cabin = ellipsoid((0.5 * length, 0.26, 0.85 * width), second, square=0.6).moved(
        rng.uniform(-0.25, 0.15), 0.3, 0
    )
    wheel = revolve(
        [(0, -0.08), (0.22, -0.08), (0.24, 0), (0.22, 0.08), (0, 0.08)],
        plain((0.07, 0.07, 0.07), 0.2),
        segments=16,
    )
    hub = revolve([(0.12, 0.08), (0.1, 0.1), (0, 0.1)], metal(), segments=12)
    wheels = [
        join(wheel, hub).moved(x * length, -0.2, z * width, rotation(x=z * QUARTER))
        for x in (-0.6, 0.6)
        for z in (-1, 1)
    ]
    return join(
        ellipsoid((length, 0.24, width), main, square=0.65),
        cabin,
        *wheels,
        ellipsoid((0.08, 0.08, 0.7 * width), third).moved(length),
    )


def watering_can(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    pot = revolve([(0, -0.5), (0.5, -0.5), (0.42, 0.3), (0.38, 0.32), (0, 0.25)], main)
    spout = tube(
        np.array([[0.4, -0.35, 0], [0.65, -0.1, 0], [0.9, 0.35, 0], [1.05, 0.5, 0]]),
        np.array([0.13, 0.1, 0.08, 0.08]),
        second,
    )
    rose = revolve([(0.06, 0), (0.22, 0.14), (0, 0.16)], third, segments=14).moved(
        1.03, 0.46, 0, rotation(z=-0.8)
    )
    angle = np.linspace(0.4, 2.9, 12)
    return join(
        pot,
        spout,
        rose,
        tube(np.stack([-0.3 + 0.45 * np.cos(angle), 0.1 + 0.5 * np.sin(angle), 0 * angle], -1), 0.06, second),
    )


def lamp(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    shade = [(rng.uniform(0.5, 0.75), 0.2), (rng.uniform(0.2, 0.45), 0.95), (0, 0.97)]
    return join(
        revolve([(0, -1), (0.45, -1), (0.4, -0.88), (0.08, -0.8)], second),
        _rod(rng, third, -0.85, 0.3, 0.06),
        revolve(shade, main, thin=True),
    )


def brush(rng: Rng) -> Mesh:
    main, second, _ = _skin(rng, palette(rng))
    hair = noisy(rng, (0.8, 0.7, 0.5), (0.4, 0.3, 0.2), 30)
    head = _box((rng.uniform(0.2, 0.4), 0.3, 0.14), hair, hair).moved(y=0.7)
    return join(
        head,
        _box((0.3, 0.14, 0.16), metal(), metal()).moved(y=0.36),
        ellipsoid((0.15, 0.7, 0.1), main).moved(y=-0.35),
        torus(0.06, 0.03, second, points=10).moved(y=-1.05),
    )


def screwdriver(rng: Rng) -> Mesh:
    main, second, _ = _skin(rng, palette(rng))
    handle = revolve(
        [(0, -1), (0.15, -0.98), (0.2, -0.8), (0.16, -0.6), (0.21, -0.4), (0.19, -0.1), (0.1, 0)],
        main,
        segments=int(rng.choice([6, 16])),
    )
    return join(
        handle, _rod(rng, metal(), 0, 0.9, 0.05), _box((0.07, 0.1, 0.02), metal(), second).moved(y=0.95)
    )


def key(rng: Rng) -> Mesh:
    main, second, _ = _skin(rng, palette(rng))
    steel = metal((0.8, 0.7, 0.4)) if rng.random() < 0.5 else metal()
    teeth = [
        _box((rng.uniform(0.06, 0.16), 0.07, 0.03), steel, steel).moved(0.12, y)
        for y in np.linspace(-0.85, -0.3, int(rng.integers(2, 5)))
    ]
    bow = (
        torus(0.3, 0.1, second, corner=float(rng.uniform(0.3, 1)))
        if rng.random() < 0.6
        else _box((0.38, 0.32, 0.09), main, second, 0.6)
    )
    return join(_box((0.08, 0.65, 0.04), steel, steel).moved(y=-0.4), bow.moved(y=0.5), *teeth)


def camera(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    barrel = revolve(
        [(0.36, 0), (0.36, 0.2), (0.3, 0.2), (0.3, 0.45), (0.22, 0.45), (0.1, 0.38), (0, 0.38)], third
    )
    return join(
        _box((0.9, 0.55, 0.25), main, second),
        barrel.moved(rng.uniform(-0.3, 0.3), -0.05, 0.2, rotation(x=QUARTER)),
        _box((0.25, 0.12, 0.15), second, second).moved(0, 0.6),
        _rod(rng, metal(), 0.5, 0.65, 0.1).moved(-0.55),
    )


def padlock(rng: Rng) -> Mesh:
    main, second, _ = _skin(rng, palette(rng))
    angle = np.linspace(-0.2, np.pi + 0.2, 14)
    bow = tube(np.stack([0.36 * np.cos(angle), 0.25 + 0.5 * np.sin(angle), 0 * angle], -1), 0.09, metal())
    return join(_box((0.6, 0.5, 0.22), main, second, float(rng.uniform(0.15, 0.9))).moved(y=-0.25), bow)


def fish(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    tail = extrude(
        np.array([(0, 0), (-0.45, -0.4), (-0.3, 0), (-0.45, 0.4)])[::-1], 0.04, second, second, bevel=0.02
    )
    eye = ellipsoid((0.06, 0.06, 0.06), plain((0.05, 0.05, 0.05), 1), segments=8)
    fin = ellipsoid((0.3, 0.2, 0.04), third).moved(0, 0.35)
    return join(
        ellipsoid((0.85, rng.uniform(0.35, 0.5), rng.uniform(0.15, 0.28)), main),
        tail.moved(-0.7),
        fin,
        eye.moved(0.6, 0.12, 0.15),
        eye.moved(0.6, 0.12, -0.15),
    )


def teapot(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    pot = ellipsoid((0.6, rng.uniform(0.42, 0.6), 0.6), main, segments=22)
    spout = tube(
        np.array([[0.5, -0.1, 0], [0.75, 0, 0], [0.9, 0.3, 0], [1.02, 0.4, 0]]),
        np.array([0.17, 0.12, 0.08, 0.07]),
        second,
    )
    angle = np.linspace(QUARTER, 3 * QUARTER, 10)
    lid = revolve([(0.3, 0.4), (0.2, 0.55), (0.05, 0.58), (0.09, 0.68), (0, 0.74)], third)
    return join(
        pot,
        spout,
        lid,
        tube(np.stack([-0.5 + 0.4 * np.cos(angle), 0.35 * np.sin(angle), 0 * angle], -1), 0.07, second),
    )


def book(rng: Rng) -> Mesh:
    main, second, _ = _skin(rng, palette(rng))
    width, height, depth = rng.uniform(0.5, 0.75), rng.uniform(0.75, 1.0), rng.uniform(0.08, 0.3)
    return join(
        _box((width, height, 0.03), main, second, 0.06).moved(z=depth),
        _box((width, height, 0.03), second, second, 0.06).moved(z=-depth),
        _box((0.95 * width, 0.95 * height, depth), plain((0.9, 0.88, 0.8)), plain((0.85, 0.83, 0.75)), 0.06),
    )


def carton(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    size = (rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.95), rng.uniform(0.2, 0.5))
    return join(_box(size, main, second, 0.08), _rod(rng, third, size[1], size[1] + 0.15, 0.15))


def duck(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    head, beak = (
        ellipsoid((0.35, 0.35, 0.33), main).moved(0.4, 0.5),
        ellipsoid((0.25, 0.07, 0.16), second).moved(0.78, 0.45),
    )
    return join(
        ellipsoid((0.75, 0.45, 0.5), main),
        head,
        beak,
        ellipsoid((0.25, 0.2, 0.15), third).moved(-0.75, 0.25),
        ellipsoid((0.05, 0.07, 0.34), plain((0.05, 0.05, 0.05), 1)).moved(0.55, 0.6),
    )


def plane(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    return join(
        ellipsoid((1, 0.17, 0.17), main),
        ellipsoid((0.25, 0.04, rng.uniform(0.7, 1)), second).moved(0.1),
        ellipsoid((0.13, 0.03, 0.35), third).moved(-0.85),
        ellipsoid((0.14, 0.3, 0.03), third).moved(-0.88, 0.25),
    )


def ring_toy(rng: Rng) -> Mesh:
    number = int(rng.integers(3, 6))
    parts = [
        torus(0.7 - 0.1 * i, 0.16, body(rng, c)).moved(y=-0.55 + 0.27 * i, turn=rotation(x=QUARTER))
        for i, c in enumerate(palette(rng, number))
    ]
    return join(*parts, _rod(rng, timber(rng), -0.8, 0.9, 0.1))


def comb(rng: Rng) -> Mesh:
    main, second, _ = _skin(rng, palette(rng))
    teeth = [
        _rod(rng, second, -0.75, 0, 0.04, 0.5).moved(x)
        for x in np.linspace(-0.85, 0.85, int(rng.integers(8, 15)))
    ]
    return join(_box((1, rng.uniform(0.12, 0.25), 0.07), main, second, 0.4), *teeth)


def wrench(rng: Rng) -> Mesh:
    main, second, _ = _skin(rng, palette(rng))
    angle = np.linspace(0.6, 2 * np.pi - 0.6, 14) + QUARTER
    jaw = tube(np.stack([0.24 * np.cos(angle), 0.24 * np.sin(angle), 0 * angle], -1), 0.11, metal())
    return join(
        _box((0.12, 0.7, 0.06), main, second, 0.3),
        jaw.moved(y=0.85),
        torus(0.17, 0.09, metal()).moved(y=-0.82),
    )


def saucepan(rng: Rng) -> Mesh:
    main, second, third = _skin(rng, palette(rng))
    pot = revolve([(0, -0.3), (0.55, -0.3), (0.6, 0.3), (0.55, 0.3), (0.5, -0.2), (0, -0.22)], main)
    return join(
        pot.moved(y=0.0),
        tube(np.array([[0.55, 0.2, 0], [1, 0.25, 0], [1.5, 0.25, 0]]), 0.07, second),
        torus(0.57, 0.03, third).moved(y=0.3, turn=rotation(x=QUARTER)),
    )


def assembly(rng: Rng) -> Mesh:
    """Two to five parts of any shape, each attached to a point on the earlier ones."""
    colours = palette(rng, 4)
    parts: list[Mesh] = []
    place = np.zeros(3)
    for _ in range(int(rng.integers(2, 6))):
        main, second, third = _skin(rng, [colours[i] for i in rng.permutation(4)])
        size = rng.uniform(0.15, 0.6, 3)
        kind = int(rng.integers(5))
        if kind == 0:
            part = ellipsoid(tuple(size), main, square=float(rng.choice([0, 0, 0.5, 0.8])))
        elif kind == 1:
            part = extrude(
                outline(size[0], size[1], float(rng.uniform(0.1, 1)), taper=float(rng.uniform(-0.4, 0.4))),
                size[2] * 0.6,
                main,
                second,
                third,
            )
        elif kind == 2:
            heights = np.linspace(-1, 1, int(rng.integers(3, 8))) * rng.uniform(0.3, 0.8)
            middle = [(float(rng.uniform(0.1, 0.5)), float(y)) for y in heights]
            part = revolve(
                [(0, middle[0][1]), *middle, (0, middle[-1][1])],
                main,
                segments=int(rng.choice([5, 8, 22, 22])),
            )
        elif kind == 3:
            part = torus(
                float(rng.uniform(0.25, 0.5)),
                float(rng.uniform(0.05, 0.15)),
                main,
                squash=float(rng.uniform(0.6, 1.4)),
                corner=float(rng.uniform(0.3, 1)),
            )
        else:
            t = np.linspace(0, 1, 10)
            path = np.stack(
                [
                    rng.uniform(-0.5, 0.5) * np.sin(rng.uniform(1, 4) * t),
                    t * 1.4 - 0.7,
                    rng.uniform(-0.5, 0.5) * t**2,
                ],
                -1,
            )
            part = tube(path, rng.uniform(0.05, 0.16) * np.linspace(1, rng.uniform(0.5, 1.5), 10), main)
        x, y, z = place
        part = part.moved(x, y, z, turn=rotation(*rng.uniform(-0.8, 0.8, 3)))
        parts.append(part)
        place = part.vertices[int(rng.integers(len(part.vertices)))]
    return join(*parts)


FAMILIES: dict[str, Callable[[Rng], Mesh]] = {name: _turned(name) for name in PROFILES} | {
    builder.__name__: builder
    for builder in (
        spoon, hammer, dumbbell, banana, toy_car, watering_can, lamp, brush, screwdriver, key, camera, padlock, fish,
        teapot, book, carton, duck, plane, ring_toy, comb, wrench, saucepan,
    )
}  # fmt: skip


def build_other(index: int, rng: Rng) -> Mesh:
    """Object ``index`` of pretraining: the families in turn, and every third object an assembly."""
    names = list(FAMILIES)
    if index % 3 == 2:
        return assembly(rng)
    return FAMILIES[names[(index - index // 3) % len(names)]](rng)
