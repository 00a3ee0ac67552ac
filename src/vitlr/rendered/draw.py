"""One frame: mesh, pose and scene to pixels, drawn 1.5 times as large as the frame and then shrunk.

Pillow draws the *index* of each face, nearest last (painter's algorithm); numpy then shades every covered pixel
with the texture and the smooth normal of its face at that point. A few faces are then enough for round objects with
sharp prints.

Shape letters: F faces, P covered pixels. Screen x to the right and y downwards, in pixels of the canvas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vitlr.rendered.mesh import Material, Mesh
from vitlr.rendered.scene import SIZE, Scene

__all__ = ["CANVAS", "FRAME", "Pose", "draw_frame", "face_colours", "window"]

FRAME = 128
CANVAS = 192  # a larger factor is smoother, and slower by its square
DISTANCE = 5.0  # of the camera, in half object sizes


@dataclass(frozen=True, kw_only=True)
class Pose:
    """turn (3, 3) of the object, hand_turn (3, 3) of the hand; centre (x, y) and half size in pixels of the canvas;
    window: left, top and size of the background's part, in its pixels; focus: radius of the frame's blur."""

    turn: np.ndarray
    hand_turn: np.ndarray
    centre: tuple[float, float]
    size: float
    window: tuple[float, float, float]
    focus: float


@dataclass(frozen=True, kw_only=True)
class _Faces:
    """For each visible face: the affine maps (F, 3, 5) from pixel to normal x, y, z and texture u, v (slope along
    x, slope along y, value at the origin), and its material (F,) among those of all layers."""

    maps: np.ndarray
    materials: np.ndarray


def draw_frame(
    mesh: Mesh, held: tuple[Mesh, Mesh], pose: Pose, scene: Scene, rng: np.random.Generator, cells: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Picture uint8 (128, 128, 3) of an object in front of a scene, and coverage (cells, cells): how much of each
    cell of the frame shows the object, 0 to 255.

    ``held`` has the parts of the hand behind and in front of the object; ``rng`` determines only the sensor's noise;
    ``cells`` divides 192.
    """
    behind, before = held
    layers = (
        behind.moved(turn=pose.hand_turn),
        mesh.moved(turn=pose.turn),
        before.moved(turn=pose.hand_turn),
    )
    index, faces, starts = _index(layers, pose)
    left, top, size = pose.window
    frame = scene.background.resize(
        (FRAME, FRAME), Image.Resampling.BILINEAR, box=(left, top, left + size, top + size)
    )
    spots = np.flatnonzero(index)
    if len(spots):
        picture, cover = _shaded(layers, index, spots, faces, starts, scene)
        frame = Image.composite(picture, frame, cover)
    if pose.focus > 0.15:
        frame = frame.filter(ImageFilter.BoxBlur(pose.focus))
    values = rng.standard_normal((FRAME, FRAME, 3), dtype=np.float32)
    values *= scene.noise
    values += np.asarray(frame.point(scene.response))
    values.clip(0, 255, out=values)
    shown = (index > starts[1]) & (index <= starts[2])
    coverage = Image.fromarray(shown.astype(np.uint8) * 255).reduce(CANVAS // cells)
    return values.astype(np.uint8), np.asarray(coverage)


def window(pan: tuple[float, float], zoom: float) -> tuple[float, float, float]:
    """Part of the background for a pan (x, y) in 0..1 and a zoom in 1..1.5: left, top, size."""
    size = 256 / zoom
    return pan[0] * (SIZE - size), pan[1] * (SIZE - size), size


def _index(layers: tuple[Mesh, ...], pose: Pose) -> tuple[np.ndarray, _Faces, list[int]]:
    """Index image (CANVAS, CANVAS), 0 for background, else 1 + the number of the face in the table returned
    with it; and the position in that table at which each layer starts."""
    image = Image.new("I", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(image)
    maps, materials, starts, start, kinds = [], [], [], 0, 0
    for mesh in layers:
        starts.append(start)
        scale = pose.size * DISTANCE / (DISTANCE - mesh.vertices[:, 2])
        x = pose.centre[0] + mesh.vertices[:, 0] * scale
        y = pose.centre[1] - mesh.vertices[:, 1] * scale
        xy = np.stack([x, y], -1).astype(np.float32)[mesh.faces]
        first, second = xy[:, 2] - xy[:, 0], xy[:, 3] - xy[:, 1]
        area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]  # < 0: seen from outside (y downwards)
        seen = np.flatnonzero((area < -0.2) | (mesh.thin & (area > 0.2)))
        seen = seen[np.argsort(mesh.vertices[:, 2][mesh.faces[seen]].sum(axis=1), kind="stable")]
        maps.append(_affine(mesh, seen, xy[seen], first[seen], second[seen], area[seen, None]))
        materials.append(mesh.material[seen] + kinds)
        for face, shape in enumerate(xy[seen].reshape(-1, 8).tolist(), start + 1):
            pen.polygon(shape, fill=face)
        start, kinds = start + len(seen), kinds + len(mesh.materials)
    return np.asarray(image), _Faces(maps=np.concatenate(maps), materials=np.concatenate(materials)), starts


def _affine(
    mesh: Mesh, seen: np.ndarray, xy: np.ndarray, first: np.ndarray, second: np.ndarray, area: np.ndarray
) -> np.ndarray:
    """The maps of :class:`_Faces`, from the values along the diagonals ``first`` and ``second`` of each face."""
    values = np.concatenate([mesh.normals[mesh.faces[seen]], mesh.uv[seen]], -1)  # (F, 4, 5)
    values[..., :3] *= np.where(area < 0, np.float32(1), np.float32(-1))[..., None]
    along, across = (values[:, 2] - values[:, 0]) / area, (values[:, 3] - values[:, 1]) / area
    slope_x = along * second[:, 1:] - across * first[:, 1:]
    slope_y = across * first[:, :1] - along * second[:, :1]
    at = xy.sum(axis=1) / 4
    return np.stack([slope_x, slope_y, values.sum(axis=1) / 4 - slope_x * at[:, :1] - slope_y * at[:, 1:]], 1)


def _shaded(
    layers: tuple[Mesh, ...],
    index: np.ndarray,
    spots: np.ndarray,
    faces: _Faces,
    starts: list[int],
    scene: Scene,
) -> tuple[Image.Image, Image.Image]:
    """The covered pixels, shrunk to the frame's size: colours, and the share of each pixel that is covered."""
    face = index.ravel()[spots] - 1
    y, x = np.divmod(spots, CANVAS)
    value = faces.maps[:, 0][face]
    value *= x[:, None].astype(np.float32)
    value += faces.maps[:, 1][face] * y[:, None].astype(np.float32)
    value += faces.maps[:, 2][face]
    normal = value[:, :3]
    normal /= np.maximum(np.sqrt(np.einsum("pi,pi->p", normal, normal)), 1e-6)[:, None]
    albedo, gloss, metal = _texels(
        _atlas(sum((mesh.materials for mesh in layers), ())), faces.materials[face], value[:, 3:]
    )
    light = _light(normal, albedo, gloss, metal, scene)
    light *= _shade_of_fingers(index, starts, spots, face, scene)[:, None]
    canvas = np.zeros((CANVAS * CANVAS, 4), dtype=np.uint8)
    np.sqrt(light, out=light)
    light *= 255
    canvas[spots, :3] = np.minimum(light, 255, out=light)
    canvas[spots, 3] = 255
    image = Image.fromarray(canvas.reshape(CANVAS, CANVAS, 4), "RGBa")  # all or nothing: already multiplied
    small = image.resize((FRAME, FRAME), Image.Resampling.BOX).convert("RGBA")
    return small.convert("RGB"), small.getchannel("A")


@lru_cache(maxsize=256)
def _atlas(materials: tuple[Material, ...]) -> tuple[np.ndarray, ...]:
    """All texels in one list (N, 3), and for each material its first texel, height, width, gloss and metal."""
    sizes = np.array([material.texels.shape[:2] for material in materials])
    starts = np.cumsum([0, *sizes.prod(axis=1)])[:-1]
    texels = np.concatenate([material.texels.reshape(-1, 3) for material in materials])
    gloss = np.array([material.gloss for material in materials], dtype=np.float32)
    metal = np.array([material.metal for material in materials], dtype=np.float32)
    return texels, starts, sizes[:, 0], sizes[:, 1], gloss, metal


def _texels(
    atlas: tuple[np.ndarray, ...], kind: np.ndarray, uv: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Albedo (P, 3), gloss (P,) and metal (P,) at the texture's u, v of materials ``kind``."""
    texels, starts, heights, widths, gloss, metal = atlas
    width, height = widths[kind], heights[kind]
    column = np.clip((uv[:, 0] * width).astype(np.intp), 0, width - 1)
    row = np.clip((uv[:, 1] * height).astype(np.intp), 0, height - 1)
    return texels[starts[kind] + row * width + column], gloss[kind], metal[kind]


def face_colours(mesh: Mesh) -> np.ndarray:
    """Linear light (F, 3) of the texture in the middle of each face."""
    return _texels(_atlas(mesh.materials), mesh.material, mesh.uv.mean(axis=1))[0]


def _light(
    normal: np.ndarray, albedo: np.ndarray, gloss: np.ndarray, metal: np.ndarray, scene: Scene
) -> np.ndarray:
    """Linear light (P, 3): ambient from sky and ground, a lamp with a soft edge, its highlight (Blinn-Phong), and
    the surroundings mirrored by metal and, at a grazing angle, by anything glossy."""
    up, facing = normal[:, 1], normal[:, 2].clip(0, 1)
    lamp, lamp_colour = scene.light.astype(np.float32), scene.light_colour.astype(np.float32)
    sky, ground = scene.sky.astype(np.float32), scene.ground.astype(np.float32)
    diffuse = ((normal @ lamp + 0.15) / 1.15).clip(0, None)[:, None]
    ambient = ground + (sky - ground) * (0.5 + 0.5 * up)[:, None]
    half = lamp + np.array([0, 0, 1], dtype=np.float32)
    highlight = (normal @ (half / np.linalg.norm(half))).clip(0, 1)
    broad = highlight * highlight
    broad *= broad
    broad *= broad  # to the 8th
    sharp = broad * broad
    sharp *= sharp
    highlight = gloss * (0.9 * sharp * sharp + 0.12 * broad)
    mirrored = (2 * facing * up).clip(-1, 1)  # height of the mirrored ray
    step = (0.5 + 2.5 * mirrored).clip(0, 1)[:, None]
    surroundings = ground * 0.7 + (sky * 1.9 - ground * 0.7) * step
    share = (metal + 0.5 * gloss * (1 - facing) * (1 - facing) * (1 - facing))[:, None]
    own = albedo * (ambient + diffuse * lamp_colour) * (1 - metal[:, None])
    tint = 1 - metal[:, None] * (1 - albedo)
    return own + share * surroundings * tint + (highlight * (0.4 + 0.6 * metal))[:, None] * lamp_colour


def _shade_of_fingers(
    index: np.ndarray, starts: list[int], spots: np.ndarray, face: np.ndarray, scene: Scene
) -> np.ndarray:
    """Factor (P,), below 1 near things in front: fingers on the object, the object on the palm."""
    factor = np.ones(len(spots), dtype=np.float32)
    layer = (face >= starts[1]).astype(np.int8) + (face >= starts[2])
    small = index[::4, ::4]
    offset = (round(-2.2 * scene.light[0]), round(2.2 * scene.light[1]))
    cells = (spots // CANVAS // 4) * (CANVAS // 4) + spots % CANVAS // 4
    for above, below in ((2, 1), (1, 0)):
        mask = ((small > starts[above]).astype(np.uint8)) * 255
        mask = np.roll(mask, (offset[1], offset[0]), (0, 1))
        soft = (
            np.asarray(Image.fromarray(mask).filter(ImageFilter.BoxBlur(3)), dtype=np.float32).ravel() / 255
        )
        there = layer == below
        factor[there] *= 1 - 0.6 * soft[cells[there]]
    return factor
