"""From what visitors send to pixels: sizes are checked before anything is decoded, and two are decoded at once.

Shape letters: H and W sides of a picture, C channels.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitlr.app.limits import Limits
from vitlr.data.images import read_image
from vitlr.data.video import Video, is_video, read_video
from vitlr.errors import DataError

__all__ = ["THUMBNAIL", "Decoder", "jpeg", "thumbnail"]

THUMBNAIL = 96  # pixels of its side
_LONGEST = 512  # pixels: no network here reads more, and 300 full frames of a camera take gigabytes


class Decoder:
    """Reads pictures and videos of visitors, two at once in the whole process."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._two = threading.BoundedSemaphore(2)

    def picture(self, content: Any, *, frame: bool = False) -> np.ndarray:
        """(H, W, 3) uint8, shrunk so that hundreds of them can be stored.

        Args:
            content: the bytes of an image file, or anything that ``vitlr.data.images.read_image`` takes.
            frame: of a camera, for which the bound on pixels is lower.

        Raises:
            DataError: not a picture, damaged, or too large.
        """
        limits = self._limits
        if isinstance(content, (bytes, bytearray)) and len(content) > limits.frame_bytes:
            size = len(content) / 1e6
            raise DataError(f"the picture has {size:.1f} MB; send at most {limits.frame_bytes / 1e6:.1f} MB")
        with self._two:
            pixels = read_image(content, max_pixels=limits.frame_pixels if frame else limits.pixels)
            return _shrunk(pixels)

    def upload(self, path: Path) -> tuple[list[np.ndarray], str]:
        """Pictures of an image or video file and a sentence about them, empty if there is nothing to say.

        Raises:
            DataError: neither, damaged, or more pixels in all than may be decoded.
        """
        if not is_video(path):
            with self._two:
                notes: list[str] = []
                pixels = read_image(path, max_pixels=self._limits.pixels, on_note=notes.append)
                return [_shrunk(pixels)], " ".join(notes)
        sampled: list[str] = []
        video = Video(
            path,
            max_frames=self._limits.frames,
            on_read=lambda taken: sampled.extend((taken.counts, *taken.notes)),
        )
        most = (self._limits.film_pixels, self._limits.animation_pixels)
        with self._two:
            return read_video(video, fit=_shrunk, max_work=most), "; ".join(sampled)


def _shrunk(picture_HWC: np.ndarray) -> np.ndarray:
    if max(picture_HWC.shape[:2]) <= _LONGEST:
        return picture_HWC
    shrunk = Image.fromarray(picture_HWC)
    shrunk.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.array(shrunk)


def thumbnail(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(96, 96, 3): the middle square of the picture in the middle."""
    picture = Image.fromarray(pictures[len(pictures) // 2])
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return np.array(square.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC))


def jpeg(picture_HWC: np.ndarray, quality: int = 85) -> bytes:
    """The picture as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture_HWC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
