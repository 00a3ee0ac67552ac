"""The frames of a clip under names of their own, as if the clip were a folder of images: ``cat/clip.mp4/000012``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.data.decoding import BICUBIC, Note
from vitlr.data.images import read_image
from vitlr.data.names import expanded, shown
from vitlr.data.video import MAX_DECODED, Video, container_of, converted, decoded_frames, too_long
from vitlr.errors import DataError

__all__ = ["frame_paths", "read_frames", "split_frame"]

_FRAME = re.compile(r"(.+)/(\d{6,9})")


def frame_paths(base: Path, path: str, every: int | None, max_frames: int) -> list[str]:
    """Names of the frames to take of a clip: ``cat/clip.mp4/000012``, as if it were a folder of its frames.

    Frames are counted without decoding them. A clip that cannot be read has one, so that who reads it is told.

    Args:
        every, max_frames: see :class:`Video`.

    Raises:
        DataError: one of them is below 1.
    """
    Video(path, every, max_frames)
    try:
        number = _count(os.fspath(base / path))
    except DataError:
        number = 1
    step = every or 1
    while not every and -(-number // step) > max_frames:
        step *= 2
    return [f"{path}/{index:06d}" for index in range(0, max(number, 1), step)[:max_frames]]


def _count(path: str) -> int:
    """Frames that the container announces by its packets."""
    number = 0
    with container_of(path) as (container, stream):
        for packet in container.demux(stream):
            number += packet.size > 0 and not packet.is_discard
            if number > MAX_DECODED:
                raise too_long(path)
    return number


def split_frame(path: str, root: Path | None = None) -> tuple[str, int] | None:
    """The clip and the number of a frame's name; None for the path of anything else."""
    found = _FRAME.fullmatch(path)
    if found is None:
        return None
    clip = Path(found[1]) if root is None else root / found[1]
    return (found[1], int(found[2])) if os.path.isfile(expanded(clip)) else None


def read_frames(
    path: str | os.PathLike[str],
    wanted: Sequence[int],
    size: int | None = None,
    resample: int = BICUBIC,
    *,
    on_note: Note | None = None,
) -> list[np.ndarray]:
    """Frames of a clip by their numbers, ascending, as :func:`read_video` gives them; it is decoded once.

    Containers may announce a frame or two more than they hold: in place of one in the last hundredth that is
    missing stands the last one.

    Args:
        on_note: takes sentences about the clip.

    Raises:
        DataError: as :func:`read_video`; a frame beyond the end.
    """
    path = os.fspath(path)
    images: list[np.ndarray] = []
    waiting = list(reversed(wanted))
    notes: list[str] = []
    frames = decoded_frames(path, wanted[-1] + 1, notes)
    last: Callable[[], Any] | None = None
    seen = 0
    try:
        for index, image in enumerate(frames):
            last, seen = image, index + 1
            while waiting and waiting[-1] == index:
                images.append(read_image(converted(path, index, image), size, resample))
                waiting.pop()
            if not waiting:
                break
        while waiting and last is not None and waiting[-1] <= seen + max(2, seen // 100):
            images.append(read_image(converted(path, seen - 1, last), size, resample))
            waiting.pop()
    finally:
        frames.close()
    if on_note is not None:
        for sentence in notes:
            on_note(sentence)
    if waiting:
        raise DataError(f"{shown(path)} has {seen:,} frames and no frame {waiting[-1]:,}; give another video")
    return images
