"""What a walk over files found and what it left out, by kind, as sentences and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from vitlr.data.formats import remedy
from vitlr.data.names import shown

__all__ = ["Found", "LeftOut"]

# Kinds; every other kind is the name of a format that is not read.
HIDDEN, LITTER, NO_IMAGE, VIDEO = "hidden", "left behind", "no image", "video"
NO_FILE, BROKEN, AGAIN, LOOP = (
    "not a file",
    "broken link",
    "link to what is read already",
    "link that leads back",
)
NO_CLASS, NO_PYAV = "in no class folder", "video without PyAV"
_WORDS = {  # one of it, several of it, what to do
    HIDDEN: ("hidden file or folder", "hidden files or folders", ""),
    LITTER: (
        "file or folder that systems, cameras or programs leave behind",
        "files or folders that systems, cameras or programs leave behind",
        "",
    ),
    NO_IMAGE: ("file that is no image", "files that are no images", ""),
    VIDEO: ("video", "videos", "only images are read here"),
    NO_FILE: ("pipe, socket or device", "pipes, sockets or devices", ""),
    BROKEN: ("link that leads nowhere", "links that lead nowhere", ""),
    AGAIN: ("link to what is read already", "links to what is read already", ""),
    LOOP: ("link that leads back in a circle", "links that lead back in a circle", ""),
    NO_PYAV: ("video", "videos", "install PyAV (pip install 'vitlr[video]')"),
    NO_CLASS: ("image in no class folder", "images in no class folder", "put them into one"),
}


@dataclass(frozen=True)
class LeftOut:
    """What a walk left out: pairs of a path and its kind, in the order of the walk."""

    entries: tuple[tuple[str, str], ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of files, folders or links of each kind."""
        return dict(Counter(kind for _, kind in self.entries))

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.entries + other.entries)

    def __bool__(self) -> bool:
        return bool(self.entries)

    def of(self, *kinds: str) -> LeftOut:
        """Those of some kinds."""
        return LeftOut(tuple(entry for entry in self.entries if entry[1] in kinds))

    @property
    def harmless(self) -> LeftOut:
        """What nobody misses: hidden files, what systems leave behind, files that are no images."""
        return self.of(HIDDEN, LITTER, NO_IMAGE, AGAIN)

    @property
    def missed(self) -> LeftOut:
        """What the user may have meant to be read."""
        dull = self.harmless.counts
        return LeftOut(tuple(entry for entry in self.entries if entry[1] not in dull))

    def sentences(self) -> tuple[str, ...]:
        """One for each kind: ``3 HEIC files are left out: convert them to JPEG, or install pillow-heif``."""
        first = {kind: path for path, kind in reversed(self.entries)}
        return tuple(_sentence(kind, number, shown(first[kind])) for kind, number in self.counts.items())

    def as_dict(self) -> dict[str, Any]:
        """Counts, and up to five paths of each kind, for JSON."""
        paths: dict[str, list[str]] = {}
        for path, kind in self.entries:
            if len(paths.setdefault(kind, [])) < 5:
                paths[kind].append(shown(path))
        return {kind: {"count": number, "such as": paths[kind]} for kind, number in self.counts.items()}


def _sentence(kind: str, number: int, example: str) -> str:
    """``3 HEIC files are left out (such as a/b.heic): convert them to JPEG, or install pillow-heif``."""
    one, many, help_ = _WORDS.get(kind, (f"{kind} file", f"{kind} files", ""))
    help_ = help_ if kind in _WORDS else remedy(kind)
    if number == 1:
        return f"1 {one} is left out ({example}){help_ and ': '}{help_}"
    return f"{number:,} {many} are left out (such as {example}){help_ and ': '}{help_}"


@dataclass(frozen=True)
class Found:
    """Files that were found, and what was left out.

    ``followed`` pairs each link that leads out of the folder with the place it leads to. ``videos`` are
    those of the files that are videos, ``empty`` folders without an image in or below them.
    """

    files: tuple[str, ...]
    left_out: LeftOut = LeftOut()
    videos: frozenset[str] = frozenset()
    followed: tuple[tuple[str, str], ...] = ()
    empty: tuple[str, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        """What the user should see."""
        return (*self.left_out.sentences(), *self._about_links())

    def _about_links(self) -> tuple[str, ...]:
        if not self.followed:
            return ()
        link, place = map(shown, self.followed[0])
        if len(self.followed) == 1:
            return (f"1 link leads out of the folder and is followed ({link} to {place})",)
        return (f"{len(self.followed):,} links lead out of the folder and are followed ({link} to {place})",)

    def as_dict(self) -> dict[str, Any]:
        """Number of files, and what was left out, for JSON."""
        return {
            "files": len(self.files),
            "left_out": self.left_out.as_dict(),
            "links_followed": [[shown(link), shown(place)] for link, place in self.followed],
            "empty_folders": [shown(folder) for folder in self.empty],
        }
