"""Frames of a video file or an animated image: sampled evenly while it is read once, in bounded memory.

Video files are decoded by PyAV (the extra ``video``), animated GIF, WebP and PNG images by Pillow. PyAV was taken
because its wheel is half the size of imageio-ffmpeg's and it gives frames one by one.

A video may be hostile: it is read through an open file, so that it cannot name other files or addresses, only
common containers and codecs are tried, and frames, their pixels and their number have bounds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from vitlr.data.images import BICUBIC, DAMAGED, read_image, what_is_wrong
from vitlr.errors import DataError

__all__ = ["MAX_FRAMES", "VIDEO_SUFFIXES", "Sampled", "Video", "is_video", "read_video"]

VIDEO_SUFFIXES = (
    *(
        ".mp4",
        ".m4v",
        ".mov",
        ".3gp",
        ".webm",
        ".mkv",
        ".avi",
        ".ogv",
        ".mpg",
        ".mpeg",
        ".ts",
        ".wmv",
        ".flv",
    ),
)
ANIMATED_SUFFIXES = (".gif", ".webp", ".apng")
MAX_FRAMES = 300  # taken from a video by default: as many as one of CORe50 has
MAX_DECODED = 2**17  # frames of a video that is looked at as a whole: 73 minutes at 30 a second
MAX_PIXELS = 2**24  # of a frame, such as 4096 x 4096: a decoder holds about twenty of them

# FFmpeg reads hundreds of formats, of which few are used by cameras and many by no one but attackers.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,mpeg,mpegts,asf,flv"
_CODECS = (
    *(
        "h264",
        "hevc",
        "vp8",
        "vp9",
        "libvpx",
        "libvpx-vp9",
        "av1",
        "libdav1d",
        "mpeg4",
        "mjpeg",
        "mpeg1video",
    ),
    *(
        "mpeg2video",
        "theora",
        "h263",
        "msmpeg4",
        "msmpeg4v2",
        "msmpeg4v3",
        "wmv1",
        "wmv2",
        "wmv3",
        "vc1",
        "flv",
    ),
)
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What was taken from a video.

    Attributes:
        taken: frames that were taken, every ``step``-th from the first on.
        seen: frames of the video that were looked at; ``whole`` tells whether that is all of them.
    """

    path: str
    taken: int
    step: int
    seen: int
    whole: bool

    @property
    def counts(self) -> str:
        """``225 of 900 frames (every 4th)``."""
        which = {1: "each", 2: "every 2nd", 3: "every 3rd"}.get(self.step, f"every {self.step}th")
        return f"{self.taken:,} of {'' if self.whole else 'the first '}{self.seen:,} frames ({which})"

    def as_dict(self) -> dict[str, Any]:
        """In types that JSON knows."""
        return asdict(self)


@dataclass(frozen=True)
class Video:
    """A video file or animated image among images.

    Args:
        every: take the first frame and every so many after it, until ``max_frames`` are taken. By default the
            whole video is looked at, and every frame, every 2nd, 4th, 8th, ... taken, so that no more than
            ``max_frames`` result (and more than half as many, where it has them).
        max_frames: taken at most.
        on_read: called with what was taken, once it is read.

    Raises:
        DataError: ``every`` or ``max_frames`` below 1.
    """

    path: str | os.PathLike[str]
    every: int | None = None
    max_frames: int = MAX_FRAMES
    on_read: Callable[[Sampled], Any] | None = None

    def __post_init__(self) -> None:
        for name, value in (("every", self.every), ("max_frames", self.max_frames)):
            if value is not None and value < 1:
                raise DataError(f"{name} must be >= 1, got {value}")


def is_video(source: Any) -> bool:
    """Whether a source among images stands for several: a :class:`Video`, or a path of a video or animation."""
    if isinstance(source, Video):
        return True
    if not isinstance(source, (str, os.PathLike)):
        return False
    suffix = Path(source).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return True
    if suffix not in ANIMATED_SUFFIXES:
        return False
    try:
        with Image.open(source) as image:
            return bool(getattr(image, "is_animated", False))
    except (*DAMAGED, Image.DecompressionBombError):
        return False  # whoever reads it as an image says what is wrong


