"""Meshes of textured quads and the shapes they are built from.

Shape letters: V vertices, F faces, K rings, S points a ring. An object is about two units long; x points right,
y up and z to the viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

__all__ = [
    "Material", "Mesh", "ellipsoid", "extrude", "join", "loft", "outline", "revolve", "rotation", "torus", "tube",
]  # fmt: skip

CREASE = 0.6  # cosine: sharper corners of a profile are shaded as edges, others as round


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """texels: (h, w, 3) float32 linear light in 0..1. gloss: strength of the highlight; metal: share of light
    that is mirrored; both in 0..1."""

    texels: np.ndarray
    gloss: float = 0.3
    metal: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """vertices and unit normals (V, 3) float32; faces (F, 4) indices of vertices, counter-clockwise from outside;
    uv (F, 4, 2) in 0..1, v from the texture's top; material (F,) index; thin (F,): seen from both sides."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    thin: np.ndarray
    materials: tuple[Material, ...]

    def moved(self, x: float = 0, y: float = 0, z: float = 0, turn: np.ndarray | None = None) -> Mesh:
        """A copy, turned by a rotation matrix and then shifted."""
        offset = np.array([x, y, z], dtype=np.float32)
        if turn is None:
            return replace(self, vertices=self.vertices + offset)
        rotate = turn.T.astype(np.float32)
        return replace(self, vertices=self.vertices @ rotate + offset, normals=self.normals @ rotate)

    def scaled(self, x: float, y: float | None = None, z: float | None = None) -> Mesh:
        """A copy, stretched along the axes (by ``x`` along all of them if only ``x`` is given)."""
        factors = np.array([x, x if y is None else y, x if z is None else z], dtype=np.float32)
        return replace(self, vertices=self.vertices * factors, normals=_unit(self.normals / factors))

    def normalised(self) -> Mesh:
        """Centred on its bounding box, with the farthest vertex at distance 1."""
        centre = (self.vertices.min(axis=0) + self.vertices.max(axis=0)) / 2
        vertices = self.vertices - centre
        return replace(self, vertices=vertices / np.linalg.norm(vertices, axis=1).max())


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def join(*meshes: Mesh) -> Mesh:
    """All meshes as one."""
    vertices = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])[:-1]
    materials = np.cumsum([0, *(len(mesh.materials) for mesh in meshes)])[:-1]
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        normals=np.concatenate([mesh.normals for mesh in meshes]),
        faces=np.concatenate([mesh.faces + start for mesh, start in zip(meshes, vertices, strict=True)]),
        uv=np.concatenate([mesh.uv for mesh in meshes]),
        material=np.concatenate(
            [mesh.material + start for mesh, start in zip(meshes, materials, strict=True)]
        ),
        thin=np.concatenate([mesh.thin for mesh in meshes]),
        materials=tuple(material for mesh in meshes for material in mesh.materials),
    )


