"""Files, arrays and PIL images to uint8 RGB pixels; decoding in threads, ahead of whoever reads.

Shape letters: N images, H and W their sides, C channels.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from vitlr.data.arrays import as_images, check_order, from_array
from vitlr.data.decoding import BICUBIC, Note, from_file, from_pil
from vitlr.data.experience import Item
from vitlr.data.names import shown
from vitlr.errors import DataError

__all__ = ["as_images", "iter_batches", "read_image", "resolve"]

AHEAD = 3  # batches being decoded or waiting, the one that is read next included


# -- one image --------------------------------------------------------------------------------------


def read_image(
    source: Any,
    size: int | None = None,
    resample: int = BICUBIC,
    *,
    channel_order: str = "rgb",
    strict: bool = False,
    max_pixels: int | None = None,
    on_note: Note | None = None,
) -> np.ndarray:
    """uint8 (H, W, 3) of a path, bytes, open file, PIL image or array; (size, size, 3) if ``size`` is given.

    The format is known by content. Any mode becomes RGB as viewers show it, see :mod:`vitlr.data.pixels`; of an
    animation the first frame is taken, of several pages the first. An image of another shape is resized to the
    square with the Pillow filter ``resample``, as a Hugging Face image processor does, without keeping the aspect
    ratio.

    Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), either uint8 or floats within 0..1, which are
    multiplied by 255 and rounded.

    Args:
        channel_order: of arrays, ``rgb`` or ``bgr`` as OpenCV has it.
        strict: refuse a JPEG that lacks only its last bytes, which is read with a note otherwise.
        max_pixels: of a file, compared with what its header announces, before anything is decoded; never more than
            ``PIL.Image.MAX_IMAGE_PIXELS``.
        on_note: called with a sentence about an image that is read, but not as a whole.

    Raises:
        DataError: missing, no regular file, empty, damaged, truncated, of a format that is not read, more pixels
            than ``max_pixels`` (a decompression bomb); an array of another shape, type or range.
    """
    if size is not None and size < 1:
        raise DataError(f"image size must be >= 1, got {size}")
    check_order(channel_order)
    if isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read"):
        image = from_file(source, strict, on_note, max_pixels)
    elif isinstance(source, Image.Image):
        image = from_pil(source)
    else:
        image = from_array(source, channel_order)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling(resample))
    return np.array(image)


# -- many images ------------------------------------------------------------------------------------


def resolve(root: Path | None, path: str) -> Path:
    """``root / path`` for a relative path that stays below root; DataError otherwise.

    Without a root the path is the caller's own and taken as it is.
    """
    if root is None:
        return Path(path)
    pure = PureWindowsPath(path) if os.name == "nt" else PurePosixPath(path)
    if pure.anchor or pure.drive or ".." in pure.parts:
        raise DataError(f"{path!r} leads out of {shown(root)}; use paths relative to it, without '..'")
    return root / path


def iter_batches(
    paths: Sequence[str],
    root: Path | None,
    *,
    size: int,
    resample: int = BICUBIC,
    batch_size: int = 64,
    workers: int = 2,
    on_bad: str = "error",
    strict: bool = False,
    on_note: Note | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows, images): int64 positions in ``paths`` that could be read, and uint8 (N, size, size, 3).

    Threads decode up to two batches ahead (Pillow releases the interpreter while it decodes) and end with the
    iterator. Rows ascend. With ``on_bad="skip"`` unreadable images are left out, and a batch without any is
    not yielded; with ``"error"`` the first one, in the order of ``paths``, raises DataError. The frames of a clip
    that follow each other are decoded together.

    Args:
        strict, on_note: see :func:`read_image`.
    """
    if on_bad not in ("error", "skip"):
        raise DataError(f"on_bad must be error or skip, got {on_bad!r}")
    if batch_size < 1 or workers < 1:
        raise DataError(f"batch_size and workers must be >= 1, got {batch_size} and {workers}")

    def read(run: list[str]) -> Sequence[np.ndarray | DataError]:
        try:
            if len(run) > 1:
                return _read_clip(run, root, size, resample, on_note)
            source = run[0].load() if isinstance(run[0], Item) else resolve(root, run[0])
            return [read_image(source, size, resample, strict=strict, on_note=on_note)]
        except DataError as error:
            return [error] * len(run)

    return _batches(read, _runs(paths, root), batch_size, workers, on_bad == "skip")


def _runs(paths: Sequence[str], root: Path | None) -> Iterator[list[str]]:
    """Each path on its own, and frames of a clip that follow each other together."""
    from vitlr.data.clips import split_frame

    run: list[str] = []
    clip = None
    for path in paths:
        found = split_frame(path, root)
        if run and (found is None or found[0] != clip):
            yield run
            run = []
        run.append(path)
        clip = None if found is None else found[0]
        if found is None:
            yield run
            run = []
    if run:
        yield run


def _read_clip(
    run: list[str], root: Path | None, size: int, resample: int, on_note: Note | None
) -> list[np.ndarray]:
    from vitlr.data.clips import read_frames

    clip = resolve(root, run[0].rpartition("/")[0])
    return read_frames(clip, [int(path.rpartition("/")[2]) for path in run], size, resample, on_note=on_note)


def _batches(
    read: Callable[[list[str]], Sequence[np.ndarray | DataError]],
    runs: Iterator[list[str]],
    batch_size: int,
    workers: int,
    skip: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    waiting: deque[Future[Sequence[np.ndarray | DataError]]] = deque()
    rows: list[int] = []
    images: list[np.ndarray] = []
    row, ahead = 0, 0  # rows that were read; rows that were asked for and not yielded
    pool = ThreadPoolExecutor(workers, thread_name_prefix="vitlr-decode")
    try:
        while True:
            while ahead < AHEAD * batch_size and (run := next(runs, None)) is not None:
                waiting.append(pool.submit(read, run))
                ahead += len(run)
            if not waiting:
                break
            for result in waiting.popleft().result():
                if not isinstance(result, DataError):
                    rows.append(row)
                    images.append(result)
                elif not skip:
                    raise result
                row += 1
                if row % batch_size == 0:
                    if rows:
                        yield np.array(rows, dtype=np.int64), np.stack(images)
                    rows, images = [], []
                    ahead -= batch_size
        if rows:
            yield np.array(rows, dtype=np.int64), np.stack(images)
    finally:
        pool.shutdown(cancel_futures=True)