def read_video(
    video: Video | str | os.PathLike[str], size: int | None = None, resample: int = BICUBIC
) -> list[np.ndarray]:
    """Sampled frames as :func:`vitlr.data.images.read_image` gives images: RGB, upright, resized where asked.

    They are resized as they are decoded: memory holds ``max_frames`` of that size (and without ``size`` of
    their own), and what the decoder needs.

    Raises:
        DataError: missing, damaged, no video, without a frame; a codec that is not tried; a frame of more than
            ``MAX_PIXELS``; more than ``MAX_DECODED`` frames; no PyAV.
    """
    video = video if isinstance(video, Video) else Video(video)
    path = os.fspath(video.path)
    images: list[np.ndarray] = []
    step, seen, whole = video.every or 1, 0, True
    frames = _decoded(path)
    try:
        for index, image in enumerate(frames):
            if video.every and len(images) == video.max_frames:
                whole = False
                break
            if index == MAX_DECODED:
                raise DataError(f"{path} has more than {MAX_DECODED:,} frames; cut it into shorter videos")
            seen = index + 1
            if index % step:
                continue
            if len(images) == video.max_frames:
                images, step = images[::2], 2 * step
                if index % step:
                    continue
            images.append(read_image(_converted(path, index, image), size, resample))
    finally:
        frames.close()
    if not images:
        raise DataError(f"{path} holds no frame that can be decoded; give another video")
    if video.on_read is not None:
        video.on_read(Sampled(path=path, taken=len(images), step=step, seen=seen, whole=whole))
    return images


_Decoded = Generator[
    Callable[[], Image.Image], None, None
]  # frames in order, each converted only when called


def _converted(path: str, index: int, convert: Callable[[], Image.Image]) -> Image.Image:
    try:
        return convert()
    except Exception as error:  # whatever a decoder raises for bytes that are damaged
        raise DataError(
            f"{path} is damaged at frame {index + 1:,} ({type(error).__name__}); replace it"
        ) from None


def _decoded(path: str) -> _Decoded:
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({getattr(error, 'strerror', error)}); check the path"
        ) from None
    if not stat.S_ISREG(found.st_mode):  # a pipe or a camera has no end
        raise DataError(f"{path} is not a file; give a video file")
    if not found.st_size:
        raise DataError(f"{path} is empty (0 bytes); replace or remove it")
    return _animation(path) if Path(path).suffix.lower() in (*ANIMATED_SUFFIXES, ".png") else _film(path)


def _animation(path: str) -> _Decoded:
    try:
        with Image.open(path) as image:
            _check_pixels(path, image.width, image.height)
            for index in count():
                try:
                    image.seek(index)
                except EOFError:
                    return
                yield image.copy
    except DataError:
        raise
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise DataError(f"{path} {what_is_wrong(error)}; replace or remove it") from None


def _film(path: str) -> _Decoded:
    try:
        import av
    except ImportError:
        raise DataError(
            f"{path} is a video, and reading one needs PyAV: pip install 'vitlr[video]'"
        ) from None
    decoded = 0
    try:
        with open(path, "rb") as file, _opened(av, file) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise DataError(f"{path} holds no pictures; give a video")
            codec = stream.codec_context
            if codec.name not in _CODECS:
                raise DataError(
                    f"{path} is packed with {codec.name}, which is not read; convert it to mp4 (H.264)"
                )
            _check_pixels(path, codec.width, codec.height)
            codec.options = {"max_pixels": str(MAX_PIXELS)}  # also where the size changes on the way
            codec.thread_count = 2  # each thread holds frames
            for frame in container.decode(stream):
                _check_pixels(path, frame.width, frame.height)
                if frame.is_corrupt:
                    raise DataError(f"{path} is damaged at frame {decoded + 1}; replace or cut it")
                yield partial(_upright, frame)
                decoded += 1
    except DataError:
        raise
    except (av.FFmpegError, *DAMAGED) as error:
        if decoded:
            raise DataError(f"{path} is damaged after frame {decoded:,}; replace or cut it") from None
        detail = (getattr(error, "strerror", None) or str(error)).splitlines()[:1] or [type(error).__name__]
        raise DataError(
            f"{path} is not a video that can be read ({detail[0][:100]}); give another one"
        ) from None


def _opened(av: Any, file: BinaryIO) -> Any:
    options = {"format_whitelist": _FORMATS, "codec_whitelist": ",".join(_CODECS)}
    return av.open(file, container_options=options, metadata_errors="replace")


def _upright(frame: Any) -> Image.Image:
    image = frame.to_image()
    turn = _TURNS.get(round(frame.rotation) % 360)
    return image if turn is None else image.transpose(turn)


def _check_pixels(path: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path} has frames of {width}x{height}, more than {MAX_PIXELS:,} pixels; make it smaller"
        )
