"""The objects: ten categories in the spirit of CORe50's, and assemblies that belong to none of them.

A builder draws proportions, colours and patterns from its random generator, so that five objects of one
category share a shape and little else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vitlr.data.render.mesh import Mesh, box, join, loft, revolve, ring, rotation, tube
from vitlr.data.render.patterns import (
    buttons,
    checks,
    colour,
    dots,
    label,
    metal,
    palette,
    plain,
    screen,
    stripes,
    surface,
)

__all__ = ["BUILDERS", "assembly", "build"]

Rng = np.random.Generator


def plug_adapter(rng: Rng) -> Mesh:
    body, face, mark = palette(rng)
    width, height, depth = rng.uniform(0.55, 0.8), rng.uniform(0.6, 0.9), rng.uniform(0.3, 0.6)
    holes = dots((0.05, 0.05, 0.05), face, number=2, size=float(rng.uniform(0.18, 0.26)))
    parts = [box((width, height, depth), holes, stripes(body, mark, number=1, share=0.8), cells=(16, 14), round_=0.5)]
    pin = revolve([(0, -0.45), (0.08, -0.42), (0.08, 0), (0, 0)], metal(), segments=8, shine=0.8)
    for x, y in ([(-0.3, 0), (0.3, 0)], [(-0.25, -0.2), (0.25, -0.2), (0, 0.3)])[int(rng.integers(2))]:
        parts.append(pin.moved((x * width / 0.6, y, -depth), rotation(x=np.pi / 2)))
    return join(*parts)


def mobile_phone(rng: Rng) -> Mesh:
    body, *picture = palette(rng, 4)
    height = rng.uniform(1.0, 1.3)
    front = screen(body, picture, icons=int(rng.integers(3, 6)), margin=float(rng.uniform(0.05, 0.16)))
    back = label(body, picture[0], picture[1], low=0.75, high=0.95, wide=0.4)
    return box((0.55, height, rng.uniform(0.06, 0.12)), front, plain(body), cells=(14, 24), round_=0.35, back=back, shine=0.7)


def scissor(rng: Rng) -> Mesh:
    handle, other, _ = palette(rng)
    length, open_ = rng.uniform(0.9, 1.3), rng.uniform(0.12, 0.3)
    size, squash = rng.uniform(0.26, 0.36), rng.uniform(1.1, 1.6)
    parts = []
    for side, tint in ((1, handle), (-1, handle if rng.random() < 0.6 else other)):
        y = np.linspace(-0.1, length, 9)
        half = 0.13 * (1 - np.clip(y / length, 0, 1) ** 2) + 0.015
        z = 0.03 * side
        outline = np.stack([np.stack([half, y, z + 0 * y], -1), np.stack([-half, y, z + 0 * y], -1)], 1)
        blade = loft(outline, metal(), shine=0.9, open_=True, closed=False)
        loop = ring(size, 0.085, plain(tint), squash=squash, square=float(rng.uniform(0, 0.6)), shine=0.4)
        arm = tube(np.array([[0, 0, z], [-0.08 * side, -0.25, z], [-0.2 * side, -0.45, z]]), 0.09, plain(tint))
        half_scissor = join(blade, arm, loop.moved((-0.28 * side, -0.45 - size * squash, z)))
        parts.append(half_scissor.moved(turn=rotation(z=open_ * side)))
    return join(*parts)


def light_bulb(rng: Rng) -> Mesh:
    glass, ring_, _ = palette(rng)
    if rng.random() < 0.5:
        glass = tuple(0.8 + 0.2 * np.asarray(glass))
    radius, neck = rng.uniform(0.5, 0.75), rng.uniform(0.22, 0.32)
    angle = np.linspace(-0.85, np.pi / 2, 10)
    bulb = [(max(radius * np.cos(a), 0.001), 0.45 + radius * np.sin(a)) for a in angle]
    pattern = [plain(glass), stripes(glass, ring_, number=5, share=0.8, along="u"), label(glass, ring_, glass, low=0.75, high=0.9)]
    screw = [(neck * (1 if i % 2 else 0.88), -0.75 + 0.07 * i) for i in range(9)]
    return join(
        revolve([(neck, -0.2), *bulb], pattern[int(rng.integers(3))], segments=24, shine=0.9),
        revolve([(0, -0.85), (neck * 0.5, -0.85), *screw, (neck, -0.15)], metal((0.75, 0.7, 0.55)), shine=0.9),
    )


def can(rng: Rng) -> Mesh:
    a, b, c = palette(rng)
    radius, height = rng.uniform(0.38, 0.6), rng.uniform(0.55, 1.0)
    bands = [
        label(a, b, c, low=0.25, high=0.8, wide=float(rng.uniform(0.5, 1))),
        stripes(a, b, number=int(rng.integers(1, 4)), share=float(rng.uniform(0.3, 0.7))),
        dots(a, b, number=int(rng.integers(2, 4)), size=0.4),
        checks(a, c, number=int(rng.integers(3, 6))),
        stripes(c, b, number=int(rng.integers(3, 6)), along="u"),
    ][int(rng.integers(5))]
    ys = np.linspace(-height, height, 14)
    ends = metal()
    return join(
        revolve([(radius, y) for y in ys], bands, segments=28, shine=0.6),
        revolve([(0, -height * 1.02), (radius * 0.85, -height * 1.04), (radius, -height)], ends, segments=20, shine=0.9),
        revolve([(radius, height), (radius * 0.85, height * 1.06), (radius * 0.8, height * 1.01), (0, height * 1.01)], ends,
                segments=20, shine=0.9),
    )


def glasses(rng: Rng) -> Mesh:
    frame, lens, temple = palette(rng)
    radius, squash, square = rng.uniform(0.32, 0.42), rng.uniform(0.65, 1.0), rng.uniform(0, 1)
    lens = tuple(0.35 * np.asarray(lens)) if rng.random() < 0.6 else tuple(0.5 + 0.4 * np.asarray(lens))
    thickness, gap = rng.uniform(0.035, 0.07), radius + rng.uniform(0.08, 0.14)
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    power = 1 - 0.6 * square
    x = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** power * radius
    y = np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** power * radius * squash
    rim = np.stack([x, y, 0 * x], -1)
    disc = loft(np.stack([rim, rim * 0.01]), stripes(lens, tuple(0.7 * np.asarray(lens)), number=2, along="u"), shine=1.0, open_=True)
    hoop = ring(radius, thickness, plain(frame), squash=squash, square=float(square), shine=0.5)
    parts = []
    for side in (-1, 1):
        parts += [disc.moved((side * gap, 0, 0)), hoop.moved((side * gap, 0, 0))]
        edge = side * (gap + radius)
        path = np.array([[edge, 0.1, 0], [edge * 1.05, 0.1, -0.3], [edge * 1.02, 0.08, -0.9], [edge, -0.2, -1.15]])
        parts.append(tube(path, thickness * 0.9, plain(temple), segments=6))
    bridge = np.array([[-0.12, 0.08, 0], [0, 0.13, 0.03], [0.12, 0.08, 0]])
    return join(*parts, tube(bridge, thickness, plain(frame), segments=6))


def ball(rng: Rng) -> Mesh:
    colours = palette(rng)
    a, b, c = colours
    pattern = [
        stripes(a, b, number=int(rng.integers(3, 7)), along="u"),
        stripes(a, c, number=int(rng.integers(2, 5))),
        dots(a, b, number=int(rng.integers(3, 5)), size=0.33),
        checks(b, c, number=int(rng.integers(3, 6))),
        label(a, b, c, low=0.38, high=0.62),
    ][int(rng.integers(5))]
    angle = np.linspace(-np.pi / 2, np.pi / 2, 25)
    profile = [(max(float(np.cos(t)), 0.001), float(np.sin(t))) for t in angle]
    return revolve(profile, pattern, segments=36, shine=float(rng.uniform(0.05, 0.7)))


def marker(rng: Rng) -> Mesh:
    ink, body, paper = palette(rng)
    radius, cap = rng.uniform(0.1, 0.17), rng.uniform(0.3, 0.55)
    barrel = label(body, paper, ink, low=0.2, high=float(rng.uniform(0.5, 0.85)))
    ys = np.linspace(-1.1, 1.1 - 2 * cap * 0.7, 14)
    parts = [
        revolve([(0.001, -1.12), *((radius, y) for y in ys)], barrel, segments=14, shine=0.4),
        revolve([(radius * 1.12, ys[-1]), (radius * 1.12, 1.1), (radius * 0.8, 1.17), (0.001, 1.17)], plain(ink), segments=14, shine=0.5),
        revolve([(radius * 1.05, -1.12), (radius * 1.05, -0.98)], plain(ink), segments=12),
    ]
    if rng.random() < 0.5:
        clip = np.array([[radius * 1.3, 1.1, 0], [radius * 1.5, 0.8, 0], [radius * 1.3, 0.55, 0]])
        parts.append(tube(clip, 0.03, plain(ink), segments=5))
    return join(*parts)


def cup(rng: Rng) -> Mesh:
    colours = palette(rng)
    a, b, c = colours
    low, high, height = rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.7), rng.uniform(0.5, 0.75)
    ys = np.linspace(-height, height, 13)
    radii = low + (high - low) * ((ys + height) / (2 * height)) ** float(rng.uniform(0.3, 2))
    inside = tuple(0.9 * np.asarray(c if rng.random() < 0.4 else (0.9, 0.9, 0.88)))
    middle = float(np.interp(0, ys, radii))
    reach = rng.uniform(0.3, 0.45)
    bend = np.linspace(-np.pi / 2, np.pi / 2, 9)
    path = np.stack([middle * 0.95 + reach * np.cos(bend), 0.6 * height * np.sin(bend), 0 * bend], -1)
    return join(
        revolve(list(zip(radii.tolist(), ys.tolist(), strict=True)), surface(rng, colours), segments=28, shine=0.6),
        revolve([(0.001, -height), (float(radii[0]), -height)], plain(a), segments=20),
        revolve([(float(r) * 0.92, y) for r, y in zip(radii[::-4], ys[::-4], strict=True)] + [(0.001, -height * 0.8)], plain(inside),
                segments=24, shine=0.3),
        tube(path, rng.uniform(0.06, 0.1), plain(a if rng.random() < 0.7 else b), shine=0.6),
    )


def remote_control(rng: Rng) -> Mesh:
    body, first, second = palette(rng)
    keys = [first, first, second] if rng.random() < 0.6 else [first]
    front = buttons(body, keys, columns=int(rng.integers(2, 5)), rows=int(rng.integers(4, 9)), low=float(rng.uniform(0.05, 0.4)))
    back = stripes(body, tuple(0.6 * np.asarray(body)), number=2)
    width, height = rng.uniform(0.28, 0.42), rng.uniform(1.0, 1.3)
    return box((width, height, rng.uniform(0.09, 0.16)), front, plain(body), cells=(16, 36), round_=float(rng.uniform(0.2, 0.9)), back=back)


BUILDERS: dict[str, Callable[[Rng], Mesh]] = {
    "plug_adapter": plug_adapter,
    "mobile_phone": mobile_phone,
    "scissor": scissor,
    "light_bulb": light_bulb,
    "can": can,
    "glass": glasses,
    "ball": ball,
    "marker": marker,
    "cup": cup,
    "remote_control": remote_control,
}


def assembly(rng: Rng) -> Mesh:
    """An object of no category: one to four turned, boxed or bent parts on a common axis, differently painted."""
    parts, y = [], 0.0
    for _ in range(int(rng.integers(1, 5))):
        part = _piece(rng)
        span = part.vertices[:, 1].max() - part.vertices[:, 1].min()
        offset = (float(rng.uniform(-0.25, 0.25)), y - float(part.vertices[:, 1].min()), float(rng.uniform(-0.2, 0.2)))
        parts.append(part.moved(offset))
        y += span * float(rng.uniform(0.55, 0.95))
    return join(*parts)


def _piece(rng: Rng) -> Mesh:
    colours = palette(rng)
    pattern, shine, kind = surface(rng, colours), float(rng.uniform(0, 0.9)), int(rng.integers(6))
    if kind <= 1:  # turned on a lathe
        count = int(rng.integers(3, 7))
        knots, radii = np.linspace(-1, 1, count), rng.uniform(0.15, 0.8, count)
        ys = np.linspace(-1, 1, 14)
        smooth = np.interp(ys, knots, radii)
        smooth = np.convolve(np.pad(smooth, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
        height = float(rng.uniform(0.2, 0.9))
        profile = [(0.001, -height), *((float(r), float(y * height)) for r, y in zip(smooth, ys, strict=True)), (0.001, height)]
        return revolve(profile, pattern, segments=int(rng.choice([5, 6, 22, 22])), shine=shine)
    if kind == 2:
        size = tuple(rng.uniform(0.15, 0.8, 3).tolist())
        return box(size, pattern, surface(rng, colours), cells=(12, 14), round_=float(rng.uniform(0.02, 0.9)), shine=shine)
    if kind == 3:
        angle = np.linspace(-np.pi / 2, np.pi / 2, 13)
        stretch = float(rng.uniform(0.5, 1.6))
        profile = [(max(0.5 * float(np.cos(t)), 0.001), 0.5 * stretch * float(np.sin(t))) for t in angle]
        return revolve(profile, pattern, segments=22, shine=shine)
    if kind == 4:
        turn = rotation(x=float(rng.uniform(0, 1.5)), y=float(rng.uniform(0, 3)))
        squash, square = float(rng.uniform(0.5, 1.5)), float(rng.random())
        return ring(0.55, float(rng.uniform(0.06, 0.2)), pattern, squash=squash, square=square, shine=shine).moved(turn=turn)
    t = np.linspace(0, 1, 9)
    bend, sway = rng.uniform(-0.8, 0.8, 2)
    path = np.stack([bend * t**2, 1.6 * t, sway * np.sin(3 * t) * 0.5], -1)
    thickness = np.interp(t, [0, 0.5, 1], rng.uniform(0.06, 0.3, 3))
    return tube(path, thickness, pattern, segments=10, shine=shine)


def build(category: str, rng: Rng) -> Mesh:
    """A new object of a category (or ``assembly``), of size 1."""
    return (assembly if category == "assembly" else BUILDERS[category])(rng).normalised()


