"""Arrays and tensors as images: which shapes are one image or many, and which are refused.

Channels come last. An array with channels first is refused rather than guessed: as several grey pictures it would
give several answers, each of them wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
from PIL import Image

from vitlr.data.files import find_images
from vitlr.data.names import expanded
from vitlr.data.pixels import to_rgb
from vitlr.errors import DataError

__all__ = ["as_images", "check_order", "from_array"]

_CHANNELS = (1, 3, 4)
ORDERS = ("rgb", "bgr")


def check_order(channel_order: str) -> None:
    """DataError unless it is ``rgb`` or ``bgr``."""
    if channel_order not in ORDERS:
        raise DataError(f"channel_order must be one of {', '.join(ORDERS)}, got {channel_order!r}")


def from_array(source: Any, channel_order: str = "rgb") -> Image.Image:
    """RGB of an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or floats within 0..1; DataError."""
    try:
        array = np.asarray(source)
    except Exception as error:  # whatever a foreign type's conversion raises
        kind = type(source).__name__
        raise DataError(f"{kind} is not an image ({error}); give a path, PIL image or array") from None
    if array.dtype.kind not in "fuib":
        raise DataError(f"{type(source).__name__} is not an image; give a path, PIL image or array")
    if array.ndim == 3 and array.shape[0] == 1 and array.shape[2] not in _CHANNELS:
        array = array[0]  # one grey picture, whichever way it is read
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS) or 0 in array.shape:
        raise DataError(
            f"an image array must be (H, W) or (H, W, C) with C 1, 3 or 4, got {array.shape}{_hint(array.shape)}"
        )
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):  # false for NaN as well
            raise DataError("a float image must lie within 0..1; convert values of 0..255 to uint8")
        array = np.round(array * 255.0).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(f"an image array must be uint8, or float within 0..1, got {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    elif array.ndim == 3 and channel_order == "bgr":
        array = array[:, :, [2, 1, 0, 3][: array.shape[2]]]
    return to_rgb(Image.fromarray(np.ascontiguousarray(array)))


def _hint(shape: tuple[int, ...]) -> str:
    """What to do about channels in another place."""
    if len(shape) == 3 and shape[0] in (2, *_CHANNELS):
        return "; put channels last: x.permute(1, 2, 0) of a tensor, np.moveaxis(x, 0, -1) of an array"
    if len(shape) == 4 and shape[1] in (2, *_CHANNELS):
        return "; put channels last: x.permute(0, 2, 3, 1) of a tensor, np.moveaxis(x, 1, -1) of an array"
    return ""


def as_images(images: Any, channel_order: str = "rgb") -> list[Any]:
    """A list of sources that :func:`vitlr.data.images.read_image` takes, from one image or many; nothing is decoded.

    One path, PIL image, bytes, open file or array (H, W) or (H, W, C), C being 1, 3 or 4, gives a list of one; the
    path of a folder gives the images and videos below it. An array (N, H, W, C), or (N, H, W) of greys, and any
    sequence or generator of images gives one source each.

    Args:
        channel_order: ``bgr`` for arrays as OpenCV makes them; paths and PIL images are not affected.

    Raises:
        DataError: neither an image nor a sequence; a set, which has no order; an array of another shape, such as one
            with channels first; a folder without an image.
    """
    check_order(channel_order)
    if isinstance(images, (str, os.PathLike)):
        return list(find_images([images], videos=True).files) if expanded(images).is_dir() else [images]
    if isinstance(images, (bytes, bytearray, memoryview, Image.Image)) or hasattr(images, "read"):
        return [images]
    if getattr(images, "shape", None) is not None:  # an array, of NumPy or another library
        sources = _of_array(images)
    elif isinstance(images, (Set, Mapping)):
        raise DataError(f"images came as a {type(images).__name__}, which has no order; give a list")
    elif not isinstance(images, Iterable):
        raise DataError(f"images must be paths, PIL images or arrays, got {type(images).__name__}")
    else:
        sources = list(images)
    return [_in_rgb(source) for source in sources] if channel_order == "bgr" else sources


def _of_array(images: Any) -> list[Any]:
    shape = tuple(images.shape)
    if len(shape) < 2:
        # By position: a pandas Series takes a number for one of its labels.
        sources = list(images) if shape else []
        if sources and getattr(sources[0], "shape", None) == () and not isinstance(sources[0], (str, bytes)):
            raise DataError(
                f"an array of shape {shape} holds no images; give (N, H, W, C), or (H, W, C) for one"
            )
        return sources
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in _CHANNELS):
        return [images]
    many = (len(shape) == 4 and shape[3] in _CHANNELS) or (
        len(shape) == 3 and shape[0] not in (3, 4) and shape[2] != 2
    )
    if not many:
        grey = (
            f" ({shape[0]} grey pictures have the shape {(*shape, 1)})"
            if len(shape) == 3 and shape[0] > 2
            else ""
        )
        raise DataError(
            f"images must be (H, W, C), (N, H, W, C) or (N, H, W) with C 1, 3 or 4, got {shape}{_hint(shape)}{grey}"
        )
    return list(images)


def _in_rgb(source: Any) -> Any:
    """An array (H, W, 3) or (H, W, 4) in BGR as an image; anything else as it is."""
    shape = getattr(source, "shape", None)
    return from_array(source, "bgr") if shape is not None and len(shape) == 3 else source
