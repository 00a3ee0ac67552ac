"""Tables of Hugging Face data sets: files of ``save_to_disk``, the hub's parquet files, objects of ``datasets``.

Files are read by pyarrow, and nothing else in the directory is: no code of a data set is ever run. Pictures stay as
they were stored until one is asked for.
"""

from __future__ import annotations

import io
import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vitlr.data.formats import open_regular
from vitlr.data.names import shown
from vitlr.errors import DataError

__all__ = [
    "Column",
    "ObjectTable",
    "StoredPicture",
    "Table",
    "arrow_tables",
    "is_saved",
    "parquet_table",
    "read_json",
]

MAX_JSON = 2**24  # bytes
MAX_GROUP = 2**31  # bytes of a row group of a parquet file, which is read as a whole
GROUPS = 4  # row groups held


class Column(NamedTuple):
    """Its kind (``image``, ``class``, ``text``, ``number`` or ``other``), names of classes, mode of images."""

    kind: str
    names: tuple[str, ...] = ()
    mode: str | None = None


class Table(Protocol):
    """Rows of one file or object. ``file`` is None for what is in no file."""

    columns: dict[str, Column]
    file: Path | None

    def __len__(self) -> int: ...

    def values(self, column: str) -> list[Any]:
        """All values of a column that is no image."""

    def picture(self, column: str, row: int) -> Any:
        """A picture as it is stored: a mapping of bytes and path, bytes, or text."""


# -- files ------------------------------------------------------------------------------------------


