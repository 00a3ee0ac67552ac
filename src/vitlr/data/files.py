"""The one walk over people's files: images and videos below a folder, and what was left out, by kind.

Systems, cameras, network drives and editors leave files behind that nobody means to learn from: they are left
out by their names. Links are followed, each place once. Files of known names are not opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator

from vitlr.data.formats import kind_of
from vitlr.data.left_out import AGAIN, BROKEN, HIDDEN, LITTER, LOOP, NO_FILE, NO_IMAGE, VIDEO, Found, LeftOut
from vitlr.data.names import expanded, shown
from vitlr.errors import DataError

__all__ = ["find_images", "walk"]

_LITTER = {
    *(
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "picasa.ini",
        "icon\r",
        "zbthumbnail.info",
    ),
    *("__macosx", "__pycache__", "$recycle.bin", "system volume information"),
    *("lost+found", "lost.dir", "found.000", "network trash folder", "temporary items"),
    *(
        "@eadir",
        "@recycle",
        "#recycle",
        "#snapshot",
        "@recently-snapshot",
        "@tmp",
        "@syno",
        "thmbnl",
        "canonmsc",
    ),
}
_LITTER_ENDINGS = (
    *("~", ".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".swp", ".swo", ".lock", ".lck"),
    *(".bak", ".orig", ".thm", ".lrv", ".aae", ".xmp", "@synoeastream", "@synoresource"),
)
_LITTER_BEGINNINGS = ("._", "~$", "~syncthing~", ".nfs", ".fuse_hidden", ".smbdelete")


def is_litter(name: str) -> bool:
    """True for the names of what systems, cameras, network drives and editors leave behind."""
    folded = name.casefold()
    return (
        folded in _LITTER
        or folded.endswith(_LITTER_ENDINGS)
        or folded.startswith(_LITTER_BEGINNINGS)
        or (len(name) > 2 and name[0] == name[-1] == "#")
    )


# -- the walk ---------------------------------------------------------------------------------------


def walk(root: str | os.PathLike[str], *, videos: bool = False) -> Found:
    """Images below a folder, at any depth, as POSIX paths relative to it, sorted.

    Args:
        videos: find videos too.

    Raises:
        DataError: no such folder, or one that may not be read.
    """
    return _Walk(os.fspath(expanded(root)), videos).run()


class _Walk:
    """One walk: real folders first, then what links lead to, so that a link never hides a real place."""

    def __init__(self, root: str, videos: bool) -> None:
        self.root, self.videos = root, videos
        self.real_root = os.path.realpath(root)
        self.found: list[tuple[str, str, list[str]]] = []  # relative folder, its real place, names of files
        self.found_videos: list[str] = []
        self.links: list[str] = []
        self.left_out: list[tuple[str, str]] = []
        self.followed: list[tuple[str, str]] = []
        self.seen = {self.real_root}  # real folders
        self.seen_files: set[str] | None = None  # real files; only made if a link asks

    def run(self) -> Found:
        self._folders("", self.real_root)
        while self.links:
            self.links.sort(reverse=True)
            self._follow(self.links.pop())
        files = sorted(f"{below}{name}" for below, _, names in self.found for name in names)
        return Found(
            files=tuple(files),
            left_out=LeftOut(tuple(sorted(self.left_out))),
            videos=frozenset(self.found_videos),
            followed=tuple(self.followed),
            empty=tuple(self._empty()),
        )

    def _empty(self) -> list[str]:
        """Folders without an image in or below them, none of them below another."""
        filled = {""}
        for below, _, names in self.found:
            folder = below.rstrip("/")
            while names and folder not in filled:
                filled.add(folder)
                folder = os.path.dirname(folder)
        folders = (below.rstrip("/") for below, _, _ in self.found)
        return sorted(f for f in folders if f not in filled and os.path.dirname(f) in filled)

    def _folders(self, below: str, real: str) -> None:
        """A folder and all real folders in it; ``below`` is empty or ends with a slash."""
        waiting = [(below, real)]
        while waiting:
            below, real = waiting.pop()
            names: list[str] = []
            for entry in self._entries(os.path.join(self.root, below)):
                path = below + entry.name
                if self._unwanted(entry.name, path):
                    continue
                if entry.is_symlink():
                    self.links.append(path)
                elif entry.is_dir():
                    place = os.path.join(real, entry.name)
                    self.seen.add(place)
                    waiting.append((f"{path}/", place))
                elif not entry.is_file():
                    self.left_out.append((path, NO_FILE))
                elif self._wanted(path):
                    names.append(entry.name)
            self.found.append((below, real, names))
            if self.seen_files is not None:
                self.seen_files.update(os.path.join(real, name) for name in names)

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                yield from entries
        except FileNotFoundError:
            raise DataError(f"{shown(folder)} does not exist; check the path") from None
        except NotADirectoryError:
            raise DataError(f"{shown(folder)} is not a folder; give a folder of images") from None
        except OSError as error:
            raise DataError(f"{shown(folder)} cannot be read ({error.strerror}); check permissions") from None

    def _unwanted(self, name: str, path: str) -> bool:
        if is_litter(name):
            self.left_out.append((path, LITTER))
        elif name.startswith("."):
            self.left_out.append((path, HIDDEN))
        else:
            return False
        return True

    def _wanted(self, path: str) -> bool:
        """By its name if that is an image's, else by its content; what is not wanted is noted."""
        full = os.path.join(self.root, path)
        kind = kind_of(full, name_alone=True)
        if kind.group == "image":
            return True
        kind = kind_of(full)
        if kind.group == "image":
            return True
        if self.videos and kind.group == "video":
            self.found_videos.append(path)
            return True
        dull = kind.format in ("", "text", "sound", "web page", "AppleDouble", "Git LFS pointer")
        self.left_out.append((path, VIDEO if kind.group == "video" else NO_IMAGE if dull else kind.format))
        return False

    def _follow(self, path: str) -> None:
        full = os.path.join(self.root, path)
        place, parent = os.path.realpath(full), os.path.dirname(full)
        try:
            mode = os.stat(full).st_mode
        except OSError as error:
            self.left_out.append((path, LOOP if error.errno == errno.ELOOP else BROKEN))
            return
        is_folder = stat.S_ISDIR(mode)
        if not is_folder and not stat.S_ISREG(mode):
            self.left_out.append((path, NO_FILE))
        elif is_folder and any(_contains(place, real) for real in (self.real_root, os.path.realpath(parent))):
            self.left_out.append((path, LOOP))
        elif place in (self.seen if is_folder else self._files()):
            self.left_out.append((path, AGAIN))
        else:
            if not _contains(self.real_root, place):
                self.followed.append((path, place))
            if is_folder:
                self.seen.add(place)
                self._folders(f"{path}/", place)
            elif self._wanted(path):
                self._files().add(place)
                below, name = os.path.split(path)
                self.found.append((f"{below}/" if below else "", place, [name]))

    def _files(self) -> set[str]:
        if self.seen_files is None:
            self.seen_files = set()
            for _, real, names in self.found:
                self.seen_files.update(os.path.join(real, name) for name in names)
        return self.seen_files


