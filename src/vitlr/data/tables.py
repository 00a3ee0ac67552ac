"""A list of images as a stream: .csv, .jsonl or .parquet with the columns path and label, one row an image or clip.

Further columns are optional: experience, split (train or test), session, category. Whatever is wrong with a row is
reported with its line.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitlr.data.experience import Stream
from vitlr.data.files import walk
from vitlr.data.formats import open_regular
from vitlr.data.layout import role
from vitlr.data.left_out import NO_CLASS, LeftOut
from vitlr.data.names import checked_name, counted, expanded, shown
from vitlr.data.rows import Row, Rules, natural, stream_of_rows
from vitlr.errors import DataError

__all__ = ["COLUMNS", "experience_folders", "list_stream"]

COLUMNS = ("path", "label", "experience", "split", "session", "category")
MAX_ROWS = 10**7


def list_stream(
    file: str | Path, root: str | Path | None = None, rules: Rules | None = None, *, labels: str = "object"
) -> Stream:
    """The images that a list names, as a stream.

    Args:
        file: .csv (commas, semicolons or tabs, with a header), .jsonl or .parquet (needs pyarrow).
        root: folder that relative paths start from; by default that of the list.
        rules: how rows become experiences.
        labels: ``object`` for the column label, ``category`` for the column category.

    Raises:
        DataError: the list cannot be read, has no rows, lacks a column, or a row is wrong; images are missing.
    """
    file = expanded(file)
    base = file.parent if root is None else expanded(root)
    column = "category" if labels == "category" else "label"
    rows, missing, unused = [], [], 0
    for line, values in _records(file):
        row = _row(values, column, f"{shown(file)}, line {line}")
        if "\\" in row.path and not os.path.isfile(base / row.path):  # as Windows writes paths
            row = replace(row, path=row.path.replace("\\", "/"))
        if not os.path.isfile(base / row.path):  # False for a name that is too long, too
            missing.append(row)
        unused += row.split == "val"
        rows.append(row)
        if len(rows) > MAX_ROWS:
            raise DataError(f"{shown(file)} has more than {MAX_ROWS:,} rows; split it")
    if not rows:
        raise DataError(
            f"{shown(file)} has no rows; give one for each image, with the columns path and label"
        )
    if missing:
        more = f" ({counted(len(missing), 'row')} have none)" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0].where}: {shown(base / missing[0].path)} is not a file{more}; paths start from"
            f" {shown(base)}"
        )
    notes = [f"{counted(unused, 'row')} of the split val not used"] if unused else []
    used = [row for row in rows if row.split != "val"]
    return stream_of_rows(used, f"list {file.name}", base, rules or Rules(), notes=notes)


def _row(values: dict[str, Any], column: str, where: str) -> Row:
    """One checked row; DataError with its place."""
    texts = {}
    for name in COLUMNS:
        value = values.get(name)
        if isinstance(value, float):  # as spreadsheets and tables with gaps write whole numbers
            value = None if value != value else int(value) if value.is_integer() else value
        if not (value is None or isinstance(value, (str, int))) or isinstance(value, bool):
            raise DataError(f"{where}: {name} must be text or a whole number, got {value!r}")
        texts[name] = "" if value is None else str(value).strip()
    if not texts["path"] or "\0" in texts["path"]:
        raise DataError(f"{where}: path is empty; give the file of an image")
    split = role(texts["split"])
    if texts["split"] and not split:
        raise DataError(f"{where}: split must be train, test or val, got {texts['split']!r}")
    return Row(
        path=texts["path"],
        label=checked_name(texts[column], f"{where}: {column}"),
        experience=texts["experience"],
        split=split,
        session=texts["session"],
        where=where,
    )


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and values by column; DataError if the file cannot be read as what its suffix says."""
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"{shown(file)} is no list that is read here; give a .csv, .jsonl or .parquet file")
    try:
        yield from reader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        detail = getattr(error, "strerror", None) or error
        raise DataError(f"{shown(file)} cannot be read ({detail}); save it as UTF-8") from None


def _csv(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_regular(file) as binary:
        text = binary.read().decode("utf-8-sig")
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    _check_columns(file, [name or "" for name in reader.fieldnames or []])
    for values in reader:
        if None in values:
            raise DataError(
                f"{shown(file)}, line {reader.line_num}: more values than columns; quote the commas"
            )
        yield reader.line_num, {str(name).strip().lower(): value for name, value in values.items()}


def _jsonl(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_regular(file) as binary:
        for number, line in enumerate(binary, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{shown(file)}, line {number}: not JSON ({error}); write one object a line"
                ) from None
            if not isinstance(values, dict):
                raise DataError(
                    f"{shown(file)}, line {number}: not an object; write {{...}} with path and label"
                )
            _check_columns(file, list(values), f", line {number}")
            yield number, {name.strip().lower(): value for name, value in values.items()}


def _parquet(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(
            f"reading {shown(file)} needs pyarrow (pip install 'vitlr[hub]'), or save it as .csv"
        ) from None
    try:
        with open_regular(file) as binary:
            table = parquet.ParquetFile(binary)
            _check_columns(file, table.schema_arrow.names)
            wanted = [name for name in table.schema_arrow.names if name.strip().lower() in COLUMNS]
            number = 0
            for batch in table.iter_batches(columns=wanted):
                for values in batch.to_pylist():
                    number += 1
                    yield number, {name.strip().lower(): value for name, value in values.items()}
    except ArrowException as error:
        raise DataError(f"{shown(file)} is no parquet file or is damaged ({error}); write it again") from None


def _check_columns(file: Path, names: list[str], where: str = "") -> None:
    lower = [name.strip().lower() for name in names]
    lacking = [
        name
        for name in ("path", "label")
        if name not in lower and not (name == "label" and "category" in lower)
    ]
    if lacking:
        raise DataError(
            f"{shown(file)}{where} has no column {' and no column '.join(lacking)}; it has {', '.join(names) or 'none'}"
        )


# -- folders ----------------------------------------------------------------------------------------


def experience_folders(root: str | Path, rules: Rules | None = None) -> Stream:
    """Folders of experiences, each with class folders: ``day1/cat/*.jpg  day2/cat/*.jpg  test/cat/*.jpg``.

    Experiences are learned in the order of their names, day2 before day10. A folder named as a test split is
    tested on; without one a share of each class is held out.

    Args:
        rules: what is held out, and frames of clips.

    Raises:
        DataError: no such folder, no images in such folders, or what ``stream_of_rows`` refuses.
    """
    root = expanded(root)
    found = walk(root, videos=True)
    rows, loose = [], []
    for path in found.files:
        parts = path.split("/")
        if len(parts) < 3:
            loose.append(path)
            continue
        split = "test" if role(parts[0]) in ("test", "val") else ""
        label = checked_name(parts[1], f"class folder {shown('/'.join(parts[:2]))}")
        rows.append(Row(path, label, parts[0], split, where=shown(path)))
    if not rows:
        raise DataError(f"{shown(root)} holds no images as experience/class/image; give such a folder")
    rows.sort(key=lambda row: natural(row.experience))
    left_out = found.left_out + LeftOut(tuple((path, NO_CLASS) for path in loose))
    notes = [*left_out.missed.sentences(), *replace(found, left_out=LeftOut()).sentences()]
    name = f"experiences {root.name or root.resolve().name}"
    rules = replace(rules or Rules(), experiences="written")
    stream = stream_of_rows(rows, name, root, rules, notes=notes)
    return replace(stream, facts=(*stream.facts, *left_out.harmless.sentences()), left_out=left_out)
