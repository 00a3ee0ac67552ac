"""Frames of a video file or an animated image: sampled evenly while it is read once, in bounded memory.

Video files are decoded by PyAV (the extra ``video``), animated images by Pillow. PyAV was taken because its wheel is
half the size of imageio-ffmpeg's and it gives frames one by one.

A video may be hostile: it is read through an open file, so that it cannot name other files or addresses, only
containers and codecs of cameras and of the web are tried, and frames, their pixels and their number have bounds.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from vitlr.data.animation import MAX_PIXELS, Bounds, frames_of, is_animated
from vitlr.data.decoding import BICUBIC, DAMAGED
from vitlr.data.formats import MAX_FRAMES, VIDEO_SUFFIXES, kind_of, open_regular
from vitlr.data.images import read_image
from vitlr.data.names import shown
from vitlr.data.video_colours import hdr_of, to_rgb
from vitlr.errors import DataError, VitLRError

__all__ = [
    "MAX_FRAMES",
    "VIDEO_SUFFIXES",
    "Bounds",
    "Sampled",
    "Video",
    "is_video",
    "read_video",
]

_COLLECTED = 2**26  # pixels of frames, after which those that are no longer used are freed
MAX_DECODED = 2**17  # frames of a video that is looked at as a whole: 73 minutes at 30 a second

# FFmpeg reads hundreds of formats, of which few are used by cameras and many by no one but attackers. None of these
# can name another file or address.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,mpeg,mpegts,mpegvideo,asf,flv,h264,hevc,mjpeg,m4v,vc1,ivf,obu,"
    "dv,mxf,yuv4mpegpipe"
)
_CODECS = {
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
        "h261",
        "msmpeg4",
        "msmpeg4v2",
        "msmpeg4v3",
        "wmv1",
        "wmv2",
        "wmv3",
        "vc1",
    ),
    *("flv", "vp6", "vp6f", "dvvideo", "prores", "dnxhd", "rawvideo", "wrapped_avframe"),
}


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What was taken from a video.

    Attributes:
        taken: frames that were taken, every ``step``-th from the first on.
        seen: frames of the video that were looked at; ``whole`` is True if that is all of them.
        notes: sentences for the user, such as that high dynamic range was tone-mapped.
    """

    path: str
    taken: int
    step: int
    seen: int
    whole: bool
    notes: tuple[str, ...] = ()

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
            ``max_frames`` result (and more than half as many, if it has them).
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
    """True if a source among images stands for several: a :class:`Video`, or a path of a video or animation.

    A file is known by its content, and by its name if that says nothing.
    """
    if isinstance(source, Video):
        return True
    if not isinstance(source, (str, os.PathLike)):
        return False
    kind = kind_of(source)
    if kind.group not in ("image", "video"):  # such as text, of which nobody says here that it is no video
        kind = kind_of(source, name_alone=True)
    return kind.group == "video" or is_animated(source)


def read_video(
    video: Video | str | os.PathLike[str],
    size: int | None = None,
    resample: int = BICUBIC,
    *,
    fit: Callable[[np.ndarray], np.ndarray] | None = None,
    bounds: Bounds | None = None,
) -> list[np.ndarray]:
    """Sampled frames as :func:`vitlr.data.images.read_image` gives images: RGB, upright, resized if asked.

    They are resized as they are decoded: memory holds ``max_frames`` of that size (and without ``size`` of
    their own), and what the decoder needs.

    Args:
        fit: called with each frame that is taken, (H, W, 3); what it returns is stored.
        bounds: on the pixels that may be decoded.

    Raises:
        DataError: missing, damaged, no video, without a frame; a codec that is not tried; a frame of more than
            ``MAX_PIXELS``; more than ``MAX_DECODED`` frames; more pixels than ``bounds`` allow; no PyAV.
    """
    video = video if isinstance(video, Video) else Video(video)
    path = os.fspath(video.path)
    images: list[np.ndarray] = []
    notes: list[str] = []
    step, seen, whole = video.every or 1, 0, True
    needed = MAX_DECODED + 1 if video.every is None else video.every * (video.max_frames - 1) + 1
    frames = decoded_frames(path, needed, notes, bounds)
    try:
        for index, image in enumerate(frames):
            if video.every and len(images) == video.max_frames:
                whole = False
                break
            if index == MAX_DECODED:
                raise too_long(path)
            seen = index + 1
            if index % step:
                continue
            if len(images) == video.max_frames:
                images, step = images[::2], 2 * step
                if index % step:
                    continue
            taken_HWC = read_image(converted(path, index, image), size, resample)
            images.append(taken_HWC if fit is None else fit(taken_HWC))
    finally:
        frames.close()
    if not images:
        raise DataError(f"{shown(path)} holds no frame that can be decoded; give another video")
    if video.on_read is not None:
        taken = Sampled(path=path, taken=len(images), step=step, seen=seen, whole=whole, notes=tuple(notes))
        video.on_read(taken)
    return images


