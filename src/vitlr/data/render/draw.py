"""One frame: mesh, pose and scene to pixels, by painter's algorithm at twice the frame's size.

Shape letters: V vertices, F faces. Screen x to the right and y downwards, in pixels of the doubled frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vitlr.data.render.mesh import Mesh, join, revolve, rotation, tube
from vitlr.data.render.patterns import plain
from vitlr.data.render.scene import SIZE, Scene

__all__ = ["FRAME", "Pose", "draw_frame", "hand"]

FRAME = 128
CANVAS = 2 * FRAME
DISTANCE = 5.0  # of the camera, in half object sizes


@dataclass(frozen=True, kw_only=True)
class Pose:
    """turn (3, 3); centre (x, y) and half size in doubled pixels; pan (x, y) of the background's window in
    0..1; grip in -1..1, how the hand shifts; squeeze, the size of the hand."""

    turn: np.ndarray
    centre: tuple[float, float]
    size: float
    pan: tuple[float, float]
    grip: float
    squeeze: float


def hand(scene: Scene, angle: float, reach: float, squeeze: float) -> tuple[Mesh, Mesh]:
    """(behind the object, before it): sleeve, arm and palm, and four fingers over the rim at ``angle``.

    ``reach`` is how far the object extends towards the hand.
    """
    skin, sleeve = plain(tuple(np.clip(scene.skin, 0, 1))), plain(tuple(np.clip(scene.sleeve, 0, 1)))
    z = np.linspace(0, 1, 6)
    palm_at = -reach - 0.3 * squeeze
    wrist = np.stack([0.05 * z, palm_at - 0.9 * z, -0.3 - 0.1 * z], -1)
    cuff = np.stack([0.05 + 0.1 * z, palm_at - 0.75 - 2.5 * z, -0.4 - 0.3 * z], -1)
    turned = np.linspace(-np.pi / 2, np.pi / 2, 8)
    profile = [(max(float(np.cos(t)), 0.001), float(np.sin(t))) for t in turned]
    palm = revolve(profile, skin, segments=14, shine=0.1).scaled((0.4 * squeeze, 0.42 * squeeze, 0.24 * squeeze))
    back = [
        tube(cuff, np.interp(z, [0, 1], [0.33, 0.5]) * squeeze, sleeve, segments=14, shine=0.0),
        tube(wrist, np.interp(z, [0, 1], [0.3, 0.25]) * squeeze, skin, segments=14, shine=0.1),
        palm.moved((0, palm_at, -0.12)),
    ]
    front = []
    t = np.linspace(0, 1, 8)
    for finger, length in enumerate((0.36, 0.46, 0.44, 0.32)):
        x = (finger - 1.5) * 0.175 * squeeze
        y = palm_at + 0.12 + (0.22 + length) * squeeze * t
        depth = 0.1 + 0.42 * np.sin(np.pi * (0.12 + 0.72 * t))
        path = np.stack([x * (1 - 0.12 * t) + 0.02 * np.sin(3 * t + finger), y, depth], -1)
        radii = np.interp(t, [0, 0.45, 0.55, 0.9, 1], [0.098, 0.09, 0.093, 0.08, 0.05]) * squeeze
        front.append(tube(path, radii, skin, segments=10, shine=0.12))
    turn = rotation(z=angle + np.pi / 2)
    return join(*back).moved(turn=turn), join(*front).moved(turn=turn)


def draw_frame(mesh: Mesh, pose: Pose, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """uint8 (128, 128, 3) of an object held before a scene; ``rng`` gives the sensor's noise only."""
    room = SIZE - CANVAS
    left, top = int(pose.pan[0] * room), int(pose.pan[1] * room)
    canvas = scene.background.crop((left, top, left + CANVAS, top + CANVAS))
    pen = ImageDraw.Draw(canvas)
    turned = mesh.moved(turn=pose.turn)
    angle = scene.hand_angle + 0.35 * pose.grip
    towards = np.array([np.cos(angle), np.sin(angle)])
    extent = turned.vertices[:, :2] @ towards
    behind, before = hand(scene, angle, float(np.clip(np.quantile(extent, 0.98), 0.2, 0.9)), pose.squeeze)
    for part in (behind, turned, before):
        _paint(pen, part, pose, scene)
    if scene.blur > 0.2:
        canvas = canvas.filter(ImageFilter.BoxBlur(scene.blur))
    frame = np.asarray(canvas.reduce(2), dtype=np.float32) / 255
    frame = (frame * scene.exposure).clip(0, 1) ** scene.gamma * 255
    frame += rng.standard_normal(frame.shape, dtype=np.float32) * scene.noise
    return frame.clip(0, 255).astype(np.uint8)


def _paint(pen: ImageDraw.ImageDraw, mesh: Mesh, pose: Pose, scene: Scene) -> None:
    corners = mesh.vertices[mesh.faces]  # (F, 4, 3)
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    length = np.linalg.norm(normals, axis=1)
    normals = normals / np.maximum(length, 1e-9)[:, None]
    middle = corners.mean(axis=1)
    eye = np.array([0, 0, DISTANCE]) - middle
    facing = (normals * eye).sum(axis=1)
    normals = np.where((mesh.open_ & (facing < 0))[:, None], -normals, normals)
    visible = np.flatnonzero((length > 1e-7) & (mesh.open_ | (facing > 0)))
    visible = visible[np.argsort(middle[visible, 2])]
    colours = _shade(mesh, normals, eye, scene)[visible]
    scale = pose.size * DISTANCE / (DISTANCE - corners[visible, :, 2])
    x = pose.centre[0] + corners[visible, :, 0] * scale
    y = pose.centre[1] - corners[visible, :, 1] * scale
    points = np.stack([x, y], -1).reshape(len(visible), 8).tolist()
    for outline, fill in zip(points, map(tuple, colours.tolist()), strict=True):
        pen.polygon(outline, fill=fill)


def _shade(mesh: Mesh, normals: np.ndarray, eye: np.ndarray, scene: Scene) -> np.ndarray:
    """Ambient, diffuse and a highlight (Blinn-Phong): uint8 colours (F, 3)."""
    diffuse = np.clip(normals @ scene.light, 0, None)[:, None]
    half = scene.light + eye / np.linalg.norm(eye, axis=1, keepdims=True)
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    highlight = (mesh.shine * np.clip((normals * half).sum(axis=1), 0, None) ** 24)[:, None]
    lit = mesh.colours * (scene.ambient + diffuse * scene.light_colour) + 0.8 * highlight * scene.light_colour
    return (lit.clip(0, 1) * 255).astype(np.uint8)
