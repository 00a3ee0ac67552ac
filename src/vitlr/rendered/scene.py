"""The scene of a video: background, light, camera and hand of a session, or of pretraining."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from vitlr.rendered.grounds import (
    GROUNDS,
    OTHER_GROUNDS,
    OTHER_WALLS,
    WALLS,
    clutter,
    paint_ground,
    paint_wall,
    tint,
)

__all__ = ["SESSION_SCENES", "SIZE", "Scene", "random_scene", "session_scene"]

SIZE = 448  # of the background, of which a frame shows a part at most 256 wide

# Ground, far field, height of the horizon (share of the picture, from the top), brightness,
# warmth (< 0: cold), hue of cloth.
SESSION_SCENES = (
    ("wood", "plaster", 0.34, 1.00, 0.06, 0.00),
    ("grass", "hedge", 0.36, 1.10, 0.02, 0.00),
    ("carpet", "shelf", 0.48, 0.80, 0.14, 0.97),
    ("paving", "sky", 0.42, 1.25, -0.04, 0.00),
    ("tiles", "window", 0.50, 0.95, -0.08, 0.00),
    ("fabric", "curtain", 0.25, 0.70, 0.10, 0.62),
    ("concrete", "brick", 0.58, 1.05, 0.00, 0.00),
    ("gravel", "panels", 0.30, 0.90, -0.14, 0.00),
    ("wood", "shelf", 0.20, 0.62, 0.18, 0.00),
    ("leaves", "corridor", 0.45, 0.75, -0.02, 0.00),
    ("sand", "sky", 0.30, 1.20, 0.08, 0.00),
)
SKINS = ((0.93, 0.74, 0.62), (0.87, 0.66, 0.53), (0.78, 0.56, 0.42), (0.62, 0.42, 0.30), (0.44, 0.29, 0.21))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """background: RGB, SIZE wide. light: unit vector to the lamp; light_colour, sky, ground: linear light (3,) of
    the lamp and of the surroundings from above and below. response: table of 768 levels, the camera's exposure
    and gamma; noise: s.d. of its sensor in grey levels; blur: radius of its focus in pixels. The hand comes from
    hand_angle (radians; 0 right, -pi/2 below) in ``skin`` and ``sleeve`` (bare if None), sRGB (3,)."""

    background: Image.Image
    light: np.ndarray
    light_colour: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    response: list[int]
    noise: float
    blur: float
    hand_angle: float
    skin: np.ndarray
    sleeve: tuple[float, float, float] | None


def _response(exposure: float, gamma: float, contrast: float) -> list[int]:
    level = np.linspace(0, 1, 256) * exposure
    level = level**gamma
    level = 0.5 + (level - 0.5) * contrast
    return [int(v) for v in (255 * level.clip(0, 1))] * 3


def _picture(ground: str, wall: str, horizon: float, hue: float, rng: np.random.Generator) -> np.ndarray:
    """A ground plane in perspective under a far field out of focus, sRGB (SIZE, SIZE, 3)."""
    row, column = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    edge = horizon * SIZE
    depth = (0.55 * SIZE / np.maximum(row - edge, 1.0)).clip(0, 40)  # a camera above a plane
    angle = rng.uniform(-0.6, 0.6)
    side = (column / SIZE - 0.5) * depth * 1.8
    x, y = side * np.cos(angle) - depth * np.sin(angle), side * np.sin(angle) + depth * np.cos(angle)
    floor = paint_ground(ground, rng, x + 60, y + 60, hue)
    sharp = Image.fromarray((np.clip(paint_wall(wall, rng, SIZE, hue + 0.12), 0, 1) * 255).astype(np.uint8))
    far = (
        np.asarray(sharp.filter(ImageFilter.GaussianBlur(float(rng.uniform(1.5, 4.5)))), dtype=np.float32)
        / 255
    )
    haze = np.clip(depth / 30, 0, 1)[..., None]
    floor = floor * (1 - haze) + floor.mean(axis=(0, 1)) * haze
    floor = floor * (1 - 0.35 * np.exp(-(row - edge) / 18))[..., None]  # darker towards the wall
    return np.where((row > edge)[..., None], floor, far)


def _scene(
    ground: str,
    wall: str,
    horizon: float,
    brightness: float,
    warmth: float,
    hue: float,
    rng: np.random.Generator,
) -> Scene:
    picture = _picture(ground, wall, horizon, hue, rng)
    white = np.array([1 + warmth, 1.0, 1 - 1.2 * warmth])
    row, column = np.mgrid[0:SIZE, 0:SIZE] / SIZE - 0.5
    turn = rng.uniform(0, 2 * np.pi)
    uneven = 1 + rng.uniform(0.2, 0.7) * (np.cos(turn) * column + np.sin(turn) * row)
    for _ in range(int(rng.integers(0, 3))):  # soft shadows of things out of sight
        x, y, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.3, 0.5), rng.uniform(0.08, 0.3)
        uneven = uneven * (
            1 - rng.uniform(0.2, 0.5) * np.exp(-(((column - x) / r) ** 2 + ((row - y) / (0.6 * r)) ** 2))
        )
    picture = np.clip(picture * white * np.sqrt(brightness) * uneven[..., None], 0, 1)
    image = Image.fromarray((picture * 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.6)))
    )
    mean = np.square(np.asarray(image.resize((1, 2), Image.Resampling.BOX), dtype=np.float32)[:, 0] / 255)
    lamp = rng.uniform(-2.6, 2.6)
    light = np.array([np.sin(lamp) * 1.1, rng.uniform(0.35, 1.3), rng.uniform(0.3, 1.0)])
    strength = brightness * rng.uniform(0.55, 1.0)
    return Scene(
        background=image,
        light=light / np.linalg.norm(light),
        light_colour=strength * white,
        sky=brightness * (0.22 * white + 0.35 * mean[0]),
        ground=brightness * (0.1 * white + 0.4 * mean[1]),
        response=_response(
            float(rng.uniform(0.88, 1.12)), float(rng.uniform(0.85, 1.2)), float(rng.uniform(0.85, 1.12))
        ),
        noise=float(rng.uniform(1.0, 3.6)),
        blur=float(rng.uniform(0.0, 0.55)),
        hand_angle=float(-np.pi / 2 + rng.uniform(-0.9, 0.9)),
        skin=np.clip(np.array(SKINS[int(rng.integers(len(SKINS)))]) * rng.uniform(0.9, 1.08), 0, 1),
        sleeve=tuple(tint(rng, rng.random(), rng.uniform(0.05, 0.5), rng.uniform(0.15, 0.8)))
        if rng.random() < 0.6
        else None,
    )


def session_scene(session: int, seed: int) -> Scene:
    """The scene of session 1..11."""
    return _scene(*SESSION_SCENES[session - 1], np.random.default_rng([seed, 101, session]))


def random_scene(index: int, seed: int) -> Scene:
    """A scene for pretraining: a ground and far field that no session has, or a combination of theirs that no session
    has, or (one in four) shapes only; any horizon and light."""
    rng = np.random.default_rng([seed, 202, index])
    taken = {scene[:2] for scene in SESSION_SCENES}
    grounds, walls = (*OTHER_GROUNDS, *GROUNDS), (*OTHER_WALLS, *WALLS)
    while True:
        pair = str(rng.choice(grounds)), str(rng.choice(walls))
        if pair not in taken:
            break
    if rng.random() < 0.25:
        pair = "clutter", "clutter"
    scene = _scene(
        *pair,
        float(rng.uniform(0.1, 0.65)),
        float(rng.uniform(0.6, 1.3)),
        float(rng.uniform(-0.16, 0.2)),
        rng.random(),
        rng,
    )
    if pair == ("clutter", "clutter") and rng.random() < 0.5:
        flat = clutter(rng, SIZE).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 3))))
        scene = Scene(**{**scene.__dict__, "background": flat})
    return scene
