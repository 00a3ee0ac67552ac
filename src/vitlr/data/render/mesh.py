"""Meshes of coloured quads, the shapes they are built from, and the patterns on them.

Shape letters: V vertices, F faces. Lengths are in units of about half an object's size; z points to the viewer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Mesh", "Pattern", "box", "join", "loft", "revolve", "ring", "rotation", "tube"]

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]  # u, v in 0..1 of each face -> colours (F, 3) in 0..1


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """vertices (V, 3); faces (F, 4) indices of vertices, counter-clockwise from outside; colours (F, 3) in
    0..1; shine (F,) in 0..1, the strength of the highlight; ``open_`` faces (F,) are seen from both sides."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    shine: np.ndarray
    open_: np.ndarray

    def moved(self, offset: tuple[float, float, float] = (0, 0, 0), turn: np.ndarray | None = None) -> Mesh:
        """The same, turned by a rotation matrix and then shifted."""
        vertices = self.vertices if turn is None else self.vertices @ turn.T
        return self._with(vertices + np.asarray(offset, dtype=float))

    def scaled(self, factor: float | tuple[float, float, float]) -> Mesh:
        return self._with(self.vertices * np.asarray(factor, dtype=float))

    def normalised(self) -> Mesh:
        """Centred on its box, farthest vertex at distance 1."""
        centre = (self.vertices.min(axis=0) + self.vertices.max(axis=0)) / 2
        vertices = self.vertices - centre
        return self._with(vertices / np.linalg.norm(vertices, axis=1).max())

    def _with(self, vertices: np.ndarray) -> Mesh:
        return Mesh(
            vertices=vertices, faces=self.faces, colours=self.colours, shine=self.shine, open_=self.open_
        )


def join(*meshes: Mesh) -> Mesh:
    """All of them as one mesh."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])[:-1]
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
        colours=np.concatenate([mesh.colours for mesh in meshes]),
        shine=np.concatenate([mesh.shine for mesh in meshes]),
        open_=np.concatenate([mesh.open_ for mesh in meshes]),
    )


def rotation(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """Turn about x, then y, then z, in radians: a (3, 3) matrix."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def loft(rings_KSD: np.ndarray, pattern: Pattern, *, shine: float = 0.3, open_: bool = False, closed: bool = True) -> Mesh:
    """Skin over K rings of S points (K, S, 3); ``closed`` joins the last point of a ring to its first.

    The pattern's u runs along the rings' points, v from the first ring to the last.
    """
    rings, points, _ = rings_KSD.shape
    steps = points if closed else points - 1
    k, s = np.meshgrid(np.arange(rings - 1), np.arange(steps), indexing="ij")
    following = (s + 1) % points
    faces = np.stack([k * points + s, k * points + following, (k + 1) * points + following, (k + 1) * points + s], -1)
    u, v = (s.ravel() + 0.5) / steps, (k.ravel() + 0.5) / (rings - 1)
    count = len(u)
    return Mesh(
        vertices=rings_KSD.reshape(-1, 3),
        faces=faces.reshape(-1, 4),
        colours=np.clip(pattern(u, v), 0, 1),
        shine=np.full(count, shine),
        open_=np.full(count, open_),
    )


def revolve(
    profile: list[tuple[float, float]], pattern: Pattern, *, segments: int = 20, shine: float = 0.3, open_: bool = False
) -> Mesh:
    """Surface of revolution about y of (radius, y) points given from the bottom up."""
    angles = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    rings = [
        np.stack([radius * np.cos(angles), np.full(segments, y), -radius * np.sin(angles)], -1) for radius, y in profile
    ]
    return loft(np.stack(rings), pattern, shine=shine, open_=open_)


def box(
    size: tuple[float, float, float], front: Pattern, sides: Pattern, *, cells: tuple[int, int] = (8, 12), round_: float = 0.25,
    back: Pattern | None = None, shine: float = 0.3,
) -> Mesh:
    """Box with rounded corners (seen from the front) and an edge; ``cells`` faces across and up on the front."""
    width, height, depth = size
    corner = round_ * min(width, height)
    across, up = cells
    x, y = np.linspace(-1, 1, across + 1) * width, np.linspace(-1, 1, up + 1) * height
    grid_x, grid_y = np.meshgrid(x, y)  # (up + 1, across + 1)
    # Corners are pulled in along x where the row lies within the corner's circle.
    reach = np.maximum(0, np.abs(grid_y) - (height - corner))
    inset = corner - np.sqrt(np.maximum(corner**2 - reach**2, 0))
    plane_x = grid_x * (width - inset) / width

    def plane(z: float, margin: float) -> np.ndarray:
        return np.stack([plane_x * (1 - margin), grid_y * (1 - margin), np.full_like(grid_x, z)], -1)

    edge = 0.06
    faces = [
        loft(plane(depth, edge), front, shine=shine, closed=False),
        loft(plane(-depth, edge)[:, ::-1], back or sides, shine=shine, closed=False),
    ]

    def outline(z: float, margin: float) -> np.ndarray:
        p = plane(z, margin)
        return np.concatenate([p[0, :-1], p[:-1, -1], p[-1, :0:-1], p[:0:-1, 0]])

    rim = np.stack([outline(-depth, edge), outline(-0.8 * depth, 0), outline(0.8 * depth, 0), outline(depth, edge)])
    return join(*faces, loft(rim, sides, shine=shine))


def tube(
    path_K3: np.ndarray, radius: float | np.ndarray, pattern: Pattern, *, segments: int = 8, shine: float = 0.3, loop: bool = False
) -> Mesh:
    """Round tube along a path of K points; ``radius`` is one or K numbers; ``loop`` joins its ends, else capped."""
    path = np.asarray(path_K3, dtype=float)
    radii = np.broadcast_to(np.asarray(radius, dtype=float), (len(path),)).copy()
    if loop:
        path, radii = np.concatenate([path, path[:1]]), np.append(radii, radii[0])
        along = np.roll(path[:-1], -1, 0) - np.roll(path[:-1], 1, 0)
        along = np.concatenate([along, along[:1]])
    else:
        along = np.gradient(path, axis=0)
        path = np.concatenate([path[:1], path, path[-1:]])
        along = np.concatenate([along[:1], along, along[-1:]])
        radii = np.concatenate([[1e-3], radii, [1e-3]])
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    # A reference direction that is never parallel to the path keeps the rings from twisting.
    spread = path.max(axis=0) - path.min(axis=0)
    reference = np.eye(3)[int(np.argmin(spread))]
    side = np.cross(along, reference)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    up = np.cross(side, along)
    angles = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    rings = path[:, None] + radii[:, None, None] * (
        np.cos(angles)[None, :, None] * side[:, None] + np.sin(angles)[None, :, None] * up[:, None]
    )
    # Both ways round are drawn outside-out because closed tubes hide their back faces anyway.
    return loft(rings[:, ::-1], pattern, shine=shine)


def ring(
    radius: float, thickness: float, pattern: Pattern, *, squash: float = 1.0, points: int = 18, shine: float = 0.3, square: float = 0.0
) -> Mesh:
    """Torus in the x-y plane; ``squash`` scales y, ``square`` from 0 (ellipse) to 1 (rounded rectangle)."""
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    power = 1 - 0.6 * square
    x = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** power * radius
    y = np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** power * radius * squash
    return tube(np.stack([x, y, np.zeros(points)], -1), thickness, pattern, segments=6, shine=shine, loop=True)
