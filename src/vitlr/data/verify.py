"""Is a CORe50 tree complete and undamaged? Every published frame is looked for and decoded."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vitlr.data.core50 import (
    NUM_OBJECTS,
    NUM_SESSIONS,
    find_root,
    parse_frame,
    published_frames,
    published_videos,
    video_frames,
)
from vitlr.data.formats import open_regular
from vitlr.data.images import read_image
from vitlr.errors import DataError

__all__ = ["FRAME_SIZE", "VerifyReport", "verify"]

FRAME_SIZE = (128, 128)  # width, height
_CHUNK = 256  # frames checked between two calls of ``progress``
_SHOWN = 5  # of each kind in the text; all of them in the JSON


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What :func:`verify` found. Paths are relative to ``root``, in published order or sorted.

    ``videos`` maps ``s1/o1`` to (frames there, frames published), for all 550 videos. ``damaged`` and
    ``wrong_size`` pair a path with what is wrong with it.
    """

    root: Path
    videos: dict[str, tuple[int, int]]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    damaged: tuple[tuple[str, str], ...]
    wrong_size: tuple[tuple[str, str], ...]

    @property
    def ok(self) -> bool:
        """Every published frame is there, whole and 128 x 128; files beside them do no harm."""
        return not (self.missing or self.damaged or self.wrong_size)

    @property
    def found(self) -> int:
        """Published frames that are there, damaged or not."""
        return sum(there for there, _ in self.videos.values())

    @property
    def published(self) -> int:
        return sum(frames for _, frames in self.videos.values())

    @property
    def sessions(self) -> dict[int, tuple[int, int]]:
        """Frames there and published, by session."""
        totals = {}
        for session in range(1, NUM_SESSIONS + 1):
            counts = [self.videos[f"s{session}/o{o}"] for o in range(1, NUM_OBJECTS + 1)]
            totals[session] = (sum(there for there, _ in counts), sum(frames for _, frames in counts))
        return totals

    def lines(self) -> Iterator[str]:
        """The report as text: counts, and the first few of each kind of fault."""
        yield f"{self.root}: {self.found:,} of {self.published:,} frames"
        for session, (there, frames) in self.sessions.items():
            counts = [self.videos[f"s{session}/o{o}"] for o in range(1, NUM_OBJECTS + 1)]
            whole = sum(some == all_ for some, all_ in counts)
            begun = sum(0 < some < all_ for some, all_ in counts)
            yield (
                f"session {session}: {there:,} of {frames:,} frames;"
                f" {whole} videos complete, {begun} in part, {NUM_OBJECTS - whole - begun} absent"
            )
        faults = (
            ("missing", self.missing),
            ("damaged", [f"{path} ({what})" for path, what in self.damaged]),
            ("not 128x128", [f"{path} ({what})" for path, what in self.wrong_size]),
            ("unexpected", self.unexpected),
        )
        for kind, paths in faults:
            if paths:
                yield f"{kind}: {len(paths):,}"
                yield from (f"  {path}" for path in paths[:_SHOWN])
            if len(paths) > _SHOWN:
                yield f"  ... and {len(paths) - _SHOWN:,} more"
        yield "complete and undamaged" if self.ok else "not complete and undamaged"

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON knows."""
        return {
            "root": str(self.root),
            "ok": self.ok,
            "published": self.published,
            "found": self.found,
            "sessions": {str(session): list(counts) for session, counts in self.sessions.items()},
            "videos": {video: list(counts) for video, counts in self.videos.items()},
            "missing": list(self.missing),
            "damaged": [{"path": path, "what": what} for path, what in self.damaged],
            "wrong_size": [{"path": path, "size": size} for path, size in self.wrong_size],
            "unexpected": list(self.unexpected),
        }


def verify(
    root: str | Path, *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Compare the tree ``root`` (or its child ``core50_128x128``) with the published list and decode it all.

    Args:
        workers: threads that read and decode.
        progress: called with frames checked so far and frames to check.

    Raises:
        DataError: no such folder, or no CORe50 tree in it.
    """
    root = find_root(root)
    files = set(_files(root))
    published = list(published_frames())
    there = [path for path in published if path in files]
    damaged: list[tuple[str, str]] = []
    wrong_size: list[tuple[str, str]] = []
    chunks = [there[start : start + _CHUNK] for start in range(0, len(there), _CHUNK)]
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="vitlr-verify")
    try:
        done = 0
        for results in pool.map(lambda chunk: [_check(root, path) for path in chunk], chunks):
            for path, kind, what in results:
                if kind:
                    (damaged if kind == "damaged" else wrong_size).append((path, what))
            done += len(results)
            if progress is not None:
                progress(done, len(there))
    finally:
        pool.shutdown(cancel_futures=True)
    counts = {f"s{s}/o{o}": [0, len(video_frames(s, o))] for s, o in published_videos()}
    for path in there:
        session, object_, _ = parse_frame(path)
        counts[f"s{session}/o{object_}"][0] += 1
    return VerifyReport(
        root=root,
        videos={video: (some, all_) for video, (some, all_) in counts.items()},
        missing=tuple(path for path in published if path not in files),
        unexpected=tuple(sorted(files.difference(published))),
        damaged=tuple(damaged),
        wrong_size=tuple(wrong_size),
    )


def _files(root: Path) -> Iterator[str]:
    """Everything below ``root`` that is no folder, as relative POSIX paths."""
    seen = set()
    for folder, inside, names in os.walk(root, followlinks=True, onerror=_refuse):
        seen.add(os.path.realpath(folder))
        inside[:] = [name for name in inside if os.path.realpath(os.path.join(folder, name)) not in seen]
        below = Path(folder).relative_to(root).as_posix()
        yield from names if below == "." else (f"{below}/{name}" for name in names)


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}); check permissions") from None


def _check(root: Path, path: str) -> tuple[str, str, str]:
    """(path, "", "") for a good frame, else (path, "damaged" or "size", what is wrong)."""
    try:
        with open_regular(root / path) as file:
            content = file.read()
        image = read_image(content)
        with Image.open(io.BytesIO(content)) as png:
            png.verify()  # checksums, which decoding alone does not look at
    except DataError as error:
        return path, "damaged", str(error).removeprefix("the image ").partition(";")[0]
    except Exception as error:  # verify() raises whatever its format's reader stumbles over
        return path, "damaged", f"is damaged ({error})"
    height, width = image.shape[:2]
    return (path, "", "") if (width, height) == FRAME_SIZE else (path, "size", f"{width}x{height}")
