"""What a file is, by its content and then by its name; only regular files are opened.

Formats that are read have the names that Pillow and FFmpeg give them. Others are recognised to be named when
they are refused or left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import BinaryIO

from vitlr.data.names import expanded, shown
from vitlr.data.signatures import HEAD, Kind, identify
from vitlr.errors import DataError, VitLRError
from vitlr.storage import reading
from vitlr.storage.reading import NotRegularError

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_FRAMES",
    "VIDEO_SUFFIXES",
    "has_heif",
    "kind_of",
    "kind_of_head",
    "listed",
    "open_regular",
    "readable",
    "remedy",
]

MAX_FRAMES = 300  # taken from a video by default: as many as one of CORe50 has

# By these names a file counts as an image or a video without being opened.
_IMAGE_NAMES = {
    **{".png": "PNG", ".apng": "PNG", ".gif": "GIF", ".webp": "WEBP", ".avif": "AVIF", ".bmp": "BMP"},
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **{".tif": "TIFF", ".tiff": "TIFF", ".jp2": "JPEG2000"},
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
}
IMAGE_SUFFIXES = tuple(suffix for suffix, name in _IMAGE_NAMES.items() if name != "HEIC")


def _suffixes(names: str) -> tuple[str, ...]:
    return tuple(f".{name}" for name in names.split())


VIDEO_SUFFIXES = _suffixes(
    "mp4 m4v mov qt 3gp 3g2 webm mkv avi divx ogv mpg mpeg vob ts mts m2ts m2t tod mod wmv asf flv f4v dv mxf"
    " h264 264 avc h265 265 hevc mjpeg mjpg m1v m2v y4m ivf"
)
# Known by name only: cameras' raw images are TIFF inside, whose first picture is a thumbnail, and sound may be in
# a container of videos.
_OTHER_NAMES = {
    **dict.fromkeys(_suffixes("dng cr2 cr3 crw nef nrw arw sr2 srf orf rw2 raf pef srw x3f"), "camera raw"),
    **dict.fromkeys(_suffixes("3fr erf kdc dcr mrw iiq rwl gpr"), "camera raw"),
    **dict.fromkeys(_suffixes("mp3 wma m4a mka wav ogg oga opus aac flac"), "sound"),
    **dict.fromkeys(_suffixes("zip rar 7z tar gz tgz"), "archive"),
    **dict.fromkeys(_suffixes("psd psb"), "PSD"),
    **dict.fromkeys(_suffixes("dcm dicom"), "DICOM"),
    **{".svg": "SVG", ".jxl": "JPEG XL", ".ico": "ICO", ".tga": "TGA", ".exr": "OpenEXR", ".pdf": "PDF"},
    **{".hdr": "Radiance HDR", ".eps": "EPS", ".xcf": "XCF", ".fits": "FITS", ".bpg": "BPG", ".emf": "EMF"},
}
_LISTED = {"JPEG2000": "JPEG 2000", "WEBP": "WebP"}
_IMAGES = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000")


def _judged(kind: Kind) -> Kind:
    """The same, in group other if it is an image of a format that is not read."""
    return Kind(kind.format, "other") if kind.group == "image" and kind.format not in readable() else kind


@lru_cache(maxsize=1)
def has_heif() -> bool:
    """True if pillow-heif is installed, which reads HEIC."""
    return find_spec("pillow_heif") is not None


@lru_cache(maxsize=1)
def readable() -> tuple[str, ...]:
    """Names of the image formats that are read, AVIF and JPEG 2000 only if Pillow was built with them."""
    from PIL import features

    parts = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
    found = [name for name in _IMAGES if name not in parts or _has(features.check, parts[name])]
    return (*found, *(("HEIC",) if has_heif() else ()))


def listed() -> tuple[str, ...]:
    """The names of ``readable`` that a user knows."""
    return tuple(_LISTED.get(name, name) for name in readable() if name != "DIB")


def _has(check: Callable[[str], bool | None], part: str) -> bool:
    try:
        return bool(check(part))
    except ValueError:  # a Pillow that knows no such part
        return False


def kind_of_head(head: bytes) -> Kind:
    """What a file is that begins with these bytes; images of formats that are not read are in group other."""
    return _judged(identify(head))


def remedy(name: str, them: str = "them") -> str:
    """What a user can do about files of a format that is not read."""
    if name == "HEIC":
        return f"convert {them} to JPEG, or install pillow-heif (pip install 'vitlr[heif]')"
    if name == "camera raw":
        return f"develop {them} to JPEG, PNG or TIFF"
    if name == "archive":
        return f"unpack {them}"
    return f"convert {them} to one of {', '.join(listed())}"


def kind_of(path: str | os.PathLike[str], *, name_alone: bool = False) -> Kind:
    """What a file is, by its content where that is known, else by its name; nothing is raised.

    Args:
        name_alone: do not open it.
    """
    suffix = os.path.splitext(path)[1].lower()
    named = _judged(Kind(_IMAGE_NAMES[suffix], "image")) if suffix in _IMAGE_NAMES else Kind()
    if suffix in VIDEO_SUFFIXES:
        named = Kind(suffix[1:].upper(), "video")
    elif suffix in _OTHER_NAMES:
        named = Kind(_OTHER_NAMES[suffix], "other")
    if name_alone:
        return named
    try:
        with open_regular(path) as file:
            found = kind_of_head(file.read(HEAD))
    except (DataError, OSError):
        return named
    if (
        named.format in ("camera raw", "sound")
        and found.group in ("image", "video")
        and found.format != "JPEG"
    ):
        return named  # TIFF inside, or a container of sound alone
    if found.format == "JPEG" and suffix in (".mjpeg", ".mjpg"):
        return Kind("MJPEG", "video")
    return found or named


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, open for reading. Nothing else is opened, behind links either: a pipe may have no end.

    Raises:
        DataError: no such file, or not a regular one. OSError: it may not be read.
    """
    path = expanded(path)
    try:
        return reading.open_regular(path)
    except NotRegularError as error:
        raise DataError(f"{shown(path)} is {error.kind}, not a file; give image or video files") from None
    except (FileNotFoundError, NotADirectoryError):
        broken = " (a link that leads nowhere)" if os.path.lexists(path) else ""
        raise DataError(f"{shown(path)} does not exist{broken}; check the path") from None
    except ValueError as error:
        if isinstance(error, VitLRError):
            raise
        raise DataError(f"{str(path)!a} is not a path; check it") from None
