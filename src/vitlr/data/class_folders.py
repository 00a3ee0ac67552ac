"""Folders of class folders, read: images to learn from and to test on by class, and what to tell about them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from vitlr.data.files import walk
from vitlr.data.layout import Classes, Split, checked_level, classes_of, find_split
from vitlr.data.left_out import NO_CLASS, NO_PYAV, VIDEO, Found, LeftOut
from vitlr.data.names import counted, expanded, shown
from vitlr.errors import DataError

__all__ = ["ClassFolders", "read_class_folders"]

# Formats of photographs: a class folder of nothing else is no mistake of the user's to be passed over.
_PHOTOS = ("HEIC", "camera raw", "AVIF", "JPEG2000", "WEBP", "JPEG XL", "DICOM", "OpenEXR", "TGA", NO_PYAV)


@dataclass(frozen=True, kw_only=True)
class ClassFolders:
    """Images by class, as POSIX paths relative to ``base``, sorted; ``test`` is None without a test folder.

    ``facts`` say what was found, ``notes`` what the user should know.
    """

    base: Path
    train: Classes
    test: Classes | None
    videos: frozenset[str]
    facts: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: LeftOut


def read_class_folders(
    root: str | Path,
    test_root: str | Path | None = None,
    class_level: str | int = "auto",
    *,
    videos: bool = False,
) -> ClassFolders:
    """Classes of a folder, and those of its test folder, a split of it or one of its own.

    Args:
        class_level: see :mod:`vitlr.data.layout`.
        videos: take videos too, if PyAV is installed.

    Raises:
        DataError: a folder is missing, unreadable or without class folders; a class has photographs of which
            none can be read; the level of the classes cannot be told.
    """
    checked_level(class_level)
    root = expanded(root)
    found = _walked(root, videos)
    if test_root is None:
        return _with_split(root, found, class_level)
    test_root = expanded(test_root)
    if os.path.realpath(test_root) == os.path.realpath(root):
        raise DataError(f"{shown(test_root)} cannot be both learned from and tested on; leave test_root out")
    tested = _walked(test_root, videos)
    base = _common(root, test_root)
    inside = os.path.relpath(os.path.realpath(test_root), os.path.realpath(root)).replace(os.sep, "/") + "/"
    found = replace(found, files=tuple(path for path in found.files if not path.startswith(inside)))
    train = _with_split(root, found, class_level)
    other = _with_split(test_root, tested, class_level)
    test = other.test or other.train
    facts = (*train.facts[:1], _counted(test, test_root, " to test on"), *train.facts[1:], *other.facts[1:])
    return ClassFolders(
        base=base,
        train=_moved(train.train, root, base),
        test=_moved(test, test_root, base),
        videos=frozenset(_prefix(root, base) + path for path in found.videos)
        | frozenset(_prefix(test_root, base) + path for path in tested.videos),
        facts=facts,
        notes=(*train.notes, *other.notes),
        left_out=train.left_out + other.left_out,
    )


# -- one folder -------------------------------------------------------------------------------------


def _walked(root: Path, videos: bool) -> Found:
    if not root.is_dir():
        what = "is not a folder" if os.path.lexists(root) else "does not exist"
        raise DataError(f"{shown(root)} {what}; give a folder that holds one folder of images for each class")
    if not videos or find_spec("av") is not None:
        return walk(root, videos=videos)
    found = walk(root)
    entries = ((path, NO_PYAV if kind == VIDEO else kind) for path, kind in found.left_out.entries)
    return replace(found, left_out=LeftOut(tuple(entries)))


def _with_split(root: Path, found: Found, class_level: str | int) -> ClassFolders:
    """The classes of a folder that was walked, with its splits if it has them."""
    split = find_split(found.files)
    notes: list[str] = []
    if split is None:
        train, test = classes_of(found.files, class_level), None
        loose = train.loose
    else:
        train = _split_classes(found.files, split, split.train, class_level)
        test = _split_classes(found.files, split, split.test, class_level)
        loose = (*train.loose, *test.loose)
        notes += [_unused(root, split, folder) for folder in split.unused]
    where = root if split is None else _place(root, found.files, split, split.train)
    if not train.images:
        empty = not found.files and not found.left_out and not found.empty
        what = "is empty" if empty else "holds no class folders"
        reasons = "; ".join(found.left_out.missed.sentences())
        put = "put the images of each class into a folder of its own there"
        raise DataError(f"{shown(where)} {what}{f' ({reasons})' if reasons else ''}; {put}")
    left_out = found.left_out + LeftOut(tuple((path, NO_CLASS) for path in loose))
    notes += _about_empty(root, found)
    notes += [*left_out.missed.sentences(), *replace(found, left_out=LeftOut()).sentences()]
    facts = [_counted(train, where, "")]
    if test is not None and split is not None:
        facts.append(_counted(test, _place(root, found.files, split, split.test), " to test on"))
    if train.merged:
        facts.append(f"folders of one name are one class ({', '.join(map(shown, train.merged[:3]))})")
    return ClassFolders(
        base=root,
        train=train,
        test=test,
        videos=found.videos,
        facts=(*facts, *left_out.harmless.sentences()),
        notes=tuple(notes),
        left_out=left_out,
    )


def _split_classes(files: tuple[str, ...], split: Split, folder: str, class_level: str | int) -> Classes:
    inside = [path for path in files if _part(path, split.depth) == folder]
    in_every_class = len({path.split("/")[split.depth - 1] for path in inside}) > 1 if split.depth else False
    if in_every_class:
        return classes_of(inside, class_level, below=split.depth - 1, without=split.depth)
    return classes_of(inside, class_level, below=split.depth + 1)


def _part(path: str, depth: int) -> str:
    parts = path.split("/")[:-1]
    return parts[depth] if len(parts) > depth else ""


def _place(root: Path, files: tuple[str, ...], split: Split, folder: str) -> Path:
    """The folder of a split; the root if it is in every class."""
    before = {tuple(path.split("/")[: split.depth]) for path in files if _part(path, split.depth) == folder}
    return root.joinpath(*before.pop(), folder) if len(before) == 1 else root


def _unused(root: Path, split: Split, folder: str) -> str:
    return f"{shown(root / folder if split.depth == 0 else folder)} is not used"


def _about_empty(root: Path, found: Found) -> list[str]:
    """A note about folders without images; DataError if one has photographs of which none can be read."""
    for folder in found.empty:
        inside = LeftOut(
            tuple(entry for entry in found.left_out.entries if entry[0].startswith(f"{folder}/"))
        )
        unread = inside.of(*_PHOTOS)
        if unread:
            reasons = "; ".join(unread.sentences())
            raise DataError(f"class folder {shown(root / folder)} holds no image that can be read: {reasons}")
    if len(found.empty) == 1:
        return [f"folder {shown(root / found.empty[0])} holds no image and is no class"]
    return (
        [f"{len(found.empty):,} folders hold no image and are no classes (such as {shown(found.empty[0])})"]
        if found.empty
        else []
    )


def _counted(classes: Classes, place: Path, purpose: str) -> str:
    """``3 classes of 60 images found in photos``, with the level of the classes unless that is plain."""
    number, images = len(classes.images), classes.num_images
    deep = {0: " (class folders are those that hold images)", 1: ""}
    level = deep.get(classes.level, f" (class folders are those of level {classes.level})")
    some = f"{counted(number, 'class', 'classes')} of {counted(images, 'image')}"
    return f"{some}{purpose} found in {shown(place)}{level}"


# -- two folders ------------------------------------------------------------------------------------


def _common(root: Path, test_root: Path) -> Path:
    """The folder that paths of the stream are relative to."""
    try:
        return Path(os.path.commonpath([os.path.realpath(root), os.path.realpath(test_root)]))
    except ValueError:
        raise DataError(
            f"{shown(root)} and {shown(test_root)} are on different drives; put them on one"
        ) from None


def _prefix(root: Path, base: Path) -> str:
    below = Path(os.path.realpath(root)).relative_to(base).as_posix()
    return "" if below == "." else f"{below}/"


def _moved(classes: Classes, root: Path, base: Path) -> Classes:
    """The same with paths relative to another folder."""
    prefix = _prefix(root, base)
    images = {name: [prefix + path for path in paths] for name, paths in classes.images.items()}
    return replace(classes, images=images)
