"""Rendered objects in CORe50's layout: 10 categories of 5 objects, 11 sessions, any number of frames.

Objects are three-dimensional. The category determines the shape, the instance the proportions, colours and pattern.
Each session has its own ground, far field, light, camera and hand (:mod:`vitlr.rendered.scene`); within a
video the object turns, moves and changes size smoothly. Everything is derived from (seed, session, object,
frame), so a frame is the same however many others are rendered and by however many processes.

Pretraining uses other objects (families and assemblies that belong to no category,
:mod:`vitlr.rendered.families`) in front of other backgrounds.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from glob import escape
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vitlr.errors import DataError, RunError
from vitlr.rendered.categories import BUILDERS
from vitlr.rendered.draw import CANVAS, FRAME, Pose, draw_frame, face_colours, window
from vitlr.rendered.families import build_other
from vitlr.rendered.hands import GRIPS, build_hand
from vitlr.rendered.mesh import Mesh, rotation
from vitlr.rendered.scene import Scene, random_scene, session_scene
from vitlr.storage.files import new_directory
from vitlr.storage.locks import making

__all__ = [
    "CATEGORIES",
    "PretrainingViews",
    "contact_sheet",
    "ensure_rendered",
    "frame_numbers",
    "pretraining_views",
    "render_dataset",
    "render_frame",
    "render_pretraining",
]

CATEGORIES = tuple(BUILDERS)
SESSIONS, OBJECTS, FRAMES = 11, 50, 300
FRAMES_PER_SECOND = 20
SCENES = 400  # backgrounds that pretraining draws from


def frame_numbers(frames: int) -> tuple[int, ...]:
    """Published frame numbers of a video with ``frames`` frames, spread evenly over 0..299.

    Raises:
        DataError: ``frames`` is not 1..300.
    """
    if not 1 <= frames <= FRAMES:
        raise DataError(f"frames must be 1 to {FRAMES} a video, got {frames}")
    return tuple(int((i + 0.5) * FRAMES / frames) for i in range(frames))


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise DataError(f"seed must be >= 0, got {seed}")


@lru_cache(maxsize=64)
def _object(object_: int, seed: int) -> Mesh:
    category, variant = divmod(object_ - 1, 5)
    return BUILDERS[CATEGORIES[category]](np.random.default_rng([seed, 303, object_]), variant).normalised()


@lru_cache(maxsize=16)
def _scene(session: int, seed: int) -> Scene:
    return session_scene(session, seed)


@lru_cache(maxsize=64)
def _hand(session: int, grip: int, seed: int) -> tuple[Mesh, Mesh]:
    scene = _scene(session, seed)
    return build_hand(grip, 1.0, scene.skin, scene.sleeve, np.random.default_rng([seed, 808, session, grip]))


class _Wander:
    """Smooth random paths within about -1..1, each the sum of three slow sines."""

    def __init__(self, rng: np.random.Generator, number: int) -> None:
        self.rates = rng.uniform(0.15, 1.2, (number, 3))
        self.phases = rng.uniform(0, 2 * np.pi, (number, 3))

    def at(self, seconds: float) -> np.ndarray:
        return np.sin(self.rates * seconds + self.phases).mean(axis=1) * 1.5


@dataclass(frozen=True, kw_only=True)
class _View:
    """One moment of a video as :func:`draw_frame` needs it, before the hand is fitted to the object."""

    turn: np.ndarray
    centre: tuple[float, float]
    size: float
    window: tuple[float, float, float]
    focus: float
    hand_angle: float
    hand_size: float
    depth: float  # how far the fingers reach over the object's rim


def _view(rng: np.random.Generator, seconds: float, scene: Scene) -> _View:
    """The moment ``seconds`` after the start of the video that ``rng`` determines."""
    wander = _Wander(rng, 11)
    tilt, turn, roll = rng.uniform(-0.5, 0.6), rng.uniform(-np.pi, np.pi), rng.normal() * 0.5
    spin = float(rng.uniform(0.12, 0.45) * rng.choice([-1, 1]))
    base, hand_size = float(rng.uniform(0.29, 0.41)), float(rng.uniform(0.55, 0.75))
    hand_turn, depth = float(rng.normal() * 0.25), float(rng.uniform(0.08, 0.22))
    w = wander.at(seconds)
    # The object mostly shows its front and sides; full turns would show backs and edges half of the time.
    yaw = 1.1 * np.sin(turn + spin * seconds) + 0.35 * w[1]
    return _View(
        turn=rotation(x=0.15 + tilt + 0.45 * w[0], y=yaw, z=roll + 0.45 * w[2]),
        centre=(CANVAS * (0.5 + 0.1 * w[3]), CANVAS * (0.46 + 0.08 * w[4])),
        size=CANVAS * base * (1 + 0.2 * w[5]),
        window=window(
            (float(np.clip(0.5 + 0.55 * w[6], 0, 1)), float(np.clip(0.5 + 0.45 * w[7], 0, 1))),
            1.2 + 0.2 * float(np.clip(w[8], -1, 1)),
        ),
        focus=max(0.0, scene.blur + 0.3 * float(w[9])),
        hand_angle=scene.hand_angle + hand_turn + 0.25 * float(w[10]),
        hand_size=hand_size,
        depth=depth,
    )


def _draw(
    mesh: Mesh,
    hand: tuple[Mesh, Mesh],
    view: _View,
    scene: Scene,
    sensor: np.random.Generator,
    cells: int = 8,
) -> tuple[np.ndarray, np.ndarray]:
    angle = view.hand_angle
    extent = mesh.vertices @ view.turn.T[:, :2] @ np.array([np.cos(angle), np.sin(angle)])
    reach = max(float(np.quantile(extent, 0.97)) - view.depth, 0.42)
    held = tuple(part.scaled(view.hand_size).moved(y=-reach) for part in hand)
    pose = Pose(
        turn=view.turn, hand_turn=rotation(z=angle + np.pi / 2), centre=view.centre, size=view.size,
        window=view.window, focus=view.focus,
    )  # fmt: skip
    return draw_frame(mesh, (held[0], held[1]), pose, scene, sensor, cells)


def render_frame(session: int, object_: int, frame: int, seed: int = 0) -> np.ndarray:
    """uint8 (128, 128, 3): frame ``frame`` (0..299, at 20 a second) of object 1..50 in session 1..11.

    Raises:
        DataError: a number out of its range.
    """
    _check_seed(seed)
    for name, value, low, high in (
        ("session", session, 1, SESSIONS),
        ("object", object_, 1, OBJECTS),
        ("frame", frame, 0, FRAMES - 1),
    ):
        if not low <= value <= high:
            raise DataError(f"{name} must be {low} to {high}, got {value}")
    video = np.random.default_rng([seed, 404, session, object_])
    grip, scene = int(video.integers(GRIPS)), _scene(session, seed)
    view = _view(video, frame / FRAMES_PER_SECOND, scene)
    sensor = np.random.default_rng([seed, 505, session, object_, frame])
    return _draw(_object(object_, seed), _hand(session, grip, seed), view, scene, sensor)[0]


def _write_video(folder: str, session: int, object_: int, numbers: Sequence[int], seed: int) -> int:
    os.makedirs(folder, exist_ok=True)
    for frame in numbers:
        image = Image.fromarray(render_frame(session, object_, frame, seed))
        image.save(os.path.join(folder, f"C_{session:02d}_{object_:02d}_{frame:03d}.png"), compress_level=1)
    return len(numbers)


def render_dataset(
    root: str | Path,
    frames: int,
    *,
    seed: int = 0,
    sessions: Iterable[int] = range(1, SESSIONS + 1),
    objects: Iterable[int] = range(1, OBJECTS + 1),
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Render a tree in CORe50's layout below ``root``; returns the number of frames written.

    The tree is built under a temporary name, flushed to the disk and renamed when it is complete.

    Args:
        frames: per video, 1..300.
        processes: one per core by default.
        progress: called with the frames written so far and their total.

    Raises:
        DataError: numbers out of range, ``root`` exists and is not an empty directory, or it cannot be written.
    """
    root, numbers, objects = Path(root), frame_numbers(frames), tuple(objects)
    _check_seed(seed)
    videos = [(session, object_) for session in sessions for object_ in objects]
    if not videos:
        raise DataError("no video to render; name at least one session and one object")
    for session, object_ in videos:
        if not (1 <= session <= SESSIONS and 1 <= object_ <= OBJECTS):
            raise DataError(
                f"sessions are 1 to {SESSIONS} and objects 1 to {OBJECTS}, got {session} and {object_}"
            )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} exists and is not empty; choose another directory or remove it")
    if processes is not None and processes < 1:
        raise DataError(f"processes must be >= 1, got {processes}")
    processes = min(processes or os.cpu_count() or 1, len(videos))
    total, done = len(videos) * len(numbers), 0
    try:
        with new_directory(root, replace=False) as building:
            jobs = [(str(building / f"s{s}" / f"o{o}"), s, o, numbers, seed) for s, o in videos]
            for count in _spread(jobs, processes):
                done += count
                if progress is not None:
                    progress(done, total)
    except RunError as error:
        raise DataError(str(error)) from error
    return done


