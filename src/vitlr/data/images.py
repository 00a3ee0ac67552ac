"""Files, arrays and PIL images to uint8 RGB pixels; decoding in threads, ahead of whoever reads.

Shape letters: N images, H and W their sides, C channels.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vitlr.errors import DataError

__all__ = ["as_images", "iter_batches", "read_image", "resolve"]

BICUBIC = int(Image.Resampling.BICUBIC)
AHEAD = 3  # batches being decoded or waiting, the one that is read next included

# The formats that are read, whatever a file is called. Pillow knows more, some of which run other programs
# (EPS starts Ghostscript) or are seldom used and little tested. JPEG stands for MPO too.
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_ORIENTATION = 0x0112  # EXIF tag
_PNG_END = b"IEND\xaeB`\x82"
# What Pillow and its decoders raise for bytes that are no image, or no longer one. Their warnings are among
# it where the program has made warnings errors.
DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError),
    *(OverflowError, MemoryError, NotImplementedError, struct.error, zlib.error, Warning),
)


# -- one image --------------------------------------------------------------------------------------


def read_image(source: Any, size: int | None = None, resample: int = BICUBIC) -> np.ndarray:
    """uint8 (H, W, 3) of a path, bytes, PIL image or array; (size, size, 3) where ``size`` is given.

    Any mode becomes RGB: transparency is laid over white; 16-bit greys, 0..65535, are scaled to 8 bits;
    float images follow the rule for float arrays. EXIF orientation is applied, of an animation the first
    frame taken. An image of another shape is resized to the square with the Pillow filter ``resample``, as a
    Hugging Face image processor does, without keeping the aspect ratio.

    Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), either uint8 or floats within 0..1, which are
    multiplied by 255 and rounded.

    Raises:
        DataError: missing, empty, damaged, truncated, none of ``FORMATS``, more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS`` (a decompression bomb); an array of another shape, type or range.
    """
    if size is not None and size < 1:
        raise DataError(f"image size must be >= 1, got {size}")
    if isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        image = _from_file(source)
    elif isinstance(source, Image.Image):
        image = _from_pil(source)
    else:
        image = _from_array(source)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling(resample))
    return np.array(image)


def _from_file(source: Any) -> Image.Image:
    in_memory = isinstance(source, (bytes, bytearray, memoryview))
    name = "the image" if in_memory else os.fspath(source)
    try:
        with io.BytesIO(source) if in_memory else open(source, "rb") as file:
            return _decode(file, name)
    except FileNotFoundError:
        raise DataError(f"{name} does not exist; check the path") from None
    except DataError:
        raise
    except Image.DecompressionBombWarning:  # only where warnings are errors; _decode refuses such images too
        raise DataError(_too_large(name)) from None
    except DAMAGED as error:
        raise DataError(f"{name} {what_is_wrong(error)}; replace or remove it") from None


def _decode(file: BinaryIO, name: Any) -> Image.Image:
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise DataError(_too_large(name)) from None
    except UnidentifiedImageError:
        empty = not file.seek(0, os.SEEK_END)
        what = "is empty (0 bytes)" if empty else "is not an image of a format that is read here"
        raise DataError(f"{name} {what}; replace or remove it") from None
    # Between once and twice the limit Pillow only warns. The size is compared here, as warning filters
    # belong to the whole process and changing them in a thread is a race.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(_too_large(name))
    image.load()
    if image.format == "PNG":
        # Pillow is content without the last bytes, and marks after the pixels are read by load() only.
        if not _png_is_whole(file):
            raise DataError(f"{name} is truncated; replace or remove it")
        if image.mode == "RGB" and not image.info:
            return image  # the common case: nothing to turn, composite or convert
    return _to_rgb(image)


def _png_is_whole(file: BinaryIO) -> bool:
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - len(_PNG_END)))
    if file.read() == _PNG_END:
        return True
    file.seek(0)
    return _PNG_END in file.read()  # some programs append to the file


def _too_large(name: Any) -> str:
    return f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller"


def what_is_wrong(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    if "truncated" in str(error).lower():
        return "is truncated"
    detail = (str(error).splitlines() or [""])[0][:100] or type(error).__name__
    return f"is damaged ({detail})"


def _from_pil(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return _to_rgb(image)
    except DataError:
        raise
    except DAMAGED as error:
        name = getattr(image, "filename", "") or "the image"
        raise DataError(f"{name} {what_is_wrong(error)}; replace or remove it") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    image = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        return _from_array(np.asarray(image))
    if image.mode.startswith("I"):
        # Rounded to the nearest: 257 is odd, so that no value lies halfway. Integers take less memory than floats.
        grey = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # an image with broken EXIF data is still an image
        return image
    return ImageOps.exif_transpose(image) if turned else image


def _from_array(source: Any) -> Image.Image:
    try:
        array = np.asarray(source)
    except Exception as error:  # whatever a foreign type's conversion raises
        kind = type(source).__name__
        raise DataError(f"{kind} is not an image ({error}); give a path, PIL image or array") from None
    if array.dtype.kind not in "fuib":
        raise DataError(f"{type(source).__name__} is not an image; give a path, PIL image or array")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or 0 in array.shape:
        raise DataError(f"an image array must be (H, W) or (H, W, C) with C 1, 3 or 4, got {array.shape}")
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):  # false for NaN as well
            raise DataError("a float image must lie within 0..1; convert values of 0..255 to uint8")
        array = np.round(array * 255.0).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(f"an image array must be uint8, or float within 0..1, got {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)))


# -- many images ------------------------------------------------------------------------------------


def as_images(images: Any) -> list[Any]:
    """A list of sources that :func:`read_image` takes, from one image or many. Nothing is decoded yet.

    One path, PIL image, bytes or array (H, W) or (H, W, C), C being 1, 3 or 4, gives a list of one. An array
    (N, H, W, C), or (N, H, W) of greys, and any sequence of images gives one source each.

    Raises:
        DataError: neither an image nor a sequence.
    """
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
        return [images]
    shape = getattr(images, "shape", None)
    if shape is not None:  # an array, of NumPy or another library
        is_one = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
        # By position: a pandas Series takes a number for one of its labels.
        return [images] if is_one else list(images) if len(shape) else []
    if not isinstance(images, Iterable):
        raise DataError(f"images must be paths, PIL images or arrays, got {type(images).__name__}")
    return list(images)


def resolve(root: Path | None, path: str) -> Path:
    """``root / path`` for a relative path that stays below root; DataError otherwise.

    Without a root the path is the caller's own and taken as it is.
    """
    if root is None:
        return Path(path)
    pure, windows = PurePosixPath(path), PureWindowsPath(path)
    if pure.is_absolute() or windows.anchor or ".." in (*pure.parts, *windows.parts):
        raise DataError(f"{path!r} leads out of {root}; use paths relative to it, without '..'")
    return root / pure


def iter_batches(
    paths: Sequence[str],
    root: Path | None,
    *,
    size: int,
    resample: int = BICUBIC,
    batch_size: int = 64,
    workers: int = 2,
    on_bad: str = "error",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows, images): int64 positions in ``paths`` that could be read, and uint8 (N, size, size, 3).

    Threads decode up to two batches ahead (Pillow releases the interpreter while it decodes) and end with the
    iterator. Rows ascend. With ``on_bad="skip"`` unreadable images are left out, and a batch without any is
    not yielded; with ``"error"`` the first one, in the order of ``paths``, raises DataError.
    """
    if on_bad not in ("error", "skip"):
        raise DataError(f"on_bad must be error or skip, got {on_bad!r}")
    if batch_size < 1 or workers < 1:
        raise DataError(f"batch_size and workers must be >= 1, got {batch_size} and {workers}")
    return _batches(paths, root, size, resample, batch_size, workers, on_bad == "skip")


def _batches(
    paths: Sequence[str],
    root: Path | None,
    size: int,
    resample: int,
    batch_size: int,
    workers: int,
    skip: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    def read(path: str) -> np.ndarray | DataError:
        try:
            return read_image(resolve(root, path), size, resample)
        except DataError as error:
            return error

    starts = iter(range(0, len(paths), batch_size))
    waiting: deque[tuple[int, list[Future]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="vitlr-decode")
    try:
        while True:
            while len(waiting) < AHEAD and (start := next(starts, None)) is not None:
                waiting.append(
                    (start, [pool.submit(read, path) for path in paths[start : start + batch_size]])
                )
            if not waiting:
                return
            start, futures = waiting.popleft()
            rows, images = [], []
            for row, future in enumerate(futures, start):
                result = future.result()
                if not isinstance(result, DataError):
                    rows.append(row)
                    images.append(result)
                elif not skip:
                    raise result
            if rows:
                yield np.array(rows, dtype=np.int64), np.stack(images)
    finally:
        pool.shutdown(cancel_futures=True)
