"""Rendered objects in CORe50's layout: 10 categories of 5 objects, 11 sessions, any number of frames.

Objects are three-dimensional; the category gives the shape, the instance proportions, colours and pattern.
Each session has its own ground, far field, light, camera and hand (:mod:`vitlr.data.render.scene`); within a
video the object turns, moves and changes size smoothly. Everything is drawn from (seed, session, object,
frame), so a frame is the same however many others are rendered and by how many processes.

For pretraining there are other objects (assemblies that belong to no category) before other backgrounds.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vitlr.data.render.draw import CANVAS, FRAME, Pose, draw_frame
from vitlr.data.render.mesh import Mesh, rotation
from vitlr.data.render.objects import BUILDERS, build
from vitlr.data.render.scene import Scene, random_scene, session_scene
from vitlr.errors import DataError

__all__ = [
    "CATEGORIES",
    "contact_sheet",
    "frame_numbers",
    "pretraining_pool",
    "render_dataset",
    "render_frame",
    "render_pretraining",
]

CATEGORIES = tuple(BUILDERS)
SESSIONS, OBJECTS, FRAMES = 11, 50, 300
FRAMES_PER_SECOND = 20
SCENES = 400  # backgrounds that pretraining draws from


def frame_numbers(frames: int) -> tuple[int, ...]:
    """Published frame numbers of a video of ``frames`` frames: spread evenly over 0..299."""
    if not 1 <= frames <= FRAMES:
        raise DataError(f"frames must be 1 to {FRAMES} a video, got {frames}")
    return tuple(int((i + 0.5) * FRAMES / frames) for i in range(frames))


@lru_cache(maxsize=64)
def _object(object_: int, seed: int) -> Mesh:
    return build(CATEGORIES[(object_ - 1) // 5], np.random.default_rng([seed, 303, object_]))


@lru_cache(maxsize=16)
def _scene(session: int, seed: int) -> Scene:
    return session_scene(session, seed)


class _Wander:
    """A smooth random path: a sum of slow sines, within about -1..1."""

    def __init__(self, rng: np.random.Generator, number: int) -> None:
        self.rates = rng.uniform(0.15, 1.1, (number, 3))
        self.phases = rng.uniform(0, 2 * np.pi, (number, 3))

    def at(self, seconds: float) -> np.ndarray:
        return np.sin(self.rates * seconds + self.phases).mean(axis=1) * 1.4


def _pose(rng: np.random.Generator, seconds: float) -> Pose:
    """Where object, camera and hand are after so many seconds of the video that ``rng`` stands for."""
    wander = _Wander(rng, 9)
    start = rng.uniform(-0.7, 0.7, 3)
    spin = float(rng.uniform(0.15, 0.5) * rng.choice([-1, 1]))
    base, squeeze = float(rng.uniform(76, 108)), float(rng.uniform(0.62, 0.8))
    w = wander.at(seconds)
    turn = rotation(x=0.35 + start[0] + 0.5 * w[0], y=start[1] * 2 + spin * seconds, z=start[2] + 0.5 * w[2])
    return Pose(
        turn=turn,
        centre=(CANVAS * (0.5 + 0.11 * w[3]), CANVAS * (0.47 + 0.09 * w[4])),
        size=base * (1 + 0.22 * w[5]),
        pan=(float(np.clip(0.5 + 0.5 * w[6], 0, 1)), float(np.clip(0.5 + 0.5 * w[7], 0, 1))),
        grip=float(w[8]),
        squeeze=squeeze,
    )


def render_frame(session: int, object_: int, frame: int, seed: int = 0) -> np.ndarray:
    """uint8 (128, 128, 3): frame ``frame`` (0..299, at 20 a second) of object 1..50 in session 1..11."""
    for name, value, low, high in (
        ("session", session, 1, SESSIONS),
        ("object", object_, 1, OBJECTS),
        ("frame", frame, 0, FRAMES - 1),
    ):
        if not low <= value <= high:
            raise DataError(f"{name} must be {low} to {high}, got {value}")
    pose = _pose(np.random.default_rng([seed, 404, session, object_]), frame / FRAMES_PER_SECOND)
    sensor = np.random.default_rng([seed, 505, session, object_, frame])
    return draw_frame(_object(object_, seed), pose, _scene(session, seed), sensor)


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

    The tree is built beside its place and renamed there when it is whole.

    Args:
        frames: a video, 1..300. processes: one a core by default.
        progress: called with frames written so far and in all.

    Raises:
        DataError: numbers out of range, or ``root`` exists and is not an empty directory.
    """
    root, numbers = Path(root), frame_numbers(frames)
    videos = [(session, object_) for session in sessions for object_ in objects]
    for session, object_ in videos:
        if not (1 <= session <= SESSIONS and 1 <= object_ <= OBJECTS):
            raise DataError(f"sessions are 1 to {SESSIONS} and objects 1 to {OBJECTS}, got {session} and {object_}")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} exists and is not empty; choose another directory or remove it")
    if processes is not None and processes < 1:
        raise DataError(f"processes must be >= 1, got {processes}")
    processes = min(processes or os.cpu_count() or 1, len(videos))
    total, done = len(videos) * len(numbers), 0
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    except OSError as error:
        raise DataError(f"{root} cannot be written ({error.strerror}); choose another directory") from error
    try:
        jobs = [(str(building / f"s{s}" / f"o{o}"), s, o, numbers, seed) for s, o in videos]
        for count in _spread(jobs, processes):
            done += count
            if progress is not None:
                progress(done, total)
        building.chmod(0o755)
        os.replace(building, root)
    except OSError as error:
        raise DataError(f"{root} cannot be written ({error.strerror}); free some space or choose another") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return done