def rotation(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """Turn about x, then y, then z, in radians: a (3, 3) matrix."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def loft(
    rings_KS3: np.ndarray,
    material: Material,
    *,
    closed: bool = True,
    thin: bool = False,
    planar: bool = False,
) -> Mesh:
    """Skin over K rings of S points, from the bottom ring up, smooth all over.

    ``closed`` joins the last point of a ring to its first. The texture's u runs along the rings, its v from the
    last ring (top) to the first; ``planar`` lays the texture flat over x and y instead.
    """
    rings, points, _ = rings_KS3.shape
    steps = points if closed else points - 1
    k, s = (grid.ravel() for grid in np.meshgrid(np.arange(rings - 1), np.arange(steps), indexing="ij"))
    after = (s + 1) % points
    faces = np.stack([k * points + s, k * points + after, (k + 1) * points + after, (k + 1) * points + s], -1)
    vertices = rings_KS3.reshape(-1, 3).astype(float)
    corners = vertices[faces]
    across = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals = np.zeros_like(vertices)
    for corner in range(4):
        np.add.at(normals, faces[:, corner], across)
    if np.ptp(rings_KS3[[0, -1]], axis=1).max(axis=1).min() < 1e-2:  # poles: one normal for a whole ring
        for ring in (0, rings - 1):
            part = slice(ring * points, (ring + 1) * points)
            if np.ptp(rings_KS3[ring], axis=0).max() < 1e-2:
                normals[part] = normals[part].sum(axis=0)
    if planar:
        low, high = vertices[:, :2].min(axis=0), vertices[:, :2].max(axis=0)
        uv = (corners[:, :, :2] - low) / np.maximum(high - low, 1e-9)
        uv[..., 1] = 1 - uv[..., 1]
    else:
        u = np.stack([s, s + 1, s + 1, s], -1) / steps
        v = 1 - np.stack([k, k, k + 1, k + 1], -1) / (rings - 1)
        uv = np.stack([u, v], -1)
    return Mesh(
        vertices=vertices.astype(np.float32),
        normals=_unit(normals).astype(np.float32),
        faces=faces,
        uv=uv.astype(np.float32),
        material=np.zeros(len(faces), dtype=int),
        thin=np.full(len(faces), thin),
        materials=(material,),
    )


def revolve(
    profile: Sequence[tuple[float, float]], material: Material, *, segments: int = 22, thin: bool = False
) -> Mesh:
    """Surface of revolution about y of (radius, y) points from the bottom up, creased at sharp corners."""
    points = np.array(profile, dtype=float)
    steps = _unit(np.diff(points, axis=0))
    sharp = [i + 1 for i in range(len(steps) - 1) if steps[i] @ steps[i + 1] < CREASE]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    angles = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    circle = np.stack([np.cos(angles), np.zeros(segments), -np.sin(angles)], -1)
    parts = []
    for start, stop in zip([0, *sharp], [*sharp, len(points) - 1], strict=True):
        piece = points[start : stop + 1]
        rings = circle * np.maximum(piece[:, 0], 1e-3)[:, None, None]
        rings[..., 1] = piece[:, 1][:, None]
        part = loft(rings, material, thin=thin)
        k = np.round((1 - part.uv[..., 1]) * (len(piece) - 1)).astype(int)
        uv = part.uv.copy()
        uv[..., 1] = 1 - length[start + k] / length[-1]  # one texture over all pieces, by arc length
        parts.append(replace(part, uv=uv))
    return join(*parts)


def ellipsoid(
    radii: tuple[float, float, float], material: Material, *, square: float = 0.0, segments: int = 18
) -> Mesh:
    """Ellipsoid with its poles on y; ``square`` from 0 (round) towards 1 (box with round edges)."""
    power = 1 - 0.75 * square

    def shaped(value: np.ndarray) -> np.ndarray:
        return np.sign(value) * np.abs(value) ** power

    up, around = np.linspace(-np.pi / 2, np.pi / 2, 12), np.linspace(0, 2 * np.pi, segments, endpoint=False)
    level, height = shaped(np.cos(up).clip(1e-6)), shaped(np.sin(up))
    rings = np.stack(
        [
            level[:, None] * shaped(np.cos(around)) * radii[0],
            np.repeat(height[:, None], segments, 1) * radii[1],
            -level[:, None] * shaped(np.sin(around)) * radii[2],
        ],
        -1,
    )
    return loft(rings, material)


def outline(
    width: float, height: float, corner: float = 0.5, points: int = 28, taper: float = 0.0
) -> np.ndarray:
    """Rounded rectangle (S, 2), half sizes; ``corner`` 0 sharp .. 1 elliptic; ``taper`` narrows its bottom."""
    angles = (np.arange(points) + 0.5) / points * 2 * np.pi
    power = max(corner, 0.06)
    x = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** power * width
    y = np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** power * height
    return np.stack([x * (1 - taper * (0.5 - 0.5 * y / height)), y], -1)


def extrude(
    shape_S2: np.ndarray,
    depth: float,
    front: Material,
    side: Material,
    back: Material | None = None,
    *,
    bevel: float = 0.05,
    bulge: float = 0.0,
) -> Mesh:
    """A plate of half thickness ``depth`` with bevelled edges; its outline runs counter-clockwise, and all of it is
    visible from its centre. Textures lie flat on front and back; ``bulge`` raises the middle of both."""
    centre = (shape_S2.min(axis=0) + shape_S2.max(axis=0)) / 2
    inner = centre + (shape_S2 - centre) * (1 - bevel / np.abs(shape_S2 - centre).max())

    def at(shape: np.ndarray, z: float) -> np.ndarray:
        return np.concatenate([shape, np.full((len(shape), 1), z)], 1)

    def cap(z: float) -> np.ndarray:
        levels = (1.0, 0.66, 0.33, 0.0)
        return np.stack(
            [at(centre + (inner - centre) * t, z + np.sign(z) * bulge * (1 - t * t)) for t in levels]
        )

    edge = min(bevel, 0.8 * depth)
    rim = np.stack(
        [at(inner, -depth), at(shape_S2, edge - depth), at(shape_S2, depth - edge), at(inner, depth)]
    )
    return join(
        loft(cap(depth), front, planar=True),
        loft(cap(-depth)[:, ::-1], back or side, planar=True),
        loft(rim, side),
    )


def tube(
    path_K3: np.ndarray,
    radius: float | np.ndarray,
    material: Material,
    *,
    segments: int = 8,
    loop: bool = False,
) -> Mesh:
    """Round tube along K points; ``radius`` is one or K numbers; ``loop`` joins its ends, otherwise they are capped."""
    path = np.asarray(path_K3, dtype=float)
    radii = np.broadcast_to(np.asarray(radius, dtype=float), (len(path),)).copy()
    if loop:
        along = np.roll(path, -1, 0) - np.roll(path, 1, 0)
        path, radii, along = (np.concatenate([a, a[:1]]) for a in (path, radii, along))
    else:
        along = np.gradient(path, axis=0)
        end = 0.3 * min(radii[0], radii[-1])
        ends = _unit(along[[0, -1]]) * end
        path = np.concatenate([path[:1] - ends[:1], path, path[-1:] + ends[1:]])
        along = np.concatenate([along[:1], along, along[-1:]])
        radii = np.concatenate([[1e-3], radii, [1e-3]])
    along = _unit(along)
    side = np.zeros_like(along)
    side[0] = np.cross(along[0], np.eye(3)[int(np.argmin(np.abs(along[0])))])
    for i in range(1, len(along)):  # carried along the path, so that the rings do not twist
        side[i] = side[i - 1] - (side[i - 1] @ along[i]) * along[i]
    side = _unit(side)
    up = np.cross(along, side)
    angles = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    rings = path[:, None] + radii[:, None, None] * (
        np.cos(angles)[None, :, None] * side[:, None] + np.sin(angles)[None, :, None] * up[:, None]
    )
    return loft(rings, material)


def torus(
    radius: float,
    thickness: float,
    material: Material,
    *,
    squash: float = 1.0,
    corner: float = 1.0,
    points: int = 22,
) -> Mesh:
    """Ring in the x-y plane; ``squash`` scales its height, ``corner`` below 1 makes it a rounded rectangle."""
    shape = outline(radius, radius * squash, corner, points)
    return tube(np.concatenate([shape, np.zeros((points, 1))], 1), thickness, material, segments=8, loop=True)
