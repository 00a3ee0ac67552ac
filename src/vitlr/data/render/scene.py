"""Where a video is taken: ground and far field, light, camera and the hand. One scene a session.

Backgrounds are painted once a scene, larger than a frame, and frames look at a moving window of them.
Shape letters: H, W sides of the painted background.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

__all__ = ["GROUNDS", "SESSION_SCENES", "WALLS", "Scene", "random_scene", "session_scene"]

SIZE = 400  # side of the painted background; a frame shows a window of 256 of it

GROUNDS = ("wood", "grass", "carpet", "tiles", "gravel", "fabric", "concrete", "sand", "paving", "leaves")
WALLS = ("plaster", "brick", "shelf", "hedge", "sky", "window", "curtain", "panels")

# Ground, far field, height of the horizon (share of the picture, from the top) and brightness of the sessions.
SESSION_SCENES = (
    ("wood", "plaster", 0.35, 1.05),
    ("grass", "hedge", 0.30, 1.15),
    ("carpet", "shelf", 0.45, 0.85),
    ("paving", "sky", 0.35, 1.25),
    ("tiles", "window", 0.50, 1.00),
    ("fabric", "curtain", 0.25, 0.75),
    ("concrete", "brick", 0.55, 1.10),
    ("gravel", "panels", 0.30, 0.95),
    ("wood", "shelf", 0.55, 0.70),
    ("leaves", "brick", 0.40, 0.90),
    ("sand", "sky", 0.45, 1.20),
)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """background: uint8 (SIZE, SIZE, 3). light: unit vector towards the lamp; light_colour, ambient: (3,).
    noise: s.d. of the sensor in grey levels; blur: radius in pixels at twice the frame's size. The hand comes
    in at hand_angle (radians, 0 right, -pi/2 below) in skin and sleeve colours (3,)."""

    background: Image.Image
    light: np.ndarray
    light_colour: np.ndarray
    ambient: np.ndarray
    exposure: float
    gamma: float
    noise: float
    blur: float
    hand_angle: float
    skin: np.ndarray
    sleeve: np.ndarray


def smooth_noise(rng: np.random.Generator, cells: int, size: int = SIZE, octaves: int = 3, stretch: float = 1.0) -> np.ndarray:
    """Fractal noise (size, size) with mean about 0 and values within about -1..1."""
    total, weight = np.zeros((size, size), dtype=np.float32), 0.0
    for octave in range(octaves):
        n = cells * 2**octave
        coarse = rng.uniform(-1, 1, (max(2, int(n * stretch)), n)).astype(np.float32)
        total += np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)) / 2**octave
        weight += 1 / 2**octave
    return total / weight * 1.6


def _tint(rng: np.random.Generator, hue: float, saturation: float, value: float) -> np.ndarray:
    jitter = rng.uniform(-0.04, 0.04, 3)
    return np.array(
        colorsys.hsv_to_rgb((hue + jitter[0]) % 1, float(np.clip(saturation + 2 * jitter[1], 0, 1)), float(np.clip(value + 2 * jitter[2], 0.1, 1)))
    )


def _mix(level: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a + (b - a) * np.clip(level, 0, 1)[..., None]


def paint_ground(kind: str, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) of a plane at coordinates x, y in about -4..4, far ones beyond."""
    rows, columns = (np.floor(c * 50).astype(int) % SIZE for c in (y, x))
    fine, wide = smooth_noise(rng, 60, octaves=2)[rows, columns], smooth_noise(rng, 6)[rows, columns]
    if kind == "wood":
        grain = smooth_noise(rng, 4, octaves=4, stretch=14)[rows, columns]
        plank = np.floor(y * 1.5)
        tone = np.sin(plank * 12.9898) * 0.25
        base = _mix(0.5 + 0.5 * grain + tone, _tint(rng, 0.07, 0.6, 0.35), _tint(rng, 0.09, 0.5, 0.72))
        return base * (1 - 0.5 * ((y * 1.5) % 1 < 0.04))[..., None]
    if kind == "grass":
        return _mix(0.5 + 0.6 * fine + 0.3 * wide, _tint(rng, 0.3, 0.65, 0.2), _tint(rng, 0.24, 0.6, 0.62))
    if kind == "leaves":
        autumn = _mix(0.5 + 0.9 * wide, _tint(rng, 0.06, 0.75, 0.45), _tint(rng, 0.12, 0.7, 0.75))
        return autumn * (0.75 + 0.45 * fine)[..., None]
    if kind == "carpet":
        weave = 0.5 + 0.25 * np.sin(x * 9) * np.sin(y * 9) + 0.35 * fine
        return _mix(weave, _tint(rng, rng.random(), 0.55, 0.3), _tint(rng, rng.random(), 0.45, 0.6))
    if kind == "tiles":
        grout = ((x * 1.2) % 1 < 0.05) | ((y * 1.2) % 1 < 0.05)
        odd = (np.floor(x * 1.2) + np.floor(y * 1.2)) % 2
        tile = _mix(0.5 * odd + 0.15 * wide, _tint(rng, 0.1, 0.15, 0.85), _tint(rng, rng.random(), 0.3, 0.65))
        return np.where(grout[..., None], 0.45, tile)
    if kind == "gravel":
        return _mix(0.5 + 0.9 * fine, _tint(rng, 0.1, 0.1, 0.3), _tint(rng, 0.1, 0.08, 0.8))
    if kind == "fabric":
        lines = 0.5 + 0.5 * np.sign(np.sin(x * 6)) * (np.sin(y * 2.0) > -0.3)
        return _mix(lines * 0.8 + 0.2 * fine, _tint(rng, rng.random(), 0.6, 0.35), _tint(rng, rng.random(), 0.35, 0.75))
    if kind == "sand":
        ripple = 0.5 + 0.3 * np.sin(y * 7 + 2.5 * wide) + 0.2 * fine
        return _mix(ripple, _tint(rng, 0.1, 0.4, 0.6), _tint(rng, 0.12, 0.35, 0.88))
    if kind == "paving":
        shift = 0.5 * (np.floor(y) % 2)
        gap = ((x * 0.8 + shift) % 1 < 0.05) | (y % 1 < 0.06)
        stone = np.sin(np.floor(x * 0.8 + shift) * 7.1 + np.floor(y) * 3.7) * 0.25 + 0.5 + 0.3 * fine
        return np.where(gap[..., None], 0.25, _mix(stone, _tint(rng, 0.03, 0.15, 0.45), _tint(rng, 0.08, 0.15, 0.75)))
    return _mix(0.5 + 0.25 * fine + 0.4 * wide, _tint(rng, 0.6, 0.05, 0.4), _tint(rng, 0.1, 0.05, 0.7))  # concrete