def is_saved(directory: Path) -> bool:
    """True for what ``Dataset.save_to_disk`` wrote."""
    return (directory / "state.json").is_file() and (directory / "dataset_info.json").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; DataError."""
    try:
        with open_regular(path) as file:
            content = json.loads(file.read(MAX_JSON))
        if isinstance(content, dict):
            return content
    except (OSError, ValueError, RecursionError):
        pass
    raise DataError(f"{shown(path)} is damaged: it is no JSON object; save the data set again")


def arrow_tables(directory: Path) -> list[Table]:
    """The shards that ``save_to_disk`` wrote, in order, mapped into memory.

    Raises:
        DataError: one is missing or damaged, or pyarrow is.
    """
    from vitlr.data.images import resolve  # needs Pillow

    try:
        names = [str(each["filename"]) for each in read_json(directory / "state.json")["_data_files"]]
    except (LookupError, TypeError):
        raise DataError(
            f"{shown(directory / 'state.json')} names no files; save the data set again"
        ) from None
    return [_Arrow(resolve(directory, name)) for name in names]


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """pyarrow, whose errors about a file become DataError."""
    try:
        import pyarrow
    except ImportError:
        raise DataError(
            f"reading {shown(path)} needs pyarrow; install it (pip install 'vitlr[hub]')"
        ) from None
    try:
        open_regular(path).close()
        yield pyarrow
    except (pyarrow.ArrowException, OSError) as error:
        detail = " ".join(str(error).split())[:100]
        raise DataError(f"{shown(path)} cannot be read ({detail}); save the data set again") from None


class _Arrow:
    def __init__(self, file: Path) -> None:
        self.file: Path | None = file
        with _reading(file) as pyarrow, pyarrow.memory_map(str(file)) as content:
            self._table = pyarrow.ipc.open_stream(content).read_all()
            self._table.validate(full=True)  # offsets are followed without a look otherwise
        self.columns = _columns(self._table.schema)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def values(self, column: str) -> list[Any]:
        return list(self._table.column(column).to_pylist())

    def picture(self, column: str, row: int) -> Any:
        return self._table.column(column)[row].as_py()


class _Parquet:
    def __init__(self, file: Path) -> None:
        from pyarrow import parquet

        self.file: Path | None = file
        self._lock = threading.Lock()  # a reader serves one thread at a time
        self._groups: OrderedDict[tuple[str, int], Any] = OrderedDict()
        with _reading(file):
            self._reader = parquet.ParquetFile(file)
            meta = self._reader.metadata
            groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
            self.columns = _columns(self._reader.schema_arrow)
        for group in groups:
            if group.total_byte_size > MAX_GROUP:
                raise DataError(
                    f"{shown(file)} has groups of {group.num_rows:,} rows and {group.total_byte_size:,} bytes; write it"
                    " with row_group_size=100"
                )
        self._starts = [0]
        for group in groups:
            self._starts.append(self._starts[-1] + group.num_rows)

    def __len__(self) -> int:
        return self._starts[-1]

    def values(self, column: str) -> list[Any]:
        assert self.file is not None
        with _reading(self.file), self._lock:
            return list(self._reader.read(columns=[column]).column(column).to_pylist())

    def picture(self, column: str, row: int) -> Any:
        assert self.file is not None
        group = bisect_right(self._starts, row) - 1
        with _reading(self.file), self._lock:
            key = column, group
            if key not in self._groups:
                self._groups[key] = self._reader.read_row_group(group, columns=[column]).column(column)
            self._groups.move_to_end(key)
            while len(self._groups) > GROUPS:
                self._groups.popitem(last=False)
            return self._groups[key][row - self._starts[group]].as_py()


def parquet_table(file: Path) -> Table:
    """A parquet file, of which a few groups of rows are held at a time.

    Raises:
        DataError: damaged, groups of too many bytes, or pyarrow is missing.
    """
    with _reading(file):
        pass
    return _Parquet(file)


def _columns(schema: Any) -> dict[str, Column]:
    """Columns by the features that ``datasets`` writes into the schema, or by their types without them."""
    features: Any = {}
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    found = {}
    for each in schema:
        feature = features.get(each.name) if isinstance(features, dict) else None
        found[each.name] = _by_feature(feature) if isinstance(feature, dict) else _by_type(each.type)
    return found


def _by_feature(feature: dict[str, Any]) -> Column:
    kind = feature.get("_type")
    if kind == "Image":
        return Column("image", mode=feature.get("mode"))
    if kind == "ClassLabel":
        names = feature.get("names")
        return Column("class", tuple(map(str, names)) if isinstance(names, list) else ())
    return _by_dtype(str(feature.get("dtype"))) if kind == "Value" else Column("other")


def _by_dtype(name: str) -> Column:
    if name in ("string", "large_string"):
        return Column("text")
    return Column("number" if name.startswith(("int", "uint")) else "other")


def _by_type(arrow: Any) -> Column:
    text = str(arrow)
    if text in ("binary", "large_binary") or (text.startswith("struct<") and "bytes: binary" in text):
        return Column("image")
    return _by_dtype(text)


# -- objects ----------------------------------------------------------------------------------------


class ObjectTable:
    """A ``datasets.Dataset`` of a program."""

    file: Path | None = None

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset.with_format(None)
        self.columns = {name: _of_object(each) for name, each in dataset.features.items()}
        self._stored: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._dataset)

    def values(self, column: str) -> list[Any]:
        return list(self._dataset[column])

    def picture(self, column: str, row: int) -> Any:
        if column not in self._stored:  # one column, as it is stored
            feature = type(self._dataset.features[column])(decode=False)
            self._stored[column] = self._dataset.select_columns([column]).cast_column(column, feature)
        return self._stored[column][row][column]


def _of_object(feature: Any) -> Column:
    kind = type(feature).__name__
    if kind == "ClassLabel":
        return Column("class", tuple(feature.names or ()))
    if kind == "Image":
        return Column("image", mode=feature.mode)
    return _by_dtype(str(feature.dtype)) if kind == "Value" else Column("other")


class _NamedBytes(io.BytesIO):
    """Bytes of a picture with a name for errors."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


class StoredPicture:
    """Fetches one picture when it is called. ``file`` and ``part`` identify it; no file, if it is in none."""

    __slots__ = ("column", "row", "table")

    def __init__(self, table: Table, column: str, row: int) -> None:
        self.table, self.column, self.row = table, column, row

    @property
    def file(self) -> Path | None:
        return self.table.file

    @property
    def part(self) -> str:
        return f"{self.column} {self.table.columns[self.column].mode} {self.row}"

    def __call__(self) -> Any:
        where = f"row {self.row} of {shown(self.file) if self.file else 'the data set'}"
        stored: Any = self.table.picture(self.column, self.row)
        mode, path = self.table.columns[self.column].mode, None
        if isinstance(stored, Mapping):
            stored, path = stored.get("bytes"), stored.get("path")
        if isinstance(stored, bytes):
            picture: Any = _NamedBytes(stored, where)
        elif isinstance(path, str) and path and "\0" not in path:
            picture = path if self.file is None else self.file.parent / path
        else:
            raise DataError(f"{where} holds no image; remove the row")
        if mode is None:
            return picture
        from PIL import Image

        from vitlr.data.images import read_image

        return Image.fromarray(read_image(picture)).convert(mode)  # as datasets gives it
