"""A stream from rows, each of them an image or clip with its label and, if given, experience, split and session.

How rows become experiences: as ``written`` in their column, each ``session``, ``classes`` (so many new classes in
each) or ``size`` (so many images in each, in the order of the rows).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitlr.data.experience import TEST, Experience, Item, Stream
from vitlr.data.formats import MAX_FRAMES, kind_of
from vitlr.data.names import counted
from vitlr.errors import DataError

__all__ = ["RULES", "Row", "Rules", "natural", "stream_of_rows"]

RULES = ("auto", "written", "session", "classes", "size")


@dataclass(frozen=True)
class Row:
    """One image or clip; ``where`` names its place for errors, such as ``stream.csv, line 7``."""

    path: str
    label: str
    experience: str = ""
    split: str = ""  # train, test or nothing
    session: str = ""
    where: str = ""


def natural(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Key under which day2 comes before day10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part], name


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How rows become experiences and a test set.

    Attributes:
        experiences: see this module; ``auto`` is as written, else each session, else new classes.
        classes_per_experience, images_per_experience: for the rules ``classes`` and ``size``.
        seed: draws the order of the classes and what is held out.
        held_out: share of each class that is tested on if no row is of the split test.
        every, max_frames: frames of a clip, all of which are learned or all tested on.

    Raises:
        DataError: a value out of range.
    """

    experiences: str = "auto"
    classes_per_experience: int = 2
    images_per_experience: int = 100
    seed: int = 0
    held_out: float = 0.2
    every: int | None = None
    max_frames: int = MAX_FRAMES

    def __post_init__(self) -> None:
        if self.experiences not in RULES:
            raise DataError(f"experiences must be one of {', '.join(RULES)}, got {self.experiences!r}")
        if not 0 < self.held_out < 1:
            raise DataError(f"held_out must be above 0 and below 1, got {self.held_out}")
        for name, least in (("classes_per_experience", 1), ("images_per_experience", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise DataError(f"{name} must be >= {least}, got {getattr(self, name)}")


def stream_of_rows(
    rows: Sequence[Row],
    name: str,
    root: Path,
    rules: Rules,
    *,
    notes: Iterable[str] = (),
) -> Stream:
    """Rows as a stream.

    Args:
        root: folder that relative paths start from.
        notes: sentences about the rows, for the user.

    Raises:
        DataError: no row to learn from or to test on, or a rule without its column.
    """
    learned, tested, said = _split(rows, name, rules)
    groups = _groups(learned, _chosen(rules.experiences, learned, name), rules)
    base, paths = _paths([*learned, *tested], root, rules)
    names = sorted({row.label for row in learned})
    label_of = {label: index for index, label in enumerate(names)}
    facts = (
        f"{counted(len(names), 'class', 'classes')}, {len(learned):,} images or clips to learn from in"
        f" {counted(len(groups), 'experience')},"
        f" {len(tested):,} to test on"
    )
    return Stream(
        name=name,
        root=base,
        experiences=tuple(
            _experience(index, title, group, paths, label_of)
            for index, (title, group) in enumerate(groups.items())
        ),
        test=_experience(TEST, "test", tested, paths, label_of),
        class_names=tuple(names),
        notes=(*notes, *said),
        facts=(facts,),
        test_sessions=_sessions(tested, paths),
    )


def _split(rows: Sequence[Row], name: str, rules: Rules) -> tuple[list[Row], list[Row], list[str]]:
    """Rows to learn from, rows to test on, notes."""
    learned = [row for row in rows if row.split != "test"]
    tested = [row for row in rows if row.split == "test"]
    if not learned:
        raise DataError(f"{name} has no image to learn from; give rows of the split train")
    if not tested:
        learned, tested = _held_out(learned, rules, name)
    known = {row.label for row in learned}
    unknown = sorted({row.label for row in tested} - known)
    tested = [row for row in tested if row.label in known]
    if not tested:
        raise DataError(
            f"{name} has no image to test on of a class that is learned; give rows of the split test"
        )
    shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    notes = [f"test images of classes that are not learned are left out: {shown}"] if unknown else []
    return learned, tested, notes


def _sessions(tested: Sequence[Row], paths: dict[str, list[str]]) -> tuple[int, ...] | None:
    """The number of each test image's session, if all have one: its own, or its place among the names."""
    names = sorted({row.session for row in tested}, key=natural)
    if "" in names:
        return None
    own = all(name.isdecimal() for name in names)
    number_of = {name: int(name) if own else place for place, name in enumerate(names, 1)}
    return tuple(number_of[row.session] for row in tested for _ in paths[row.path])


def _chosen(rule: str, rows: Sequence[Row], name: str) -> str:
    columns = {"written": "experience", "session": "session"}
    if rule == "auto":
        return next((each for each, column in columns.items() if getattr(rows[0], column)), "classes")
    column = columns.get(rule, "")
    lacking = next((row for row in rows if column and not getattr(row, column)), None)
    if lacking is not None:
        raise DataError(f"{lacking.where or name} has no {column}, which experiences={rule} needs; add it")
    return rule


def _groups(rows: Sequence[Row], rule: str, rules: Rules) -> dict[str, list[Row]]:
    """Title of each experience and its rows, in order."""
    size, classes = rules.images_per_experience, rules.classes_per_experience
    if rule == "size":
        return {
            f"experience {n}": list(rows[at : at + size]) for n, at in enumerate(range(0, len(rows), size))
        }
    if rule == "classes":
        names = sorted({row.label for row in rows})
        drawn = [names[place] for place in np.random.default_rng(rules.seed).permutation(len(names))]
        of = {name: place // classes for place, name in enumerate(drawn)}
        found: dict[str, list[Row]] = {f"experience {n}": [] for n in range(-(-len(names) // classes))}
        for row in rows:
            found[f"experience {of[row.label]}"].append(row)
        return found
    column = "experience" if rule == "written" else "session"
    titles = list(dict.fromkeys(getattr(row, column) for row in rows))
    if all(title.isdecimal() for title in titles):
        titles.sort(key=int)
    found = {title: [] for title in titles}
    for row in rows:
        found[getattr(row, column)].append(row)
    return {f"{column} {title}" if title.isdecimal() else title: group for title, group in found.items()}


def _held_out(rows: Sequence[Row], rules: Rules, name: str) -> tuple[list[Row], list[Row]]:
    """A share of each class, at least one of two, never all."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.label, []).append(place)
    chosen: set[int] = set()
    rng = np.random.default_rng(rules.seed)
    for label in sorted(places):
        number = min(max(1, round(rules.held_out * len(places[label]))), len(places[label]) - 1)
        chosen.update(places[label][i] for i in rng.permutation(len(places[label]))[:number])
    if not chosen:
        raise DataError(
            f"no class of {name} has two images, so none can be held out; add rows of the split test"
        )
    return [r for n, r in enumerate(rows) if n not in chosen], [rows[n] for n in sorted(chosen)]


def _paths(rows: Sequence[Row], root: Path, rules: Rules) -> tuple[Path | None, dict[str, list[str]]]:
    """The folder that all paths are in, None if there is none, and the image or the frames of each path."""
    if rows and isinstance(rows[0].path, Item):  # of a data set, which has no other rows
        return None, {row.path: [row.path] for row in rows}
    inside = all(not os.path.isabs(row.path) and ".." not in row.path.split("/") for row in rows)
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.path not in found:
            path = row.path if inside else os.path.abspath(root / row.path)
            is_clip = kind_of(root / row.path, name_alone=True).group == "video"
            found[row.path] = _frames(root, path, rules) if is_clip else [path]
    return root if inside else None, found


def _frames(root: Path, path: str, rules: Rules) -> list[str]:
    from vitlr.data.clips import frame_paths  # needs Pillow

    return frame_paths(root, path, rules.every, rules.max_frames)


def _experience(
    index: int, name: str, rows: Sequence[Row], paths: dict[str, list[str]], label_of: dict[str, int]
) -> Experience:
    return Experience(
        index=index,
        name=name,
        paths=tuple(path for row in rows for path in paths[row.path]),
        labels=np.array([label_of[row.label] for row in rows for _ in paths[row.path]], dtype=np.int64),
    )
