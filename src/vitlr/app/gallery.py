"""What the page shows of each class: a thumbnail, and the pictures it was taught if they are kept.

In the session they are files of a private directory, named by ourselves. Saved beside the classifier, what is
written there is what is shown: pictures of a class that was forgotten are removed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from vitlr.app.frames import THUMBNAIL, jpeg, thumbnail
from vitlr.errors import DataError
from vitlr.storage.files import make_directory, write_atomically

__all__ = ["INDEX", "PICTURES", "THUMBNAILS", "Gallery", "Shown", "change_saved"]

THUMBNAILS, INDEX, PICTURES = "thumbnails.safetensors", "pictures.json", "pictures"
_LARGEST = 64 * 2**20  # bytes of the first two
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Shown:
    """Thumbnails (96, 96, 3) by class, and the numbers of its pictures, the oldest first. Never changed in place."""

    thumbnails: dict[str, np.ndarray] = field(default_factory=dict)
    pictures: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def without(self, name: str) -> Shown:
        """After a class was forgotten."""
        return Shown(_without(self.thumbnails, name), _without(self.pictures, name))

    def only(self, names: set[str]) -> Shown:
        """Of these classes."""
        shown = self
        for name in {*self.thumbnails, *self.pictures} - names:
            shown = shown.without(name)
        return shown

    def renamed(self, name: str, new: str) -> Shown:
        """After a class got another name, or was merged into the class that has it."""
        thumbnails, pictures = dict(self.thumbnails), dict(self.pictures)
        picture, numbers = thumbnails.pop(name, None), pictures.pop(name, ())
        if picture is not None:
            thumbnails.setdefault(new, picture)
        if numbers:
            pictures[new] = pictures.get(new, ()) + numbers
        return Shown(thumbnails, pictures)

    def class_of(self, number: str) -> str:
        """The class of a picture; DataError if there is no such picture."""
        found = next((name for name, numbers in self.pictures.items() if number in numbers), None)
        if found is None:
            raise DataError("there is no such picture any more")
        return found


def _without(content: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != name}


class Gallery:
    """The pictures of a session, as files in a folder of its own.

    Args:
        folder: empty; removed by whoever made it.
        most: bytes of all pictures.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self.is_full = False  # if pictures of the last lesson were not kept for lack of room
        folder.mkdir(mode=0o700)

    def taught(self, shown: Shown, name: str, frames: Sequence[np.ndarray], *, keep: bool) -> Shown:
        """After a class was taught these frames; they are stored if ``keep``, as far as there is room."""
        thumbnails, pictures = dict(shown.thumbnails), dict(shown.pictures)
        thumbnails.setdefault(name, thumbnail(frames))
        taken, self.is_full = self._bytes() if keep else 0, False
        for frame in frames if keep else ():
            content = jpeg(frame, 92)
            taken += len(content)
            if taken > self._most:
                self.is_full = True
                break
            number = secrets.token_hex(8)
            (self._folder / number).write_bytes(content)
            pictures[name] = (*pictures.get(name, ()), number)
        return Shown(thumbnails, pictures)

    def file(self, number: str) -> Path:
        """The file of a picture that is shown."""
        assert _ID.fullmatch(number)
        return self._folder / number

    def drop_all_but(self, *kept: Shown) -> None:
        """Remove the files of pictures that none of these shows."""
        wanted = {number for shown in kept for numbers in shown.pictures.values() for number in numbers}
        for path in self._folder.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path in self._folder.iterdir())

    # -- beside the classifier --------------------------------------------------------------------------

    def save(self, shown: Shown, directory: Path) -> None:
        """Write what is shown into the directory, and remove pictures that are no longer; RunError."""
        _write(shown, directory, lambda number: self.file(number).read_bytes())

    def load(self, directory: Path) -> Shown:
        """What was saved there, as far as it can be read: a missing picture must not prevent the start."""
        pictures: dict[str, tuple[str, ...]] = {}
        for name, numbers in _index(directory / INDEX).items():
            found = tuple(number for number in numbers if self._fetched(directory, number))
            if found:
                pictures[name] = found
        return Shown(_thumbnails(directory / THUMBNAILS), pictures)

    def _fetched(self, directory: Path, number: str) -> bool:
        source, target = directory / PICTURES / f"{number}.jpg", self._folder / number
        if target.exists():
            return True
        if source.is_symlink() or not source.is_file():
            return False
        try:
            os.link(source, target)
        except OSError:  # on another file system
            with suppress(OSError):
                shutil.copyfile(source, target)
        return target.exists()


def change_saved(directory: Path, change: Callable[[Shown], Shown]) -> None:
    """Change what is saved beside a classifier that the caller holds, after its classes were changed; RunError."""
    place, names = directory / PICTURES, (THUMBNAILS, INDEX)
    if not any((directory / name).is_file() for name in names):
        return
    pictures = {
        name: tuple(number for number in numbers if (place / f"{number}.jpg").is_file())
        for name, numbers in _index(directory / INDEX).items()
    }
    _write(change(Shown(_thumbnails(directory / THUMBNAILS), pictures)), directory, lambda number: b"")


def _write(shown: Shown, directory: Path, content: Callable[[str], bytes]) -> None:
    """Write what is shown; ``content`` is the JPEG of a picture that is not there yet."""
    names = list(shown.thumbnails)
    arrays = {str(at): np.ascontiguousarray(shown.thumbnails[name]) for at, name in enumerate(names)}
    write_atomically(
        directory / THUMBNAILS, [save_arrays(arrays, {"names": json.dumps(names)}) if arrays else b""]
    )
    place = directory / PICTURES
    if not shown.pictures and not place.is_dir():
        return
    make_directory(place)
    numbers = {number for each in shown.pictures.values() for number in each}
    for number in sorted(numbers):
        if not (place / f"{number}.jpg").exists():
            write_atomically(place / f"{number}.jpg", [content(number)])
    index = json.dumps(shown.pictures, ensure_ascii=False).encode()
    write_atomically(directory / INDEX, [index])
    for path in place.glob("*.jpg"):
        if _ID.fullmatch(path.stem) and path.stem not in numbers:
            path.unlink(missing_ok=True)


def _small(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.stat().st_size <= _LARGEST else b""
    except OSError:
        return b""


def _index(path: Path) -> dict[str, list[str]]:
    try:
        content = json.loads(_small(path) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return {
        name: [number for number in numbers if isinstance(number, str) and _ID.fullmatch(number)]
        for name, numbers in (content.items() if isinstance(content, dict) else ())
        if isinstance(numbers, list)
    }


def _thumbnails(path: Path) -> dict[str, np.ndarray]:
    content = _small(path)
    try:
        length = int.from_bytes(content[:8], "little")
        names = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["names"])
        arrays = load_arrays(content)
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError):
        return {}
    found = {}
    for at, name in enumerate(names if isinstance(names, list) else []):
        array = arrays.get(str(at))
        if array is None or array.shape != (THUMBNAIL, THUMBNAIL, 3) or array.dtype != np.uint8:
            continue
        if isinstance(name, str):
            found[name] = array
    return found