def paint_wall(kind: str, rng: np.random.Generator) -> np.ndarray:
    """The far field, colours (SIZE, SIZE, 3); out of focus, so it is drawn coarsely."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    wide, fine = smooth_noise(rng, 5), smooth_noise(rng, 40, octaves=2)
    if kind == "brick":
        rows = np.floor(y * 22)
        shift = 0.5 * (rows % 2)
        mortar = ((x * 11 + shift) % 1 < 0.08) | ((y * 22) % 1 < 0.14)
        tone = 0.5 + 0.35 * np.sin(np.floor(x * 11 + shift) * 5.3 + rows * 8.7) + 0.15 * fine
        return np.where(mortar[..., None], 0.7, _mix(tone, _tint(rng, 0.02, 0.6, 0.4), _tint(rng, 0.05, 0.55, 0.65)))
    if kind == "shelf":
        wall = np.broadcast_to(_tint(rng, 0.08, 0.4, 0.35), (SIZE, SIZE, 3)).copy()
        for top in range(10, SIZE, 78):
            left = 0
            while left < SIZE:
                width, height = int(rng.integers(8, 30)), int(rng.integers(35, 66))
                wall[max(0, top + 66 - height) : top + 66, left : left + width] = _tint(rng, rng.random(), 0.55, rng.uniform(0.3, 0.9))
                left += width + int(rng.integers(0, 6))
            wall[top + 66 : top + 76] = _tint(rng, 0.08, 0.45, 0.55)
        return wall
    if kind == "hedge":
        leaf = _mix(0.45 + 0.6 * fine + 0.5 * wide, _tint(rng, 0.33, 0.6, 0.12), _tint(rng, 0.27, 0.6, 0.5))
        return np.where((y < 0.22 + 0.08 * wide)[..., None], _tint(rng, 0.57, 0.3, 0.9), leaf)
    if kind == "sky":
        cloud = np.clip(wide * 1.4, 0, 1)
        sky = _mix(y * 1.4, _tint(rng, 0.58, 0.6, 0.8), _tint(rng, 0.56, 0.2, 0.95))
        return sky + (0.97 - sky) * cloud[..., None]
    if kind == "window":
        pane = ((x * 3) % 1 > 0.12) & ((y * 2.2) % 1 > 0.1)
        outside = _mix(y * 1.5 + 0.3 * wide, _tint(rng, 0.55, 0.15, 1.0), _tint(rng, 0.3, 0.35, 0.6))
        return np.where(pane[..., None], outside, _tint(rng, 0.1, 0.1, 0.8))
    if kind == "curtain":
        fold = 0.5 + 0.45 * np.sin(x * 60 + 3 * wide)
        return _mix(fold, _tint(rng, rng.random(), 0.5, 0.3), _tint(rng, rng.random(), 0.4, 0.65))
    if kind == "panels":
        seam = ((x * 5) % 1 < 0.04) | ((y * 3) % 1 < 0.04)
        tone = 0.5 + 0.4 * np.sin(np.floor(x * 5) * 9.1 + np.floor(y * 3) * 4.3) + 0.1 * fine
        return np.where(seam[..., None], 0.2, _mix(tone, _tint(rng, 0.6, 0.2, 0.4), _tint(rng, 0.55, 0.15, 0.7)))
    shade = 0.55 + 0.35 * (x - 0.5) + 0.15 * wide
    return _mix(shade, _tint(rng, 0.1, 0.15, 0.55), _tint(rng, 0.12, 0.1, 0.9))  # plaster


def _scene(ground: str, wall: str, horizon: float, brightness: float, rng: np.random.Generator) -> Scene:
    row, column = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    edge = horizon * SIZE
    # A camera one unit above a plane: the row below the horizon gives the distance.
    depth = 1.2 * SIZE / np.maximum(row - edge, 1.0)
    floor = paint_ground(ground, rng, (column / SIZE - 0.5) * depth, depth)
    haze = np.clip(depth / 40, 0, 1)[..., None]
    far = Image.fromarray((np.clip(paint_wall(wall, rng), 0, 1) * 255).astype(np.uint8))
    far = np.asarray(far.filter(ImageFilter.GaussianBlur(float(rng.uniform(1.5, 4))))) / 255
    floor = floor * (1 - 0.6 * haze) + far.mean(axis=(0, 1)) * 0.6 * haze
    picture = np.where((row > edge)[..., None], floor, far)
    warmth = rng.uniform(-0.12, 0.12)
    light_colour = brightness * np.array([1 + warmth, 1.0, 1 - warmth])
    across = rng.uniform(-0.35, 0.35)  # uneven light
    picture = picture * light_colour * (1 + across * (column / SIZE - 0.5))[..., None]
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    side, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.2)
    light = np.array([np.cos(side), height, 0.4 + 0.6 * abs(np.sin(side))])
    tone = float(rng.uniform(0.25, 1.0))
    return Scene(
        background=image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.8, 2.2)))),
        light=light / np.linalg.norm(light),
        light_colour=light_colour * rng.uniform(0.75, 1.0),
        ambient=light_colour * rng.uniform(0.3, 0.5),
        exposure=float(rng.uniform(0.9, 1.1)),
        gamma=float(rng.uniform(0.85, 1.2)),
        noise=float(rng.uniform(1.0, 5.0)),
        blur=float(rng.uniform(0.0, 0.9)),
        hand_angle=float(-np.pi / 2 + rng.uniform(-1.3, 1.3)),
        skin=np.array([0.35, 0.22, 0.16]) + tone * np.array([0.5, 0.42, 0.36]),
        sleeve=_tint(rng, rng.random(), 0.4, rng.uniform(0.2, 0.8)),
    )


def session_scene(session: int, seed: int) -> Scene:
    """The scene of session 1..11."""
    ground, wall, horizon, brightness = SESSION_SCENES[session - 1]
    return _scene(ground, wall, horizon, brightness, np.random.default_rng([seed, 101, session]))


def random_scene(index: int, seed: int) -> Scene:
    """Any ground before any far field in any colours, for pretraining; never one of the sessions' pairs."""
    rng = np.random.default_rng([seed, 202, index])
    taken = {(ground, wall) for ground, wall, _, _ in SESSION_SCENES}
    while True:
        ground, wall = str(rng.choice(GROUNDS)), str(rng.choice(WALLS))
        if (ground, wall) not in taken:
            return _scene(ground, wall, float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.65, 1.3)), rng)