def _contains(folder: str, place: str) -> bool:
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


# -- what people give -------------------------------------------------------------------------------


def find_images(paths: Iterable[str | os.PathLike[str]], *, videos: bool = False) -> Found:
    """Files among the paths, in their order; a folder stands for what :func:`walk` finds in it.

    A file is taken as it is given, whatever its name, except for what systems leave behind, as a shell's ``*``
    gives it too.

    Raises:
        DataError: a path does not exist or is neither a file nor a folder; a folder holds nothing that is read.
    """
    files: list[str] = []
    left_out: list[tuple[str, str]] = []
    followed: list[tuple[str, str]] = []
    found_videos: list[str] = []
    for given in paths:
        path = os.fspath(expanded(given))
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            what = "leads nowhere" if os.path.lexists(path.replace("\0", "")) else "does not exist"
            raise DataError(f"{shown(path)} {what}; check the path") from None
        name = os.path.basename(os.path.abspath(path))
        is_folder = stat.S_ISDIR(mode)
        if name.casefold() in _LITTER or (is_litter(name) and not is_folder):
            left_out.append((path, LITTER))
        elif is_folder:
            inside = walk(path, videos=videos)
            if not inside.files:
                raise DataError(_nothing(path, inside.left_out, videos))
            files += [os.path.join(path, file) for file in inside.files]
            left_out += [(os.path.join(path, file), kind) for file, kind in inside.left_out.entries]
            found_videos += [os.path.join(path, file) for file in inside.videos]
            followed += [(os.path.join(path, link), place) for link, place in inside.followed]
        elif stat.S_ISREG(mode):
            files.append(path)
            if videos and kind_of(path).group == "video":
                found_videos.append(path)
        else:
            raise DataError(f"{shown(path)} is not a file or folder; give image files or folders of them")
    return Found(tuple(files), LeftOut(tuple(left_out)), frozenset(found_videos), tuple(followed))


def _nothing(path: str, left_out: LeftOut, videos: bool) -> str:
    what = f"{shown(path)} holds no image{' or video' if videos else ''}"
    reasons = "; ".join(left_out.missed.sentences())
    return f"{what} that can be read: {reasons}" if reasons else f"{what}; give files or folders of them"
