"""Every picture of a source, whatever it is: the one way from what people give to pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from vitlr.data.decoding import BICUBIC, Note
from vitlr.data.experience import Item
from vitlr.data.files import find_images
from vitlr.data.images import read_image
from vitlr.data.names import expanded
from vitlr.data.video import is_video, read_video

__all__ = ["pictures"]


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
        yield from read_video(source, size, resample)
    else:
        yield read_image(source, size, resample, **options)
