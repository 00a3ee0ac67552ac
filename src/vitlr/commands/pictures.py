"""Pictures that a command is given: found, counted and said before a network is loaded."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitlr.commands.console import notes
from vitlr.data.experience import Item
from vitlr.data.files import find_images
from vitlr.data.left_out import Found
from vitlr.data.names import counted, shown
from vitlr.errors import DataError

if TYPE_CHECKING:
    from vitlr.data.video import Sampled, Video

__all__ = [
    "add_bad_flag",
    "add_video_flags",
    "found_pictures",
    "from_stdin",
    "say",
    "skipped_sentence",
    "sources",
]


def add_video_flags(parser: argparse.ArgumentParser) -> None:
    """Which frames are taken of a video; ``sources`` reads them."""
    parser.add_argument("--every", type=int, help="take every so many frames of a video (default: evenly)")
    parser.add_argument("--max-frames", type=int, default=300, help="of a video (default 300)")


def add_bad_flag(parser: argparse.ArgumentParser) -> None:
    """What happens to an image that cannot be read."""
    parser.add_argument(
        "--on-bad-image",
        choices=("error", "skip"),
        default="error",
        help="stop at an image that cannot be read (default), or leave such images out and count them",
    )


def say(sentences: Iterable[str], options: argparse.Namespace) -> None:
    """Sentences on stderr, unless ``--quiet`` is given."""
    if not options.quiet:
        notes(sentences)


def found_pictures(
    paths: Iterable[str | os.PathLike[str]], options: argparse.Namespace, *, videos: bool = False
) -> Found:
    """What the paths stand for; what is left out is said.

    Raises:
        DataError: as ``find_images``, and if nothing is left.
    """
    found = find_images(paths, videos=videos)
    if not found.files:
        reasons = "; ".join(found.sentences()) or "no path was given"
        raise DataError(f"there is no image to read: {reasons}; give image files or folders of them")
    say(found.sentences(), options)
    return found


def from_stdin(paths: Sequence[Path]) -> list[Path]:
    """The paths, with the lines of standard input in place of ``-``."""
    if [str(path) for path in paths].count("-") > 1:
        raise DataError("standard input can be read once; give - once")
    given: list[Path] = []
    for path in paths:
        if str(path) == "-":
            lines = sys.stdin.buffer.read().split(b"\n")
            given += [Path(os.fsdecode(line.rstrip(b"\r"))) for line in lines if line.strip()]
        else:
            given.append(path)
    return given


def sources(
    files: Iterable[str], options: argparse.Namespace, on_read: Callable[[Sampled], None]
) -> list[str | Video]:
    """The files, videos as such; ``on_read`` is called for every video once its frames are taken."""
    from vitlr.data.video import Video, is_video

    Video("", options.every, options.max_frames)  # its limits hold whether or not there is a video
    return [
        Video(path, options.every, options.max_frames, on_read)
        if not isinstance(path, Item) and is_video(path)
        else path
        for path in files
    ]


def skipped_sentence(skipped: Sequence[str]) -> str:
    """``2 images could not be read and were left out (such as a/b.png)``."""
    was = "was" if len(skipped) == 1 else "were"
    such = shown(skipped[0]) if len(skipped) == 1 else f"such as {shown(skipped[0])}"
    return f"{counted(len(skipped), 'image')} could not be read and {was} left out ({such})"
