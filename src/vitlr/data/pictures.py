"""Every picture of a source, whatever it is: the one way from what people give to pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from vitlr.data.decoding import BICUBIC, Note
from vitlr.data.experience import Item
from vitlr.data.files import find_images
from vitlr.data.images import read_image
from vitlr.data.names import expanded
from vitlr.data.video import MAX_DECODED, Video, converted, decoded_frames, is_video, read_video

__all__ = ["pictures"]

HELD = 2**28  # bytes of a video's frames that are held at once


def pictures(
    source: Any,
    size: int | None = None,
    resample: int = BICUBIC,
    *,
    channel_order: str = "rgb",
    strict: bool = False,
    on_note: Note | None = None,
) -> Iterator[np.ndarray]:
    """Yield uint8 (H, W, 3): of an image one, of a video or animation its frames, of a folder all that is in it.

    Args:
        source: what :func:`vitlr.data.images.read_image` takes, a :class:`vitlr.data.video.Video`, a folder.
        size, resample, channel_order, strict, on_note: see ``read_image``.

    Raises:
        DataError: as ``read_image``, ``read_video`` and :func:`vitlr.data.files.find_images`.
    """
    options: dict[str, Any] = {"channel_order": channel_order, "strict": strict, "on_note": on_note}
    if isinstance(source, Item):
        yield read_image(source.load(), size, resample, **options)
    elif isinstance(source, (str, os.PathLike)) and expanded(source).is_dir():
        found = find_images([source], videos=True)
        for path in found.files:
            yield from pictures(path, size, resample, **options)
        if on_note is not None:
            for sentence in found.sentences():
                on_note(sentence)
    elif is_video(source):
        video = source if isinstance(source, Video) else Video(source)
        yield from read_video(video, size, resample) if size is not None else _of_own_size(video)
    else:
        yield read_image(source, size, resample, **options)


def _of_own_size(video: Video) -> Iterator[np.ndarray]:
    """The frames that ``read_video`` takes, as large as they are: one at a time if they are too many bytes together,
    for which a video is decoded once more."""
    path = os.fspath(video.path)
    with closing(decoded_frames(path, 1, [])) as first:
        bytes_each = next((_pixels(path, 0, image).nbytes for image in first), 0)
    if bytes_each * video.max_frames <= HELD:
        yield from read_video(video)
        return
    step = video.every or 1
    if video.every is None:
        number = sum(1 for _ in decoded_frames(path, MAX_DECODED + 1, []))
        while -(-number // step) > video.max_frames:
            step *= 2
    last = step * (video.max_frames - 1)
    with closing(decoded_frames(path, last + 1, [])) as frames:
        for index, image in enumerate(frames):
            if index % step == 0:
                yield _pixels(path, index, image)
            if index == last:
                return


def _pixels(path: str, index: int, image: Callable[[], Any]) -> np.ndarray:
    return read_image(converted(path, index, image))