def _spread(jobs: list[tuple], processes: int) -> Iterable[int]:
    """Run the jobs in so many processes; what each returns, as it comes."""
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


@lru_cache(maxsize=4096)
def _pretraining_object(index: int, seed: int) -> Mesh:
    return build("assembly", np.random.default_rng([seed, 606, index]))


def render_pretraining(object_: int, view: int, seed: int = 1000) -> np.ndarray:
    """uint8 (128, 128, 3) of an object that is none of the 50, in any pose before any of 400 other backgrounds.

    The same arguments give the same picture; objects and views are numbered from 0 without end.
    """
    rng = np.random.default_rng([seed, 707, object_, view])
    scene = _pretraining_scene(int(rng.integers(SCENES)), seed)
    pose = _pose(rng, float(rng.uniform(0, 15)))
    return draw_frame(_pretraining_object(object_, seed), pose, scene, rng)


def _render_views(object_: int, views: int, seed: int) -> np.ndarray:
    return np.stack([render_pretraining(object_, view, seed) for view in range(views)])


def pretraining_pool(
    objects: int,
    views: int,
    *,
    seed: int = 1000,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (objects * views, 128, 128, 3) and labels int64: all views of all objects, by object."""
    processes = processes or os.cpu_count() or 1
    images = np.empty((objects, views, FRAME, FRAME, 3), dtype=np.uint8)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_render_views, object_, views, seed) for object_ in range(objects)]
        for object_, future in enumerate(futures):
            images[object_] = future.result()
            futures[object_] = None  # its pictures are no longer needed twice
            if progress is not None:
                progress((object_ + 1) * views, objects * views)
    return images.reshape(-1, FRAME, FRAME, 3), np.repeat(np.arange(objects), views)


def contact_sheet(seed: int = 0, frame: int = 150, thumb: int = 96) -> Image.Image:
    """All 50 objects (columns of five a category, down) by 11 sessions (across), one frame each."""
    sheet = Image.new("RGB", (thumb * SESSIONS + 110, thumb * OBJECTS + 20), "white")
    pen = ImageDraw.Draw(sheet)
    for session in range(1, SESSIONS + 1):
        pen.text((110 + (session - 1) * thumb + 4, 4), f"session {session}", fill="black")
        for object_ in range(1, OBJECTS + 1):
            picture = Image.fromarray(render_frame(session, object_, frame, seed)).resize((thumb, thumb))
            sheet.paste(picture, (110 + (session - 1) * thumb, 20 + (object_ - 1) * thumb))
    for object_ in range(1, OBJECTS + 1):
        name = f"{CATEGORIES[(object_ - 1) // 5]}_{(object_ - 1) % 5 + 1}"
        pen.text((4, 20 + (object_ - 1) * thumb + thumb // 2), name, fill="black")
    return sheet


assert FRAME == 128