def ensure_rendered(
    root: str | Path, frames: int, *, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> None:
    """Render the whole tree if it does not exist; if another process is rendering it, wait for that.

    Raises:
        DataError: as :func:`render_dataset`.
    """
    root = Path(root)
    if root.exists():  # it appears there only when it is complete
        return
    total = SESSIONS * OBJECTS * len(frame_numbers(frames))

    def show_theirs() -> None:
        begun = sum(1 for _ in root.parent.glob(f".{escape(root.name)}.*.tmp/s*/o*"))  # videos
        if progress is not None:
            progress(min(begun * frames, total - 1), total)

    try:
        with making(root, show_theirs):
            if not root.exists():
                render_dataset(root, frames, seed=seed, progress=progress)
    except RunError as error:
        raise DataError(str(error)) from error


def _spread(jobs: list[tuple], processes: int) -> Iterable[int]:
    """Run the jobs in that many processes; yields their results as they arrive."""
    if processes == 1:
        for job in jobs:
            yield _write_video(*job)
        return
    # Spawned, not forked: a process that already runs threads must not be forked.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(_write_video, *job) for job in jobs]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@lru_cache(maxsize=SCENES)
def _pretraining_scene(index: int, seed: int) -> Scene:
    return random_scene(index, seed)


@lru_cache(maxsize=SCENES)
def _pretraining_hand(index: int, seed: int) -> tuple[Mesh, Mesh]:
    scene, rng = _pretraining_scene(index, seed), np.random.default_rng([seed, 909, index])
    return build_hand(int(rng.integers(GRIPS)), 1.0, scene.skin, scene.sleeve, rng)


@lru_cache(maxsize=512)
def _pretraining_object(index: int, seed: int) -> Mesh:
    return build_other(index, np.random.default_rng([seed, 606, index])).normalised()


@dataclass(frozen=True, kw_only=True)
class PretrainingViews:
    """Pictures of objects other than the 50, with their ground truth.

    images: uint8 (N, 128, 128, 3); labels: int64 (N,), the object; coverage: uint8 (N, cells, cells), how
    much of each cell shows the object, 0 to 255. colours (objects, 64) and shapes (objects, 16): each object's
    colour histogram and the histogram of distances between points on it, each row with sum 1.
    """

    images: np.ndarray
    labels: np.ndarray
    coverage: np.ndarray
    colours: np.ndarray
    shapes: np.ndarray


def render_pretraining(
    object_: int, view: int, seed: int = 1000, cells: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Picture (128, 128, 3) and coverage (cells, cells), uint8, of an object other than the 50.

    The object is in any pose in front of any of 400 other backgrounds. The same arguments give the same picture;
    objects and views are numbered from 0 without an upper limit.
    """
    rng = np.random.default_rng([seed, 707, object_, view])
    index = int(rng.integers(SCENES))
    scene = _pretraining_scene(index, seed)
    moment = _view(rng, float(rng.uniform(0, 15)), scene)
    return _draw(
        _pretraining_object(object_, seed), _pretraining_hand(index, seed), moment, scene, rng, cells
    )


def _render_views(object_: int, views: int, seed: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = [render_pretraining(object_, view, seed, cells) for view in range(views)]
    return np.stack([image for image, _ in pairs]), np.stack([coverage for _, coverage in pairs])


def pretraining_views(
    objects: int,
    views: int,
    *,
    seed: int = 1000,
    cells: int = 8,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PretrainingViews:
    """All views of all objects, ordered by object.

    Raises:
        DataError: a number out of its range; ``cells`` must divide 192, the side that is drawn.
    """
    for name, value in (("objects", objects), ("views", views), ("cells", cells)):
        if value < 1:
            raise DataError(f"{name} must be >= 1, got {value}")
    if processes is not None and processes < 1:
        raise DataError(f"processes must be >= 1, got {processes}")
    if CANVAS % cells:
        raise DataError(f"cells must divide {CANVAS}, got {cells}")
    _check_seed(seed)
    images = np.empty((objects, views, FRAME, FRAME, 3), dtype=np.uint8)
    coverage = np.empty((objects, views, cells, cells), dtype=np.uint8)
    with ProcessPoolExecutor(processes or os.cpu_count() or 1, mp_context=get_context("spawn")) as pool:
        # Only a few objects ahead, so that finished pictures do not pile up.
        waiting: deque = deque()
        for object_ in range(objects + 8):
            if object_ < objects:
                waiting.append(pool.submit(_render_views, object_, views, seed, cells))
            if object_ >= 8 or object_ >= objects:
                done = object_ - 8
                if done < 0:
                    continue
                images[done], coverage[done] = waiting.popleft().result()
                if progress is not None:
                    progress((done + 1) * views, objects * views)
    meshes = [_pretraining_object(object_, seed) for object_ in range(objects)]
    return PretrainingViews(
        images=images.reshape(-1, FRAME, FRAME, 3),
        labels=np.repeat(np.arange(objects), views),
        coverage=coverage.reshape(-1, cells, cells),
        colours=np.stack([colour_histogram(mesh) for mesh in meshes]),
        shapes=np.stack([shape_histogram(mesh, np.random.default_rng([seed, 808])) for mesh in meshes]),
    )


def colour_histogram(mesh: Mesh) -> np.ndarray:
    """Share of the surface in each of 4 x 4 x 4 cells of the RGB cube, (64,)."""
    cells = np.clip((np.sqrt(face_colours(mesh)) * 4).astype(int), 0, 3) @ np.array([16, 4, 1])
    area = _areas(mesh)
    return np.bincount(cells, weights=area, minlength=64) / area.sum()


def shape_histogram(mesh: Mesh, rng: np.random.Generator, pairs: int = 2000) -> np.ndarray:
    """Histogram (16,) over 0..2 of distances between random points of the surface.

    The D2 shape distribution of Osada et al., ACM Transactions on Graphics 2002; independent of the pose.
    """
    area = _areas(mesh)
    faces = rng.choice(len(area), size=(2, pairs), p=area / area.sum())
    points = mesh.vertices[mesh.faces].mean(axis=1)[faces]
    distance = np.linalg.norm(points[0] - points[1], axis=1)
    return np.histogram(distance, bins=16, range=(0, 2))[0] / pairs


def _areas(mesh: Mesh) -> np.ndarray:
    corners = mesh.vertices[mesh.faces]
    return (
        np.linalg.norm(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]), axis=1) / 2
        + 1e-12
    )


def contact_sheet(seed: int = 0, frame: int = 150, thumb: int = 96) -> Image.Image:
    """All 50 objects by 11 sessions, one frame each: objects 1-25 on the left half, 26-50 on the right."""
    margin, head, half = 110, 20, OBJECTS // 2
    block = margin + SESSIONS * thumb
    sheet = Image.new("RGB", (2 * block, head + half * thumb), "white")
    pen = ImageDraw.Draw(sheet)
    for object_ in range(1, OBJECTS + 1):
        left, top = (object_ - 1) // half * block, head + (object_ - 1) % half * thumb
        name = f"{CATEGORIES[(object_ - 1) // 5]}_{(object_ - 1) % 5 + 1}"
        pen.text((left + 4, top + thumb // 2 - 6), name, fill="black")
        for session in range(1, SESSIONS + 1):
            x = left + margin + (session - 1) * thumb
            picture = Image.fromarray(render_frame(session, object_, frame, seed)).resize((thumb, thumb))
            sheet.paste(picture, (x, top))
            if top == head:
                pen.text((x + 4, 4), f"session {session}", fill="black")
    return sheet
