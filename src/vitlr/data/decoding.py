"""Image files and open images to RGB: the format by content, the size before it is decoded, refusals by name."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from vitlr.data.formats import kind_of_head, listed, open_regular, remedy
from vitlr.data.jpeg import without_end
from vitlr.data.names import shown
from vitlr.data.pixels import to_rgb
from vitlr.data.signatures import HEAD, Kind
from vitlr.errors import DataError, VitLRError

__all__ = ["BICUBIC", "DAMAGED", "Note", "announced", "from_file", "from_pil", "webp_canvas", "what_is_wrong"]

BICUBIC = int(Image.Resampling.BICUBIC)
MAX_BYTES = 2**30  # of an open file that is read to its end

Note = Callable[[str], Any]  # takes a sentence

_PNG_END = b"IEND\xaeB`\x82"
_DNG_VERSION = 50706  # TIFF tag of cameras' raw images
_NO_PICTURE = {
    "": "",
    "text": "text, ",
    "sound": "sound, ",
    "web page": "a web page, ",
    "AppleDouble": "an AppleDouble file of a Mac, ",
    "archive": "an archive, ",
    "Git LFS pointer": "a pointer of Git LFS (git lfs pull fetches the file), ",
}
# What Pillow and its decoders raise for bytes that are no image, or no longer one. Their warnings are among
# it if the program has made warnings errors.
DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError),
    *(OverflowError, MemoryError, NotImplementedError, RuntimeError, struct.error, zlib.error, Warning),
)


def from_file(source: Any, strict: bool, on_note: Note | None, max_pixels: int | None = None) -> Image.Image:
    """RGB of a path, bytes or an open file; see :func:`vitlr.data.images.read_image`."""
    is_path = isinstance(source, (str, os.PathLike))
    own = source if is_path else getattr(source, "name", None)  # an open file knows its path
    name = shown(own) if isinstance(own, (str, os.PathLike)) else "the image"
    most = _fewest(max_pixels, Image.MAX_IMAGE_PIXELS)
    try:
        with _opened(source) as file:
            return _decode(file, name, strict, on_note, most)
    except DataError:
        frame = _frame_of(os.fspath(source), on_note) if is_path else None
        if frame is None:
            raise
        return frame
    except VitLRError:
        raise
    except Image.DecompressionBombWarning:  # only if warnings are errors; _decode refuses such images too
        raise DataError(_too_large(name, most)) from None
    except DAMAGED as error:
        raise DataError(f"{name} {what_is_wrong(error)}; replace or remove it") from None


def _opened(source: Any) -> BinaryIO:
    if isinstance(source, (str, os.PathLike)):
        return open_regular(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if hasattr(source, "seekable") and source.seekable():
        source.seek(0)  # to where an image begins, also just after it was written
    content = source.read(MAX_BYTES + 1)
    if not isinstance(content, (bytes, bytearray)):
        raise DataError("an open file gives text and not bytes; open it with mode 'rb'")
    if len(content) > MAX_BYTES:
        raise DataError(f"an open file gives more than {MAX_BYTES:,} bytes; give a smaller image")
    return io.BytesIO(content)


def _frame_of(path: str, on_note: Note | None) -> Image.Image | None:
    """The frame of a clip, if the path is one of ``vitlr.data.clips.frame_paths``."""
    from vitlr.data.clips import read_frames, split_frame

    found = split_frame(path)
    return None if found is None else Image.fromarray(read_frames(found[0], [found[1]], on_note=on_note)[0])


def _decode(file: BinaryIO, name: str, strict: bool, on_note: Note | None, most: int | None) -> Image.Image:
    head = file.read(HEAD)
    file.seek(0)
    kind = kind_of_head(head)
    if kind.group != "image":
        raise DataError(f"{name} {_refusal(kind, head)}")
    image = _open(file, kind, head, name, most)
    # Between once and twice the limit Pillow only warns. The size is compared here, as warning filters
    # belong to the whole process and changing them in a thread is a race.
    _check_size(image.width, image.height, name, most)
    try:
        image.load()
    except OSError:
        whole = None
        if kind.format == "JPEG" and not strict:
            file.seek(0)
            whole = without_end(file.read())
        if whole is None:
            raise
        image = whole
        if on_note is not None:
            on_note(f"{name} lacks its last bytes: it is read as far as it goes")
    if image.format == "PNG":
        # Pillow is content without the last bytes, and marks after the pixels are read by load() only.
        if not _png_is_whole(file):
            raise DataError(f"{name} is truncated; replace or remove it")
        if image.mode == "RGB" and not image.info:
            return image  # the common case: nothing to turn, composite or convert
    # A JPEG of several pictures (MPO) is a phone's photo: what follows is no page of it.
    if on_note is not None and kind.format != "JPEG" and getattr(image, "is_animated", False):
        on_note(
            f"{name} has several {'pages' if kind.format == 'TIFF' else 'frames'}, of which the first is read"
        )
    try:
        return to_rgb(image)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _open(file: BinaryIO, kind: Kind, head: bytes, name: str, most: int | None) -> Image.Image:
    _check_size(*webp_canvas(head), name, most)
    try:
        if kind.format == "HEIC":
            from pillow_heif import HeifImageFile

            return HeifImageFile(file)
        image = Image.open(file, formats=(kind.format,))
    except Image.DecompressionBombError:
        raise DataError(_too_large(name, most)) from None
    except UnidentifiedImageError:
        kinds = "is damaged, or of a kind that Pillow does not read"
        raise DataError(f"{name} is a {kind.format} image that {kinds}; replace or convert it") from None
    if image.format == "TIFF" and _DNG_VERSION in getattr(image, "tag_v2", {}):
        raise DataError(f"{name} {_refusal(Kind('camera raw', 'other'), head)}")
    return image


def webp_canvas(head: bytes) -> tuple[int, int]:
    """Sides of the canvas that a WebP announces, else zeros: Pillow allocates it before it tells its size."""
    kind, content = head[8:16], head[20:30]
    if kind == b"WEBPVP8X" and len(content) == 10:
        width, height = (1 + int.from_bytes(content[at : at + 3], "little") for at in (4, 7))
        return width, height
    if kind == b"WEBPVP8L" and content[:1] == b"\x2f":
        bits = int.from_bytes(content[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"WEBPVP8 " and content[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(content[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        return width, height
    return 0, 0


def announced(source: str | os.PathLike[str] | bytes) -> tuple[str, int]:
    """Format and number of pixels that an image file announces; empty and 0 if it is not read at all."""
    try:
        with _opened(source) as file:
            head = file.read(HEAD)
            file.seek(0)
            kind = kind_of_head(head)
            if kind.group != "image":
                return "", 0
            image = _open(file, kind, head, "the image", Image.MAX_IMAGE_PIXELS)
            return kind.format, image.width * image.height
    except (DataError, *DAMAGED):
        return "", 0


def _check_size(width: int, height: int, name: str, most: int | None) -> None:
    if most is not None and width * height > most:
        raise DataError(_too_large(name, most))


def _fewest(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _refusal(kind: Kind, head: bytes) -> str:
    """Why a file of another format is not read: the format found, and those that are read."""
    if not head:
        return "is empty (0 bytes); replace or remove it"
    if kind.group == "video":
        return f"is a video ({kind.format}) and not an image; give it where videos are taken"
    formats = ", ".join(listed())
    if kind.format in _NO_PICTURE:
        found = _NO_PICTURE[kind.format]
        return f"is {found}not an image of a format that is read here ({formats}); replace or remove it"
    return f"is in {kind.format} format, which is not read here: {remedy(kind.format, 'it')}"


def _png_is_whole(file: BinaryIO) -> bool:
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - len(_PNG_END)))
    if file.read() == _PNG_END:
        return True
    file.seek(0)
    return _PNG_END in file.read()  # some programs append to the file


def _too_large(name: str, most: int | None) -> str:
    return f"{name} has more than {most:,} pixels; make it smaller"


def what_is_wrong(error: BaseException) -> str:
    """The end of a sentence about a file that gave this error."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    if "truncated" in str(error).lower():
        return "is truncated"
    detail = (str(error).splitlines() or [""])[0][:100] or type(error).__name__
    return f"is damaged ({detail})"


def from_pil(image: Image.Image) -> Image.Image:
    """RGB of an image that Pillow has opened or made; DataError if it is damaged."""
    try:
        image.load()
        return to_rgb(image)
    except VitLRError:
        raise
    except DAMAGED as error:
        name = getattr(image, "filename", "") or "the image"
        raise DataError(f"{name} {what_is_wrong(error)}; replace or remove it") from None