_Decoded = Generator[Callable[[], Any], None, None]  # frames in order, each converted only when called


def converted(path: str, index: int, convert: Callable[[], Any]) -> Any:
    """What ``convert`` gives for a frame; DataError if it is damaged."""
    try:
        return convert()
    except Exception as error:  # whatever a decoder raises for bytes that are damaged
        raise DataError(
            f"{shown(path)} is damaged at frame {index + 1:,} ({type(error).__name__}); replace it"
        ) from None


def too_long(path: str) -> DataError:
    """The error for a video of more than ``MAX_DECODED`` frames."""
    return DataError(f"{shown(path)} has more than {MAX_DECODED:,} frames; cut it into shorter videos")


def decoded_frames(path: str, needed: int, notes: list[str], bounds: Bounds | None = None) -> _Decoded:
    """The frames of a video or animation in order, each converted only when its function is called.

    Args:
        needed: frames that will be asked for, at most.
        notes: gets sentences for the user.
    """
    with _checked(path) as file:
        empty = not file.read(1)
    if empty:
        raise DataError(f"{shown(path)} is empty (0 bytes); replace or remove it")
    if kind_of(path).group == "image":
        return frames_of(path, needed, MAX_DECODED, bounds)
    return _film(path, needed, notes, bounds or Bounds())


@contextmanager
def _checked(path: str) -> Iterator[Any]:
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read ({error.strerror}); check the path") from None


# -- video files ------------------------------------------------------------------------------------


@contextmanager
def container_of(path: str, bounds: Bounds | None = None) -> Iterator[tuple[Any, Any]]:
    """An open container and its best stream of pictures, of a codec and a size that are read."""
    try:
        import av
    except ImportError:
        raise DataError(
            f"{shown(path)} is a video, and reading one needs PyAV: pip install 'vitlr[video]'"
        ) from None
    options = {"format_whitelist": _FORMATS, "codec_whitelist": ",".join(sorted(_CODECS))}
    # A row of JPEG images begins as one of them does, so that FFmpeg takes it for a picture.
    named = "mjpeg" if kind_of(path).format == "MJPEG" else None
    try:
        with (
            open_regular(path) as file,
            av.open(file, format=named, container_options=options, metadata_errors="replace") as container,
        ):
            stream = container.streams.best("video")
            if stream is None:
                raise DataError(f"{shown(path)} holds no pictures; give a video")
            codec = stream.codec_context
            if codec.name not in _CODECS:
                raise DataError(
                    f"{shown(path)} is packed with {codec.name}, which is not read; convert it to mp4 (H.264)"
                )
            (bounds or Bounds()).check_frame(path, codec.width, codec.height)  # type: ignore[attr-defined]
            codec.options = {"max_pixels": str(MAX_PIXELS)}  # also if the size changes on the way
            codec.thread_count = 2  # each thread holds frames
            yield container, stream
    except VitLRError:
        raise
    except (av.FFmpegError, *DAMAGED) as error:
        detail = (getattr(error, "strerror", None) or str(error)).splitlines()[:1] or [type(error).__name__]
        raise DataError(
            f"{shown(path)} is not a video that can be read ({detail[0][:100]}); give another one"
        ) from None


def _film(path: str, needed: int, notes: list[str], bounds: Bounds) -> _Decoded:
    decoded = 0
    with container_of(path, bounds) as (container, stream):
        codec = stream.codec_context
        # As far as the header says; 0 if it says nothing.
        bounds.check_film(path, min(stream.frames, needed) * codec.width * codec.height)
        try:
            work, kept = 0, 0
            for frame in container.decode(stream):
                bounds.check_frame(path, frame.width, frame.height)
                work += frame.width * frame.height
                bounds.check_film(path, work)
                if frame.is_corrupt:
                    raise DataError(f"{shown(path)} is damaged at frame {decoded + 1}; replace or cut it")
                if not decoded and hdr_of(frame):
                    notes.append(
                        f"{shown(path)} is of high dynamic range ({hdr_of(frame)}), which is tone-mapped"
                    )
                yield partial(to_rgb, frame)
                decoded += 1
                # A frame whose side data were looked at is in a circle that only the collector frees, and it does not
                # know how large a frame is.
                kept += frame.width * frame.height
                if kept > _COLLECTED:
                    gc.collect()
                    kept = 0
        except VitLRError:
            raise
        except Exception:
            if not decoded:
                raise
            raise DataError(f"{shown(path)} is damaged after frame {decoded:,}; replace or cut it") from None
