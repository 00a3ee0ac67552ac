"""Animated images frame by frame, refused before the work becomes large: canvas times frames is bounded.

An animation of a few kilobytes can stand for gigapixels. So its frames are counted without decoding one of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count
from typing import BinaryIO, Literal

from PIL import Image

from vitlr.data.decoding import DAMAGED, webp_canvas, what_is_wrong
from vitlr.data.formats import kind_of_head, open_regular
from vitlr.data.names import shown
from vitlr.data.signatures import HEAD
from vitlr.errors import DataError, VitLRError

__all__ = ["MAX_WORK", "Bounds", "frames_of", "is_animated", "num_frames"]

MAX_PIXELS = 2**24  # of a frame, such as 4096 x 4096
MAX_FILM = 2**37  # pixels of all frames of a film: 36 minutes at 30 a second of 1920 x 1080
MAX_WORK = 2**29  # pixels of all frames that are looked at: 258 of 1920 x 1080, some seconds of work
MAX_PAGES = 2**12  # of a TIFF, in which Pillow looks for every page among those before
FORMATS = ("GIF", "WEBP", "PNG", "AVIF", "TIFF", "JPEG")  # JPEG: several pictures in one file (MPO)


def is_animated(path: str | os.PathLike[str]) -> bool:
    """True for a GIF, WebP, PNG or AVIF of several frames; nothing is raised."""
    try:
        with open_regular(path) as file:
            return kind_of_head(file.read(HEAD)).format in FORMATS[:4] and num_frames(file, 2) > 1
    except (*DAMAGED, DataError, Image.DecompressionBombError):
        return False


def num_frames(file: BinaryIO, limit: int) -> int:
    """Frames of an animated image, counted up to ``limit`` without decoding one."""
    file.seek(0)
    kind = kind_of_head(file.read(HEAD))
    file.seek(0)
    counters = {"GIF": _gif_frames, "WEBP": _webp_frames, "PNG": _png_frames, "TIFF": _tiff_pages}
    if kind.format in counters:
        return counters[kind.format](file, limit)
    with Image.open(file, formats=(kind.format,)) as image:
        return min(limit, getattr(image, "n_frames", 1))


def _gif_frames(file: BinaryIO, limit: int) -> int:
    """Image descriptors (GIF89a, section 20)."""

    def skip_table(flags: int) -> None:
        if flags & 0x80:
            file.seek(3 * 2 ** ((flags & 7) + 1), os.SEEK_CUR)

    def skip_blocks() -> None:
        while size := file.read(1):
            if not size[0]:
                return
            file.seek(size[0], os.SEEK_CUR)

    header, found = file.read(13), 0
    skip_table(header[10])
    while found < limit and (kind := file.read(1)) in (b"!", b","):
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
        else:
            descriptor = file.read(9)
            if len(descriptor) < 9:
                break
            skip_table(descriptor[8])
            file.seek(1, os.SEEK_CUR)  # bits of the first code
            found += 1
        skip_blocks()
    return found


def _webp_frames(file: BinaryIO, limit: int) -> int:
    """ANMF chunks."""
    file.seek(12)
    found, still = 0, 0
    while found < limit and len(chunk := file.read(8)) == 8:
        found += chunk[:4] == b"ANMF"
        still += chunk[:4] in (b"VP8 ", b"VP8L")
        size = int.from_bytes(chunk[4:], "little")
        file.seek(size + size % 2, os.SEEK_CUR)
    return found or min(still, 1)


def _png_frames(file: BinaryIO, limit: int) -> int:
    """The number that the acTL chunk announces, which comes before the pixels."""
    file.seek(8)
    while len(chunk := file.read(8)) == 8 and chunk[4:] != b"IDAT":
        size = int.from_bytes(chunk[:4], "big")
        if chunk[4:] == b"acTL":
            return max(1, min(limit, int.from_bytes(file.read(4), "big")))
        file.seek(size + 4, os.SEEK_CUR)
    return 1


def _tiff_pages(file: BinaryIO, limit: int) -> int:
    """Directories, each of which says where the next one is; they may lead in a circle."""
    head = file.read(16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    big = int.from_bytes(head[2:4], order) == 43
    width, entry, number = (8, 20, 8) if big else (4, 12, 2)
    at = int.from_bytes(head[8:16] if big else head[4:8], order)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < limit:
        seen.add(at)
        file.seek(at)
        entries = int.from_bytes(file.read(number), order)
        file.seek(at + number + entries * entry)
        at = int.from_bytes(file.read(width), order)
    return len(seen)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Pixels that may be decoded; what a header announces is compared before the first frame is.

    Attributes:
        frame: of one frame; ``MAX_PIXELS`` at most.
        film: of all frames of a video file that are looked at.
        animation: of all frames of an animated image; ``MAX_WORK`` at most.
    """

    frame: int = MAX_PIXELS
    film: int = MAX_FILM
    animation: int | None = None

    def check_frame(self, path: str | os.PathLike[str], width: int, height: int) -> None:
        """DataError for a frame of too many pixels."""
        most = min(self.frame, MAX_PIXELS)
        if width * height > most:
            raise DataError(
                f"{shown(path)} has frames of {width}x{height}, more than {most:,} pixels; make it smaller"
            )

    def check_film(self, path: str | os.PathLike[str], pixels: int) -> None:
        """DataError for a video file with too many pixels in all."""
        if pixels > self.film:
            raise DataError(
                f"{shown(path)} has frames of more than {self.film:,} pixels in all; make it smaller or shorter"
            )


def frames_of(
    path: str, needed: int, most: int, bounds: Bounds | None = None
) -> Generator[Callable[[], Image.Image], None, None]:
    """The frames of an animated image in order, each copied only when its function is called.

    Args:
        needed: frames that will be asked for; fewer if it has fewer.
        most: frames it may have, if all of them are needed.

    Raises:
        DataError: damaged, too many frames, a canvas of too many pixels, or too many pixels in all frames that are
            needed.
    """
    bounds = bounds or Bounds()
    allowed = min(bounds.animation or MAX_WORK, MAX_WORK)
    try:
        with open_regular(path) as file:
            head = file.read(HEAD)
            kind = kind_of_head(head)
            bounds.check_frame(path, *webp_canvas(head))
            with Image.open(file, formats=(kind.format,)) as image, open_regular(path) as counted:
                bounds.check_frame(path, image.width, image.height)
                most = min(most, MAX_PAGES) if kind.format == "TIFF" else most
                found = num_frames(counted, min(needed, most + 1))
                if found > most:
                    raise DataError(
                        f"{shown(path)} has more than {most:,} frames; cut it into shorter videos"
                    )
                work = found * image.width * image.height
                for index in count():
                    if work > allowed:
                        raise DataError(
                            f"{shown(path)} has {found:,} frames of {image.width}x{image.height}, more than"
                            f" {allowed:,} pixels in all; make it smaller or shorter"
                        )
                    try:
                        image.seek(index)
                    except EOFError:
                        return
                    bounds.check_frame(path, image.width, image.height)  # pages have sizes of their own
                    work = max(work, (index + 1) * image.width * image.height)
                    yield image.copy
    except VitLRError:
        raise
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise DataError(f"{shown(path)} {what_is_wrong(error)}; replace or remove it") from None
