"""From what visitors send to pixels: sizes are checked before anything is decoded, and two are decoded at once.

Shape letters: H and W sides of a picture, C channels.
"""

from __future__ import annotations

import ctypes
import gc
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitlr.app.limits import Limits
from vitlr.data.decoding import Note, announced
from vitlr.data.images import read_image
from vitlr.data.video import Bounds, Video, is_video, read_video
from vitlr.errors import DataError

__all__ = ["THUMBNAIL", "Decoder", "give_memory_back", "jpeg", "thumbnail"]

THUMBNAIL = 96  # pixels of its side
_LARGE = 2**21  # pixels
_SLOW = {"JPEG2000": 4}  # formats that take so many times as long as others have as many times fewer pixels
_LONGEST = 512  # pixels: no network here reads more, and 300 full frames of a camera take gigabytes


class Decoder:
    """Reads pictures and videos of visitors, two at once in the whole process, and one if it is large."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._pictures, self._pixels = 0, 0  # that are being decoded

    @contextmanager
    def _turn(self, pixels: int) -> Iterator[None]:
        """Wait until so many pixels may be decoded; what was used is given back to the system afterwards."""
        pixels = min(pixels, self._limits.pixels)
        with self._changed:
            self._changed.wait_for(
                lambda: self._pictures < 2 and self._pixels + pixels <= self._limits.pixels
            )
            self._pictures += 1
            self._pixels += pixels
        try:
            yield
        finally:
            if pixels > _LARGE:
                give_memory_back()
            with self._changed:
                self._pictures -= 1
                self._pixels -= pixels
                self._changed.notify_all()

    def picture(self, content: Any, *, frame: bool = False) -> np.ndarray:
        """(H, W, 3) uint8, shrunk so that hundreds of them can be stored.

        Args:
            content: the bytes of an image file, or anything that ``vitlr.data.images.read_image`` takes.
            frame: of a camera, for which the bound on pixels is lower.

        Raises:
            DataError: not a picture, damaged, or too large.
        """
        limits = self._limits
        if isinstance(content, bytes) and len(content) > limits.frame_bytes:
            size = len(content) / 1e6
            raise DataError(f"the picture has {size:.1f} MB; send at most {limits.frame_bytes / 1e6:.1f} MB")
        return self._read(content, limits.frame_pixels if frame else limits.pixels)

    def upload(self, path: Path) -> tuple[list[np.ndarray], str]:
        """Pictures of an image or video file and a sentence about them, empty if there is nothing to say.

        Raises:
            DataError: neither, damaged, or more pixels in all than may be decoded.
        """
        if not is_video(path):
            notes: list[str] = []
            return [self._read(path, self._limits.pixels, notes.append)], " ".join(notes)
        sampled: list[str] = []
        video = Video(
            path,
            max_frames=self._limits.frames,
            on_read=lambda taken: sampled.extend((taken.counts, *taken.notes)),
        )
        limits = self._limits
        bounds = Bounds(frame=limits.frame_pixels, film=limits.film_pixels, animation=limits.animation_pixels)
        with self._turn(limits.pixels):
            try:
                return read_video(video, fit=_shrunk, bounds=bounds), "; ".join(sampled)
            finally:
                gc.collect()  # decoders hold their pictures in circles

    def _read(self, source: Any, most: int, on_note: Note | None = None) -> np.ndarray:
        kind, pixels = announced(source) if isinstance(source, (bytes, Path)) else ("", 0)
        most //= _SLOW.get(kind, 1)
        with self._turn(pixels if pixels <= most else 0):
            return _shrunk(read_image(source, max_pixels=most, on_note=on_note))


def give_memory_back() -> None:
    """Return what was freed to the system: after many or large pictures the C library keeps hundreds of megabytes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc


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
