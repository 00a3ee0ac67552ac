"""Which folders are classes, and which are splits to learn from and test on; pure functions of paths.

    cat/1.jpg  dog/indoors/2.jpg           the folders of the root are classes, as one of them holds images
    Fruit/Apple/1.jpg  Veg/Carrot/2.jpg    none of them does: the folders one level down are (level 2 here)
    Train/cat/1.jpg  Test/cat/2.jpg        folders with the names of splits that hold the same classes
    cat/train/1.jpg  cat/test/2.jpg        the same within every class

Going down stops at the first level at which a folder holds images itself. If folders of one name are in several
others (day1/cat, day2/cat) nobody can tell which level is meant, and ``class_level`` has to say it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vitlr.data.names import checked_name, shown
from vitlr.errors import DataError

__all__ = ["Classes", "Split", "checked_level", "classes_of", "find_split", "role"]

ByClass = dict[str, list[str]]  # class -> its images, sorted

_SET = r"([ _.-]?(set|data|images?|imgs?|split))?"
_ROLES = {  # in the order in which one of them is tested on
    "train": re.compile(rf"(train|training|trn){_SET}"),
    "test": re.compile(rf"(test|testing|tst){_SET}"),
    "val": re.compile(rf"(val|valid|validation|validate|dev|development|eval|evaluation){_SET}"),
}


def role(folder: str) -> str:
    """train, test or val for the name of such a split, else nothing."""
    folded = folder.casefold()
    return next((role for role, names in _ROLES.items() if names.fullmatch(folded)), "")


class Split(NamedTuple):
    """Where folders of splits are: at which depth, the one that is learned from, the one for tests, others."""

    depth: int
    train: str
    test: str
    unused: tuple[str, ...]


def find_split(files: Iterable[str]) -> Split | None:
    """The splits among paths of images, below any number of single folders, or in every class.

    Raises:
        DataError: splits with the same class folders of which none, or several, could be the one to learn from.
    """
    folders = [parts for path in files if (parts := path.split("/")[:-1])]
    depth = 0
    while folders:
        tops = {parts[depth] for parts in folders if len(parts) > depth}
        found = _split_at(folders, depth, tops)
        if found is not None:
            return found
        if len(tops) > 1 or any(len(parts) == depth + 1 for parts in folders):
            break
        depth += 1
    names = {parts[depth + 1] for parts in folders if len(parts) > depth + 1}
    in_every_class = (
        bool(names) and all(len(parts) > depth + 1 for parts in folders) and all(map(role, names))
    )
    if in_every_class and len(names) > 1 and any(role(name) == "train" for name in names):
        return _chosen(sorted(names), depth + 1, ())
    return None


def _split_at(folders: Sequence[Sequence[str]], depth: int, tops: set[str]) -> Split | None:
    """The splits among the folders at a depth, most of whose images are in class folders."""
    inside: dict[str, set[str]] = {}  # folder of a split -> folders in it
    direct = Counter(parts[depth] for parts in folders if len(parts) == depth + 1)
    deeper = Counter(parts[depth] for parts in folders if len(parts) > depth + 1)
    for parts in folders:
        if len(parts) > depth + 1 and role(parts[depth]):
            inside.setdefault(parts[depth], set()).add(checked_name(parts[depth + 1], "a class folder"))
    others = sorted(top for top in tops if top not in inside)
    roles = {role(top) for top in tops}
    nothing_else = "train" in roles and len(roles) > 1 and "" not in roles
    if nothing_else and others:
        raise DataError(
            f"{shown(others[0])} holds no class folders; put the images of each class into a folder of its own there"
        )
    names = sorted(name for name in inside if nothing_else or deeper[name] > direct[name])
    shared = any(inside[a] & inside[b] for a in names for b in names if a < b)
    return _chosen(names, depth, sorted(tops.difference(names))) if shared or nothing_else else None


def _chosen(names: Sequence[str], depth: int, others: Iterable[str]) -> Split:
    trains = [name for name in names if role(name) == "train"]
    if len(trains) != 1:
        what = f"{' and '.join(trains)} to learn from" if trains else "none to learn from"
        raise DataError(
            f"folders {', '.join(map(shown, names))} hold the same classes, and there is {what}: give the folder to"
            " learn from as root and the one to test on as test_root"
        )
    tests = sorted((name for name in names if name not in trains), key=lambda name: role(name) != "test")
    return Split(depth, trains[0], tests[0], (*tests[1:], *others))


# -- classes ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Classes:
    """Images of each class; those in no class folder; the level of the class folders, 0 for leaf."""

    images: ByClass
    loose: tuple[str, ...]
    level: int
    merged: tuple[str, ...] = ()  # classes whose folder is in several places

    @property
    def num_images(self) -> int:
        return sum(map(len, self.images.values()))


def checked_level(level: str | int) -> str | int:
    """auto, top, leaf or a number >= 1; DataError for anything else."""
    if isinstance(level, str) and level.isdecimal():
        level = int(level)
    if level in ("auto", "top", "leaf") or (isinstance(level, int) and level >= 1 and level is not True):
        return level
    raise DataError(f"class_level must be auto, top, leaf or a number >= 1, got {level!r}")


def classes_of(
    files: Sequence[str], class_level: str | int = "auto", *, below: int = 0, without: int | None = None
) -> Classes:
    """Sort images into classes by the folder at ``class_level``; folders of one name are one class.

    Args:
        files: sorted POSIX paths.
        class_level: ``auto`` as this module says, ``top``, ``leaf`` (the folder that holds the image) or a number.
        below: folders at the beginning of each path that count as nothing.
        without: place of one more folder that counts as nothing, that of a split in every class.

    Raises:
        DataError: ``auto`` cannot tell, or the name of a class folder cannot be a class.
    """
    folders = [_folders(path, below, without) for path in files]
    level = _level([parts for parts in folders if parts], checked_level(class_level))
    images: ByClass = {}
    places: dict[str, set[tuple[str, ...]]] = {}
    loose = []
    checked: dict[tuple[str, ...], str] = {}
    for path, parts in zip(files, folders, strict=True):
        if len(parts) < max(level, 1):
            loose.append(path)
            continue
        place = parts[:level] if level else parts
        if place not in checked:
            checked[place] = checked_name(place[-1], f"class folder {shown('/'.join(place))}")
        name = checked[place]
        images.setdefault(name, []).append(path)
        places.setdefault(name, set()).add(place)
    merged = tuple(sorted(name for name, found in places.items() if len(found) > 1))
    return Classes({name: images[name] for name in sorted(images)}, tuple(loose), level, merged)


def _folders(path: str, below: int, without: int | None) -> tuple[str, ...]:
    parts = path.split("/")[:-1]
    if without is not None:
        del parts[without : without + 1]
    return tuple(parts[below:])


def _level(folders: Sequence[tuple[str, ...]], wanted: str | int) -> int:
    if isinstance(wanted, int):
        return wanted
    if wanted != "auto":
        return {"top": 1, "leaf": 0}[wanted]
    level = 1
    while folders and all(len(parts) > level for parts in folders):
        deeper = {parts[: level + 1] for parts in folders}
        names = [place[-1] for place in deeper]
        if len(set(names)) < len(names):
            here = sorted({parts[level - 1] for parts in folders})
            twice = sorted(name for name, times in Counter(names).items() if times > 1)
            raise DataError(
                f"classes may be {_some(here)}, or {_some(twice)} in each of them: give class_level={level} for the"
                f" first or class_level={level + 1} for the second"
            )
        level += 1
    return level


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")
