"""What visitors of the live page may ask for at most."""

from __future__ import annotations

from dataclasses import dataclass

from vitlr.errors import ConfigError, VitLRError

__all__ = ["BusyError", "Limits"]


class BusyError(VitLRError):
    """Too many requests are waiting; try again in a moment."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on what visitors may ask for; every number is at least 1.

    Pixels are compared with what a file's header announces, before anything is decoded.

    Attributes:
        classes: classes that may be known.
        frames: frames of one object taught at once.
        frame_bytes: size of one picture as it is sent. frame_pixels: of a frame that is taught, 4K fits.
        pixels: of a picture that is asked about or uploaded, photographs of 16 million pixels fit.
        film_pixels: of all frames of a video. animation_pixels: of all frames of an animated image, which is slower.
        upload_bytes: size of one uploaded file. import_bytes: of an archive of labelled pictures.
        import_pixels: of all pictures of an archive.
        stored_bytes: of all uploads on the disk at the same time.
        held_bytes: of all frames in memory that are shown or wait to be learned.
        kept_bytes: of all pictures that are kept, if that is switched on.
        waiting: jobs that wait for the one thread that learns.
        holds: visitors who show something at the same time.
        answers, takes, uploads: requests of each kind that are worked on or wait for it at the same time.
    """

    classes: int = 200
    frames: int = 300
    frame_bytes: int = 4 * 2**20
    frame_pixels: int = 2**23
    pixels: int = 2**24
    film_pixels: int = 2**32
    animation_pixels: int = 2**28
    import_pixels: int = 2**34
    upload_bytes: int = 64 * 10**6
    import_bytes: int = 256 * 10**6
    stored_bytes: int = 6 * 10**8
    held_bytes: int = 200 * 10**6
    kept_bytes: int = 500 * 10**6
    waiting: int = 16
    holds: int = 16
    answers: int = 64
    takes: int = 64
    uploads: int = 4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ConfigError(f"the limit of {name} must be at least 1, got {value}")
