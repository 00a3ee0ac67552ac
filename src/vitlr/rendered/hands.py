"""Hands that hold an object: an arm and palm behind it, and fingers or a thumb in front of it.

A hand is built pointing up (fingers towards +y) and turned to its direction when it is drawn.
"""

from __future__ import annotations

import numpy as np

from vitlr.rendered.mesh import Material, Mesh, ellipsoid, join, tube
from vitlr.rendered.textures import Colour, noisy, noisy_field, pattern, plain

__all__ = ["GRIPS", "build_hand", "skin"]

GRIPS = 4


def skin(rng: np.random.Generator, tone: np.ndarray) -> Material:
    """Mottled skin of sRGB colour ``tone``, redder in places."""
    field = noisy_field(rng, 6, (64, 64))[..., None]
    texels = np.asarray(tone) * (1 + 0.1 * field) + np.array([0.05, -0.01, -0.01]) * field
    return Material(texels=np.square(texels.clip(0, 1)).astype(np.float32), gloss=0.18)


def _finger(
    base: tuple[float, float, float], length: float, width: float, curl: float, bow: float, lean: float,
    flesh: Material,
    nail: Material | None,
) -> Mesh:  # fmt: skip
    """A finger of three joints from ``base`` towards +y, ``bow`` deep in the middle, its tip pressed to -z."""
    t = np.linspace(0, 1, 8)
    path = np.stack(
        [
            base[0] + lean * t,
            base[1] + length * np.sin(t * np.pi / 2 * (1 + 0.1 * curl)),
            base[2] + bow * np.sin(np.pi * t * 0.85) - curl * t**3,
        ],
        -1,
    )
    joints = 1 + 0.1 * np.exp(-(((t - 0.4) / 0.06) ** 2)) + 0.07 * np.exp(-(((t - 0.72) / 0.05) ** 2))
    radii = width * np.interp(t, [0, 0.3, 0.85, 1], [1.12, 1.0, 0.86, 0.5]) * joints
    parts = [tube(path, radii, flesh, segments=8)]
    if nail is not None:
        x, y, z = path[-2]
        parts.append(
            ellipsoid((0.55 * width, 0.75 * width, 0.25 * width), nail, segments=8).moved(
                x, y, z + 0.62 * width
            )
        )
    return join(*parts)


def build_hand(
    grip: int, size: float, tone: np.ndarray, sleeve: Colour | None, rng: np.random.Generator
) -> tuple[Mesh, Mesh]:
    """The parts (behind, in front) of a hand in one of four grips, with the rim of its palm at y = 0.

    0: fingers in front, palm behind. 1: thumb in front, finger tips around the far side. 2: two fingers and thumb
    pinch. 3: the object lies on the palm, the fingers curl up in front of it.
    """
    flesh = skin(rng, tone)
    nail = plain(tuple(np.clip(np.asarray(tone) * 1.08 + 0.06, 0, 1)), gloss=0.5)
    t = np.linspace(0, 1, 8)
    lean = float(rng.uniform(-0.25, 0.25))
    arm = np.stack([lean * t, -size * (0.45 + 3.4 * t), -0.25 - 0.35 * t], -1)
    behind = [
        tube(arm, size * np.interp(t, [0, 0.15, 1], [0.3, 0.24, 0.42]), flesh, segments=12),
        ellipsoid((0.42 * size, 0.5 * size, 0.2 * size), flesh, square=0.25, segments=12).moved(
            0, -0.3 * size, -0.15
        ),
    ]
    if sleeve is not None:
        start = float(rng.uniform(0.3, 0.5))
        cuff = np.stack(
            [lean * (start + t), -size * (0.45 + 3.4 * (start + t)), -0.25 - 0.35 * (start + t)], -1
        )
        cloth = pattern(rng, [sleeve, tuple(np.array(sleeve) * 0.6), sleeve]) if rng.random() < 0.4 else noisy(
            rng, sleeve, tuple(np.array(sleeve) * 0.8), cells=20, gloss=0.03
        )  # fmt: skip
        behind.append(tube(cuff, size * (0.4 + 0.12 * t), cloth, segments=12))
    before: list[Mesh] = []
    lengths = np.array([0.62, 0.74, 0.7, 0.54]) * size * rng.uniform(0.9, 1.1)
    across = (np.arange(4) - 1.5) * 0.215 * size
    width = 0.105 * size
    side = float(rng.choice([-1, 1]))
    if grip in (0, 3):
        for x, length in zip(across, lengths * (1.0 if grip == 0 else 0.75), strict=True):
            jitter = float(rng.uniform(-0.05, 0.05))
            before.append(
                _finger(
                    (x, -0.05 * size, 0.1),
                    length,
                    width,
                    0.25,
                    0.42 * size,
                    jitter - 0.12 * x,
                    flesh,
                    None if grip == 3 else nail,
                )
            )
        behind.append(
            _finger(
                (side * 0.4 * size, -0.45 * size, -0.05),
                0.75 * size,
                1.2 * width,
                0.0,
                0.1,
                side * 0.2,
                flesh,
                None,
            )
        )
    elif grip == 1:
        for x, length in zip(across, lengths * 1.25, strict=True):
            behind.append(_finger((x, 0.0, -0.3), length + 0.2, width, -0.1, -0.1, side * 0.35, flesh, None))
        before.append(
            _finger(
                (-side * 0.25 * size, -0.35 * size, 0.12),
                0.95 * size,
                1.25 * width,
                0.3,
                0.35 * size,
                side * 0.3,
                flesh,
                nail,
            )
        )
        before.append(
            ellipsoid((0.24 * size, 0.36 * size, 0.2 * size), flesh, segments=12).moved(
                -side * 0.2 * size, -0.42 * size, 0.05
            )
        )
    else:
        for x, length in zip(across[1:3] + side * 0.2, lengths[1:3], strict=True):
            before.append(
                _finger((x, -0.2 * size, 0.1), length, width, 0.35, 0.3 * size, -0.5 * x, flesh, nail)
            )
        for x, length in zip(across[[0, 3]], lengths[[0, 3]] * 0.7, strict=True):
            behind.append(
                _finger((x, -0.1 * size, -0.1), length, width, 0.1, 0.25 * size, 0.3 * x, flesh, None)
            )
        before.append(
            _finger(
                (-side * 0.42 * size, -0.4 * size, 0.1),
                0.8 * size,
                1.2 * width,
                0.3,
                0.3 * size,
                side * 0.25,
                flesh,
                nail,
            )
        )
    return join(*behind), join(*before)
