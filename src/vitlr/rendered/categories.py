"""The ten categories, modelled on CORe50's: the category determines the shape, the generator the rest.

A builder draws proportions, colours and textures from its random generator; ``variant`` 0..4 picks among the
forms of a category, so that its five objects are of one kind and still distinguishable.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vitlr.rendered.mesh import (
    Material,
    Mesh,
    ellipsoid,
    extrude,
    join,
    outline,
    revolve,
    rotation,
    torus,
    tube,
)
from vitlr.rendered.textures import (
    blocks,
    body,
    checks,
    colour,
    dots,
    gradient,
    holes,
    keys,
    label,
    metal,
    noisy,
    palette,
    pattern,
    plain,
    screen,
    stripes,
    swirl,
)

__all__ = ["BUILDERS"]

Rng = np.random.Generator
DARK = (0.07, 0.07, 0.08)
QUARTER = np.pi / 2


def plug_adapter(rng: Rng, variant: int) -> Mesh:
    shell, face, accent = palette(rng)
    width, height, depth = rng.uniform(0.6, 0.8), rng.uniform(0.6, 0.95), rng.uniform(0.3, 0.55)
    spots = ([(-0.4, 0.0), (0.4, 0.0)], [(-0.45, -0.3), (0.45, -0.3), (0.0, 0.45)])[variant % 2]
    front = holes(rng, shell, face, spots, slot=variant in (1, 4))
    side = (plain(shell, 0.5), stripes(rng, shell, accent), body(rng, shell))[variant % 3]
    shape = outline(width, height, (0.5, 0.25, 1.0, 0.4, 0.7)[variant], taper=(0, 0, 0, 0.25, 0.1)[variant])
    parts = [extrude(shape, depth, front, side, bevel=0.1)]
    for x, y in spots:
        at = (0.7 * width * x, 0.7 * height * y)
        if variant in (1, 4):
            pin = extrude(outline(0.06, 0.12, 0.2, 12), 0.3, metal(), metal(), bevel=0.02)
        else:
            pin = revolve([(0, -0.3), (0.07, -0.27), (0.07, 0.3)], metal(), segments=10).moved(
                turn=rotation(x=QUARTER)
            )
        parts.append(pin.moved(*at, -depth - 0.28))
    if variant == 2:
        parts.append(torus(0.88 * width, 0.05, plain(accent), squash=height / width).moved(z=0.3 * depth))
    if variant in (0, 3):
        t = np.linspace(0, 1, 12)
        cord = np.stack([0.3 * np.sin(4 * t) * t, -height - 0.75 * t, 0.25 * np.sin(3 * t)], -1)
        parts.append(tube(cord, 0.065, plain(accent, 0.2)))
        parts.append(revolve([(0.1, -0.25), (0.17, 0)], plain(accent, 0.2), segments=12).moved(y=-height))
    return join(*parts)


def mobile_phone(rng: Rng, variant: int) -> Mesh:
    shell, key, accent = palette(rng)
    width, height, depth = rng.uniform(0.42, 0.52), rng.uniform(0.9, 1.05), rng.uniform(0.07, 0.13)
    side = plain(shell, 0.7, 0.5 if variant == 1 else 0.0)
    back = (label(rng, shell, shell, accent), pattern(rng, [shell, accent, key]), plain(shell, 0.8))[
        variant % 3
    ]
    lens = revolve([(0.1, 0), (0.1, 0.04), (0, 0.04)], plain(DARK, 1.0), segments=12).moved(
        turn=rotation(x=-QUARTER)
    )
    if variant in (0, 1):
        shape = outline(width, height, (0.16, 0.3)[variant])
        front = screen(rng, DARK if variant == 0 else (0.93, 0.93, 0.93))
        return join(
            extrude(shape, depth, front, side, back, bevel=0.05),
            lens.moved(0.2, 0.75 * height, -depth - 0.03),
        )
    number = int(rng.integers(4, 6))
    pad = keys(
        rng,
        shell,
        key,
        rows=number,
        columns=3,
        area=(0.12, 0.5, 0.88, 0.95),
        display=(0.14, 0.08, 0.86, 0.42),
    )
    if variant in (2, 4):
        shape = outline(width, height, (0, 0, 0.35, 0, 0.6)[variant], taper=(0, 0, 0.12, 0, -0.15)[variant])
        antenna = revolve([(0.07, 0), (0.05, 0.35), (0, 0.37)], plain(DARK), segments=10).moved(
            0.3, height - 0.05, 0
        )
        candybar = extrude(shape, 1.6 * depth, pad, side, back, bevel=0.1, bulge=0.04)
        return join(candybar, antenna) if variant == 4 else candybar
    lower = keys(rng, shell, key, rows=4, columns=3, area=(0.1, 0.3, 0.9, 0.95), size=(96, 110), wheel=True)
    upper = keys(
        rng,
        shell,
        DARK,
        rows=1,
        columns=1,
        area=(0.45, 0.95, 0.55, 0.97),
        size=(96, 110),
        display=(0.1, 0.1, 0.9, 0.9),
    )
    half = outline(width, 0.52 * height, 0.3)
    lid = (
        extrude(half, depth, upper, side, back)
        .moved(y=0.54 * height)
        .moved(turn=rotation(x=rng.uniform(0.1, 0.5)))
    )
    hinge = tube(np.array([[-width, 0, 0], [0, 0, 0], [width, 0, 0]]) * 0.9, 1.3 * depth, plain(accent))
    return join(extrude(half, depth, lower, side).moved(y=-0.54 * height), lid, hinge)


def scissor(rng: Rng, variant: int) -> Mesh:
    grip, ink, _ = palette(rng)
    spread, reach = rng.uniform(0.12, 0.4), rng.uniform(0.85, 1.2)
    skin = (plain(grip, 0.6), plain(grip, 0.4), swirl(rng, grip, ink), metal(), plain(grip, 0.7))[variant]
    inner = plain(ink if variant in (1, 4) else grip, 0.3) if variant != 3 else metal()
    blade_shape = np.array(
        [
            (-0.07, -0.12),
            (0.08, -0.12),
            (0.12, 0.1),
            (0.09, 0.55 * reach),
            (0.0, reach),
            (-0.03, reach),
            (-0.05, 0.5 * reach),
        ]
    )
    blade_shape = np.concatenate(
        [blade_shape + t * (np.roll(blade_shape, -1, 0) - blade_shape) for t in (0, 0.5)], 1
    ).reshape(-1, 2)
    blade_shape = (
        blade_shape * (1, rng.uniform(0.7, 0.9) if variant == 2 else 1) * (1.5 if variant == 4 else 1.15, 1)
    )
    steel = gradient((0.92, 0.93, 0.95), (0.55, 0.56, 0.6), 0.9, 0.6)
    parts = []
    for side in (-1, 1):
        turn = rotation(z=side * spread / 2)
        shape = blade_shape * (side, 1)
        shape = shape if side > 0 else shape[::-1]
        big = 1.25 if variant in (0, 2) and side > 0 else 1.0
        t = np.linspace(0, 1, 8)
        shank = np.stack([side * (0.02 - 0.2 * t**2), -0.1 - 0.42 * t, np.full(8, side * 0.03)], -1)
        half = [
            extrude(shape, 0.028, steel, steel, bevel=0.03).moved(z=side * 0.03),
            tube(shank, np.interp(t, [0, 1], [0.1, 0.085]), skin),
            torus(0.24 * big, 0.075, skin, squash=1.35).moved(
                -side * 0.26 * big, -0.52 - 0.3 * big, side * 0.03, rotation(z=-side * 0.25)
            ),
        ]
        if variant in (1, 4):
            half.append(
                torus(0.2 * big, 0.045, inner, squash=1.35).moved(
                    -side * 0.26 * big, -0.52 - 0.3 * big, side * 0.03 + 0.04, rotation(z=-side * 0.25)
                )
            )
        parts.append(join(*half).moved(turn=turn))
    parts.append(ellipsoid((0.07, 0.07, 0.09), metal() if variant != 1 else plain(ink), segments=10))
    return join(*parts)


def light_bulb(rng: Rng, variant: int) -> Mesh:
    tone = ((0.97, 0.95, 0.9), (0.95, 0.85, 0.6), (0.92, 0.94, 0.97), (0.96, 0.93, 0.85), colour(rng))[
        variant
    ]
    base, ink, _ = palette(rng)
    ridges = [(0.26 + 0.035 * (i % 2), -0.95 + 0.055 * i) for i in range(8)]
    cap = [
        revolve([(0, -1.12), (0.1, -1.1), (0.15, -1.0), (0.26, -0.95)], plain(DARK, 0.6), segments=14),
        revolve(ridges, metal((0.85, 0.83, 0.78) if rng.random() < 0.6 else (0.8, 0.65, 0.35)), segments=16),
    ]
    bulge = float(rng.uniform(0.55, 0.72))
    if variant == 0:
        profile = [
            (0.28, -0.56),
            (0.3, -0.4),
            (0.42, -0.1),
            (0.95 * bulge, 0.22),
            (bulge, 0.5),
            (0.9 * bulge, 0.8),
            (0.6 * bulge, 1.02),
            (0, 1.12),
        ]
        top = [revolve(profile, plain(tone, 1.0), segments=26)]
    elif variant == 1:
        angle = np.linspace(-1.2, QUARTER, 11)
        profile = [(0.28, -0.56), (0.3, -0.45), *((0.78 * np.cos(a), 0.3 + 0.78 * np.sin(a)) for a in angle)]
        top = [revolve(profile, gradient(tone, (0.75, 0.55, 0.3), 1.0), segments=28)]
    elif variant == 2:  # a coiled fluorescent tube
        t = np.linspace(0, 1, 46)
        coil = np.stack([0.42 * np.cos(18.8 * t), -0.05 + 1.05 * t, 0.42 * np.sin(18.8 * t)], -1)
        ballast = [(0.29, -0.56), (0.46, -0.45), (0.5, -0.2), (0.4, -0.1), (0, -0.1)]
        top = [
            revolve(ballast, label(rng, base, base, ink), segments=20),
            tube(coil, 0.115, plain(tone, 0.9), segments=8),
        ]
    elif variant == 3:  # a reflector
        profile = [
            (0.28, -0.56),
            (0.3, -0.3),
            (0.42, 0.0),
            (0.68, 0.4),
            (0.72, 0.55),
            (0.66, 0.66),
            (0.4, 0.74),
            (0, 0.76),
        ]
        top = [
            revolve(profile[:5], gradient(base, (0.8, 0.8, 0.82), 0.9, 0.5)),
            revolve(profile[4:], plain(tone, 0.9)),
        ]
    else:  # a candle with a printed neck
        profile = [(0.3, -0.3), (0.4, -0.05), (0.44, 0.15), (0.36, 0.5), (0.2, 0.85), (0.08, 1.1), (0, 1.2)]
        neck = [(0.29, -0.56), (0.36, -0.45), (0.36, -0.3), (0.3, -0.28)]
        top = [revolve(profile, plain(tone, 1.0)), revolve(neck, label(rng, base, base, ink))]
    return join(*cap, *top)


def can(rng: Rng, variant: int) -> Mesh:
    base, paper, ink = palette(rng)
    radius, height = ((0.42, 0.78), (0.36, 0.95), (0.5, 0.6), (0.62, 0.42), (0.42, 0.82))[variant]
    radius *= float(rng.uniform(0.93, 1.07))
    printed = (
        label(rng, base, paper, ink, 0.8, 0.25),
        swirl(rng, base, paper, 0.8),
        label(rng, base, paper, ink, 0.3),
        blocks(rng, [base, paper, ink], 0.4),
        gradient(base, paper, 0.8, 0.3),
    )[variant]
    if variant in (2, 3):  # food tins, with rims
        wall = [(radius, -height), (radius, height)]
        rim = [torus(radius, 0.035, metal()).moved(y=y, turn=rotation(x=QUARTER)) for y in (-height, height)]
    else:
        neck = 0.84 * radius
        wall = [
            (neck, -height),
            (radius, -height + 0.09),
            (radius, 0.82 * height),
            (0.97 * radius, 0.9 * height),
            (neck, height),
        ]
        rim = [torus(neck, 0.03, metal()).moved(y=height, turn=rotation(x=QUARTER))]
    lid = [(0.9 * radius * (0.94 if variant in (2, 3) else 0.88), height - 0.04), (0, height - 0.05)]
    bottom = [(0, -height + 0.05), (0.8 * radius, -height), (wall[0][0], -height)]
    ring = (
        torus(0.11, 0.025, metal(), squash=1.5, points=12)
        .moved(0, 0.06, 0)
        .moved(y=height - 0.02, turn=rotation(x=-QUARTER))
    )
    return join(
        revolve(wall, printed, segments=28), *rim, revolve(lid, metal()), revolve(bottom, metal()), ring
    )


def glass(rng: Rng, variant: int) -> Mesh:
    frame, arms, _ = palette(rng)
    material = (
        plain(frame, 0.7),
        metal((0.8, 0.68, 0.4)),
        swirl(rng, frame, arms),
        plain(DARK, 0.8),
        dots(rng, frame, arms),
    )[variant]
    radius, thick = rng.uniform(0.36, 0.44), (0.06, 0.03, 0.075, 0.06, 0.07)[variant]
    squash, corner = (0.75, 0.95, 0.85, 0.65, 1.0)[variant], (0.45, 1.0, 0.7, 0.35, 1.0)[variant]
    tint = ((0.1, 0.1, 0.12), None, (0.35, 0.2, 0.1), None, (0.15, 0.2, 0.35))[variant]
    parts, gap, arm_material = [], radius + 0.1, plain(arms, 0.6) if variant in (0, 4) else material
    t = np.linspace(0, 1, 9)
    for side in (-1, 1):
        parts.append(
            torus(radius, thick, material, squash=squash, corner=corner, points=24).moved(side * gap)
        )
        if tint is not None:
            lens = gradient(tint, tuple(np.clip(np.array(tint) * 2.5, 0, 1)), 1.0)
            parts.append(
                extrude(outline(radius, radius * squash, corner, 20), 0.012, lens, lens, bevel=0.01).moved(
                    side * gap
                )
            )
        far = side * (gap + radius)
        drop = np.where(t > 0.72, -(t - 0.72) * 1.3, 0)
        fold = 0.55 if side == 1 and variant == 3 else rng.uniform(0.0, 0.12)
        temple = np.stack([far - side * fold * t, 0.12 * squash + drop, -1.25 * t], -1)
        parts.append(tube(temple, max(0.8 * thick, 0.035), arm_material))
    t = np.linspace(-1, 1, 7)
    bridge = np.stack([0.12 * t, 0.12 + 0.06 * (1 - t**2), np.zeros(7)], -1)
    return join(*parts, tube(bridge, 0.9 * thick, material))


def ball(rng: Rng, variant: int) -> Mesh:
    base, ink, third = palette(rng)
    y, x = np.mgrid[0:96, 0:192]
    longitude, latitude = x / 192 * 2 * np.pi, (y / 96 - 0.5) * np.pi
    point = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.sin(latitude), np.cos(latitude) * np.sin(longitude)], -1
    )
    if variant == 0:  # felt with a wavy seam
        seam = np.abs(point[..., 1] - 0.55 * np.cos(2 * longitude) * np.cos(latitude)) < 0.07
        fuzz = rng.uniform(0.85, 1.0, seam.shape)[..., None]
        texels, gloss = np.where(seam[..., None], 0.95, np.array(base) * fuzz), 0.05
    elif variant == 1:  # panels: spots around the corners of an icosahedron
        golden = (1 + 5**0.5) / 2
        corners = np.array([(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)])
        corners = np.concatenate([np.roll(corners, i, 1) for i in range(3)]) / np.hypot(1, golden)
        near = np.sort(point @ corners.T, axis=-1)
        edge = (near[..., -1] - near[..., -2] < 0.03) & (near[..., -1] < 0.93)
        texels = np.where((near[..., -1] > 0.93)[..., None], np.array(ink) * 0.6, 0.93)
        texels, gloss = np.where(edge[..., None], 0.4, texels), 0.5
    elif variant == 2:  # ribs
        lines = (
            (np.abs(point[..., 0]) < 0.04)
            | (np.abs(point[..., 1]) < 0.04)
            | (np.abs(np.abs(point[..., 2]) - 0.45 - 0.3 * point[..., 1] ** 2) < 0.035)
        )
        grain = 0.85 + 0.15 * rng.random(lines.shape)[..., None]
        texels, gloss = np.where(lines[..., None], 0.06, np.array((0.85, 0.42, 0.15)) * grain), 0.15
    elif variant == 3:  # beach ball
        sector = np.floor(longitude / (np.pi / 3)).astype(int) % 3
        texels = np.array([base, (0.95, 0.95, 0.93), third])[sector]
        texels, gloss = np.where((np.abs(latitude) > 1.35)[..., None], np.array(ink), texels), 0.9
    else:
        kind = int(rng.integers(3))
        sphere = blocks(rng, [base, ink, third]) if kind == 2 else (dots, checks)[kind](rng, base, ink)
        return ellipsoid((1, 1, 1), sphere, segments=28)
    return ellipsoid(
        (1, 1, 1), Material(texels=np.square(texels).astype(np.float32), gloss=gloss), segments=28
    )


def marker(rng: Rng, variant: int) -> Mesh:
    ink, shell, mark = palette(rng)
    radius = float(rng.uniform(0.11, 0.17)) * (1.35 if variant == 3 else 1)
    shell = (shell, (0.94, 0.94, 0.92), shell, shell, (0.12, 0.12, 0.13))[variant]
    barrel = (
        label(rng, shell, mark, ink), stripes(rng, shell, ink), gradient(shell, mark), label(rng, shell, shell, ink), swirl(rng, shell, mark),
    )[variant]  # fmt: skip
    parts = [
        revolve([(0, -1.0), (0.8 * radius, -0.99), (radius, -0.92), (radius, 0.35)], barrel, segments=16),
        revolve([(0.85 * radius, 0.33), (0.85 * radius, 0.42)], plain(mark), segments=16),
    ]
    if variant in (0, 1, 3):  # capped, with a clip
        cap = [(1.08 * radius, 0.38), (1.08 * radius, 0.85), (0.85 * radius, 0.98), (0, 1.0)]
        parts.append(revolve(cap, plain(ink, 0.7), segments=16))
        if variant != 3:
            clip = np.array([[1.1 * radius, 0.92, 0], [1.6 * radius, 0.88, 0], [1.45 * radius, 0.5, 0]])
            parts.append(tube(clip, 0.035, plain(ink, 0.7)))
    else:  # open, with its tip
        parts.append(
            revolve(
                [(0.85 * radius, 0.42), (0.8 * radius, 0.6), (0.4 * radius, 0.72)], plain(ink), segments=14
            )
        )
        tip = [(0.36 * radius, 0.72), (0.3 * radius, 0.85), (0.05, 0.92), (0, 0.93)]
        parts.append(revolve(tip, noisy(rng, ink, tuple(np.array(ink) * 0.5), 6), segments=12))
        parts.append(revolve([(1.05 * radius, -1.05), (1.05 * radius, -0.75)], plain(mark), segments=16))
    return join(*parts)


def cup(rng: Rng, variant: int) -> Mesh:
    base, ink, third = palette(rng)
    inside = plain((0.93, 0.92, 0.88) if rng.random() < 0.6 else ink, 0.6)
    top, bottom, height = (
        (0.6, 0.56, 0.62),
        (0.62, 0.4, 0.7),
        (0.75, 0.35, 0.48),
        (0.5, 0.5, 0.78),
        (0.66, 0.5, 0.6),
    )[variant]
    top, bottom = top * rng.uniform(0.94, 1.06), bottom * rng.uniform(0.94, 1.06)
    t = np.linspace(0, 1, 8)
    swell = (0.0, 0.0, 0.16, 0.0, 0.1)[variant] * np.sin(np.pi * t**0.8)
    wall = [
        (bottom + (top - bottom) * s + e, -height + 2 * height * s) for s, e in zip(t, swell, strict=True)
    ]
    outer = (
        checks(rng, base, ink),
        label(rng, base, third, ink),
        pattern(rng, [base, ink, third]),
        stripes(rng, base, ink),
        dots(rng, base, ink),
    )[variant]
    inner = [(r - 0.05, y) for r, y in reversed(wall[1:])]
    parts = [
        revolve(wall, outer, segments=28),
        revolve([*inner, (0, -height + 0.12)], inside, segments=28),
        torus(top - 0.02, 0.035, plain(base, 0.6)).moved(y=height, turn=rotation(x=QUARTER)),
        revolve([(0, -height), (bottom, -height)], plain(base), segments=28),
    ]
    if variant != 1:  # 1 is a paper cup
        angle = np.linspace(-1.75, 1.75, 14)
        reach, grip = float(rng.uniform(0.28, 0.4)), float(rng.uniform(0.38, 0.48))
        middle = (top + bottom) / 2 + (0.06 if variant in (2, 4) else -0.02)
        loop = np.stack([middle + reach * (np.cos(angle) + 0.1), grip * np.sin(angle), np.zeros(14)], -1)
        parts.append(tube(loop, 0.085, plain(base if variant != 3 else ink, 0.6), segments=10))
    else:
        parts.append(torus(0.5 * (top + bottom), 0.03, plain(third)).moved(y=0.1, turn=rotation(x=QUARTER)))
    return join(*parts)


def remote_control(rng: Rng, variant: int) -> Mesh:
    shell, key, accent = palette(rng)
    if variant in (0, 3):
        shell = (0.1, 0.1, 0.11)
    width, height, depth = rng.uniform(0.22, 0.32), rng.uniform(0.95, 1.1), rng.uniform(0.09, 0.14)
    rows, columns = ((8, 3), (5, 2), (6, 4), (4, 3), (7, 3))[variant]
    front = keys(
        rng, shell, key, rows=rows, columns=columns, area=(0.12, (0.12, 0.42, 0.2, 0.5, 0.35)[variant], 0.88, 0.85),
        size=(72, 240), wheel=variant in (1, 3), display=(0.15, 0.06, 0.85, 0.26) if variant == 4 else None,
    )  # fmt: skip
    shape = outline(
        width, height, (0.15, 0.9, 0.3, 0.5, 0.2)[variant], taper=(0, 0.25, 0, -0.25, 0.1)[variant]
    )
    side = (plain(shell, 0.3), plain(accent, 0.6), plain(shell, 0.3), plain(shell, 0.5), metal())[variant]
    window = extrude(
        outline(0.5 * width, 0.04, 0.3, 12),
        0.05,
        plain((0.25, 0.02, 0.03), 1.0),
        plain((0.25, 0.02, 0.03), 1.0),
        bevel=0.01,
    )
    lid = extrude(outline(0.7 * width, 0.3, 0.2, 16), 0.02, plain(accent), plain(accent), bevel=0.01)
    return join(
        extrude(shape, depth, front, side, bevel=0.06, bulge=(0, 0.03, 0, 0.05, 0)[variant]),
        window.moved(y=height - 0.02, turn=rotation(x=-QUARTER)),
        lid.moved(y=-0.45, z=-depth - 0.02),
    )


BUILDERS: dict[str, Callable[[Rng, int], Mesh]] = {
    builder.__name__: builder
    for builder in (
        plug_adapter,
        mobile_phone,
        scissor,
        light_bulb,
        can,
        glass,
        ball,
        marker,
        cup,
        remote_control,
    )
}
