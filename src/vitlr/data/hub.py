"""Hugging Face data sets as streams: directories of ``save_to_disk``, the hub's parquet files, objects of ``datasets``.

    saved/train/data-00000-of-00002.arrow            Dataset and DatasetDict.save_to_disk
    data/train-00000-of-00004.parquet                 the hub's layout, or default/train/0000.parquet
    hub_stream(load_dataset("cifar100"))              in a program

The columns of images and labels are found by their features, or named; the features' class names are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitlr.data.experience import Item, Stream
from vitlr.data.files import walk
from vitlr.data.hub_tables import (
    Column,
    ObjectTable,
    StoredPicture,
    Table,
    arrow_tables,
    is_saved,
    parquet_table,
    read_json,
)
from vitlr.data.layout import role
from vitlr.data.names import checked_name, counted, expanded, shown
from vitlr.data.rows import Row, Rules, stream_of_rows
from vitlr.errors import DataError

__all__ = ["HubColumns", "HubPairs", "hub_rows", "hub_stream", "is_hub_directory", "is_hub_object"]

_IMAGES = ("image", "img")
_LABELS = ("label", "labels", "target", "class", "category")
_SPLIT = re.compile(r"([A-Za-z_]+)(-\d+-of-\d+|[-_.]?\d*)")  # of a parquet file, without its suffix


@dataclass(frozen=True, kw_only=True)
class HubColumns:
    """Names of columns; those left open are found."""

    image: str | None = None
    label: str | None = None
    experience: str | None = None


def hub_stream(source: Any, rules: Rules | None = None, *, columns: HubColumns | None = None) -> Stream:
    """A data set in Hugging Face's form as a stream.

    It is learned from the split train and tested on test, else on validation, else on a share that is held out;
    others are not used, and that is said. Columns ``experience``, ``session`` and ``split`` are read if there are.

    Args:
        source: a directory, or a ``Dataset`` or ``DatasetDict``.
        rules: how rows become experiences.

    Raises:
        DataError: it cannot be read; which column or split is meant cannot be told; no row to learn from or to test on.
    """
    columns, rules = columns or HubColumns(), rules or Rules()
    if columns.experience is not None and rules.experiences == "auto":
        rules = replace(rules, experiences="written")
    name = "data set"
    if not is_hub_object(source):
        root = expanded(source)
        name = f"data set {root.name or root.resolve().name}"
    rows, facts, notes = hub_rows(source, columns)
    stream = stream_of_rows(rows, name, Path(), rules, notes=notes)
    return replace(stream, facts=(*stream.facts, *facts))


def is_hub_object(source: Any) -> bool:
    """True for a ``Dataset`` or a ``DatasetDict``; datasets is not imported."""
    if type(source).__module__.partition(".")[0] != "datasets":
        return False
    return hasattr(source, "features") or (
        isinstance(source, Mapping) and all(map(is_hub_object, source.values()))
    )


def is_hub_directory(directory: Path) -> bool:
    """True for what ``save_to_disk`` wrote, and for parquet files without images beside them."""
    if is_saved(directory) or (directory / "dataset_dict.json").is_file():
        return True
    return next(directory.rglob("*.parquet"), None) is not None and not walk(directory).files


def hub_rows(source: Any, columns: HubColumns) -> tuple[list[Row], list[str], list[str]]:
    """Rows with their split, facts and notes; rows of splits that are not used are left out."""
    splits = _of_object(source) if is_hub_object(source) else _of_directory(expanded(source))
    used, notes = _used(splits, columns)
    rows: list[Row] = []
    facts: list[str] = []
    for name, as_what in used:
        for table in splits[name]:
            chosen = _Chosen.of(table, columns, name)
            facts.append(f"images are those of column {chosen.image}, labels those of column {chosen.label}")
            rows += _rows(chosen, name, as_what)
    for lacking, which in (
        ("without a label", [row for row in rows if not row.label]),
        ("of the split val", [row for row in rows if row.label and row.split == "val"]),
    ):
        if which:
            are = "is" if len(which) == 1 else "are"
            notes.append(f"{counted(len(which), 'row')} {lacking} {are} not used, such as {which[0].where}")
    return [row for row in rows if row.label and row.split != "val"], list(dict.fromkeys(facts)), notes


# -- splits -----------------------------------------------------------------------------------------


def _of_object(source: Any) -> dict[str, list[Table]]:
    if isinstance(source, Mapping):
        return {str(name): [_object_table(each)] for name, each in source.items()}
    return {"": [_object_table(source)]}


def _object_table(dataset: Any) -> Table:
    if not hasattr(dataset, "__len__") or getattr(dataset, "features", None) is None:
        raise DataError(
            f"a {type(dataset).__name__} has no rows by number; load the data set without streaming=True"
        )
    return ObjectTable(dataset)


def _of_directory(root: Path) -> dict[str, list[Table]]:
    if not root.is_dir():
        raise DataError(f"{shown(root)} is no folder; give what save_to_disk wrote, or one of parquet files")
    if (root / "dataset_dict.json").is_file():
        names = read_json(root / "dataset_dict.json").get("splits")
        if not isinstance(names, list) or not all(
            isinstance(name, str) and "/" not in name for name in names
        ):
            raise DataError(f"{shown(root / 'dataset_dict.json')} names no splits; save the data set again")
        return {name: arrow_tables(root / name) for name in names}
    if is_saved(root):
        return {"": arrow_tables(root)}
    files = sorted(path for path in root.rglob("*.parquet") if not path.name.startswith("."))
    if not files:
        raise DataError(
            f"{shown(root)} holds no data set of Hugging Face (dataset_dict.json, state.json or .parquet files); give"
            " what save_to_disk wrote, or the hub's parquet files"
        )
    found: dict[str, list[Path]] = {}
    places = set()
    for path in files:
        name = _SPLIT.fullmatch(path.stem)
        inside = name is None or not role(name[1])
        split = path.parent.name if inside and path.parent != root else name[1] if name else ""
        found.setdefault(split if role(split) else "", []).append(path)
        places.add(path.parent.parent if inside and role(split) else path.parent)
    if len(places) > 1:
        folders = ", ".join(sorted(shown(place.relative_to(root)) for place in places)[:5])
        raise DataError(f"{shown(root)} holds several data sets ({folders}); give the folder of one of them")
    return {split: [parquet_table(path) for path in paths] for split, paths in found.items()}


def _used(splits: dict[str, list[Table]], columns: HubColumns) -> tuple[list[tuple[str, str]], list[str]]:
    """Splits that are used, each as train, test or, if its rows say it or a share is held out, nothing; and notes."""
    if len(splits) == 1:
        (name,) = splits
        return [(name, "")], []
    trains = [name for name in splits if role(name) == "train"]
    if len(trains) != 1:
        raise DataError(
            f"which of the splits {', '.join(map(shown, splits))} is to learn from cannot be told; give one of them"
            " alone, or call one of them train"
        )
    tests = [name for name in splits if role(name) in ("test", "val") and _labelled(splits[name], columns)]
    tests = sorted(tests, key=lambda name: role(name) != "test")[:1]
    unused = [shown(name) for name in splits if name not in (*trains, *tests)]
    notes = [f"not used: split {', '.join(unused)}"] if unused else []
    return [(trains[0], "train" if tests else ""), *((name, "test") for name in tests)], notes


def _labelled(tables: list[Table], columns: HubColumns) -> bool:
    """False for a split whose labels are withheld: no such column, or -1 or nothing throughout."""
    try:
        chosen = [_Chosen.of(table, columns, "") for table in tables]
    except DataError:
        return False
    return any(any(each.texts(each.label)) for each in chosen)


# -- columns and rows -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chosen:
    """A table with its columns of images and labels, and those that are read besides if there are."""

    table: Table
    image: str
    label: str
    others: dict[str, str]  # experience, session, split -> column

    @classmethod
    def of(cls, table: Table, given: HubColumns, split: str) -> _Chosen:
        where = f"split {shown(split)}" if split else "the data set"
        for name in (given.image, given.label, given.experience):
            if name is not None and name not in table.columns:
                raise DataError(f"{where} has no column {name!r}; it has {', '.join(table.columns)}")
        image = given.image or _found(table.columns, ("image",), _IMAGES, "image", where)
        label = given.label or _found(table.columns, ("class",), _LABELS, "label", where)
        if table.columns[image].kind != "image":
            raise DataError(f"column {image!r} of {where} holds no images; name another as image_column")
        plain = {name for name, each in table.columns.items() if each.kind in ("class", "text", "number")}
        if label not in plain:
            raise DataError(f"column {label!r} of {where} holds no labels; name another as label_column")
        others: dict[str, str] = {name: name for name in ("experience", "session", "split") if name in plain}
        if given.experience is not None:
            others["experience"] = given.experience
        return cls(table, image, label, {name: at for name, at in others.items() if at != label})

    def texts(self, column: str) -> list[str]:
        """Values as text; nothing for what is missing."""
        names = self.table.columns[column].names
        return [_text(value, names, column) for value in self.table.values(column)]


def _found(
    columns: dict[str, Column], kinds: tuple[str, ...], usual: tuple[str, ...], what: str, where: str
) -> str:
    """The only column of a kind, or the only one of a usual name; DataError if it cannot be told."""
    found = [name for name, each in columns.items() if each.kind in kinds]
    if not found and what == "label":
        found = [n for n, each in columns.items() if n in usual and each.kind in ("text", "number")]
    if len(found) > 1:
        found = [name for name in found if name in usual] or found
    if len(found) == 1:
        return found[0]
    which = (
        f"columns {', '.join(found)} may be it" if found else f"it has {', '.join(columns) or 'no columns'}"
    )
    raise DataError(
        f"which column of {where} is the {what} cannot be told: {which}; name it as {what}_column"
    )


def _text(value: Any, names: tuple[str, ...], column: str) -> str:
    if value is None or (names and value == -1):
        return ""
    if not names:
        return str(value)
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise DataError(
            f"column {column!r} holds {value!r:.40} and has {len(names)} class names; mend the data set"
        )
    return names[value]


def _rows(chosen: _Chosen, split: str, as_what: str) -> Iterator[Row]:
    table, title = chosen.table, split or "row"
    where = title if table.file is None else f"{title} {shown(table.file.name)}"
    labels = chosen.texts(chosen.label)
    others = {name: chosen.texts(column) for name, column in chosen.others.items()}
    for row, label in enumerate(labels):
        # Of one width, so that sorted names are in the order of the rows.
        item = Item(f"{where} {row:08d}", StoredPicture(table, chosen.image, row))
        named = {name: values[row] for name, values in others.items()}
        said = named.pop("split", "")
        if said and not role(said):
            raise DataError(f"{item}: split must be train, test or val, got {said!r:.60}")
        name = checked_name(label, f"{item}: {chosen.label}") if label else ""
        yield Row(item, name, split=as_what or role(said), where=item, **named)


# -- in a program -----------------------------------------------------------------------------------


class HubPairs:
    """A ``Dataset`` as pairs of an image and its label, for :func:`vitlr.data.sequences.stream_from_datasets`."""

    def __init__(self, dataset: Any, columns: HubColumns | None = None) -> None:
        self._chosen = _Chosen.of(_object_table(dataset), columns or HubColumns(), "")
        self.targets = self._chosen.texts(self._chosen.label)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Any, str]:
        return StoredPicture(self._chosen.table, self._chosen.image, row)(), self.targets[row]
