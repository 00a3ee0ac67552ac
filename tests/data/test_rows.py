"""Lists, folders of experiences and data sets of a program as streams."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from vitlr.data import DATASETS, experience_folders, list_stream, load_stream
from vitlr.data.experience import Experience, Stream
from vitlr.data.images import iter_batches
from vitlr.data.rows import Rules, natural
from vitlr.data.settings import DataConfig
from vitlr.errors import ConfigError, DataError

COLOURS = {"red": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 220, 20)}


def put(root: Path, path: str, colour: str = "red") -> str:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), COLOURS[colour]).save(root / path)
    return path


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if file.suffix == ".jsonl":
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    elif file.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({name: [row.get(name) for row in rows] for name in columns}), file)
    else:
        with open(file, "w", newline="", encoding="utf-8-sig") as opened:
            writer = csv.DictWriter(opened, columns, delimiter={".csv": ",", ".tsv": "\t"}[file.suffix])
            writer.writeheader()
            writer.writerows(rows)
    return file


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Two days of red and blue, a third of green and red; four images of each; two to test on of each class."""
    found = []
    for day, classes in enumerate((("red", "blue"), ("red", "blue"), ("green", "red"))):
        for colour in classes:
            for n in range(4):
                path = put(tmp_path, f"photos/{day}-{colour}-{n}.png", colour)
                found.append({"path": path, "label": colour, "experience": day, "session": f"day{day}"})
    for colour in COLOURS:
        for n in range(2):
            path = put(tmp_path, f"photos/test-{colour}-{n}.png", colour)
            found.append({"path": path, "label": colour, "split": "Test", "session": "day9"})
    return found


def contents(part: Experience, stream: Stream) -> dict[str, int]:
    return {stream.class_names[label]: int((part.labels == label).sum()) for label in part.classes}


def decoded(stream: Stream) -> bool:
    """True if every image has the colour of its label."""
    for part in (*stream.experiences, stream.test):
        for rows, images in iter_batches(part.paths, stream.root, size=8):
            wanted = [COLOURS[stream.class_names[part.labels[row]]] for row in rows]
            if np.abs(images.mean(axis=(1, 2)) - wanted).max() > 3:
                return False
    return True


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_list_is_a_stream_as_written(tmp_path: Path, rows, suffix: str) -> None:
    stream = list_stream(write(tmp_path / f"stream.{suffix}", rows))
    assert stream.class_names == ("blue", "green", "red") and stream.name == f"list stream.{suffix}"
    assert [contents(part, stream) for part in stream.experiences] == [
        {"blue": 4, "red": 4},
        {"blue": 4, "red": 4},
        {"green": 4, "red": 4},
    ]
    assert contents(stream.test, stream) == {"blue": 2, "green": 2, "red": 2} and decoded(stream)
    assert stream.test_sessions == (1,) * 6 and stream.root == tmp_path
    assert stream.facts == ("3 classes, 24 images or clips to learn from in 3 experiences, 6 to test on",)


def test_experiences_come_from_the_rule_asked_for(tmp_path: Path, rows) -> None:
    file = write(tmp_path / "a.csv", rows)
    by_session = list_stream(file, rules=Rules(experiences="session"))
    assert [part.name for part in by_session.experiences] == ["day0", "day1", "day2"]
    by_size = list_stream(file, rules=Rules(experiences="size", images_per_experience=10))
    assert [len(part) for part in by_size.experiences] == [10, 10, 4]
    by_classes = list_stream(file, rules=Rules(experiences="classes", classes_per_experience=1))
    assert sorted(contents(part, by_classes) for part in by_classes.experiences if len(part) == 4) == [
        {"green": 4}
    ]
    assert [len(part.classes) for part in by_classes.experiences] == [1, 1, 1]
    for row in rows:
        row.pop("experience", None)
    assert len(list_stream(write(tmp_path / "b.csv", rows)).experiences) == 3  # by session
    for row in rows:
        row.pop("session", None)
    bare = write(tmp_path / "c.csv", rows)
    assert [len(part.classes) for part in list_stream(bare).experiences] == [2, 1]
    with pytest.raises(DataError, match=r"c\.csv, line 2 has no experience, which experiences=written needs"):
        list_stream(bare, rules=Rules(experiences="written"))


def test_numbered_experiences_come_by_number_and_others_as_they_are_written(tmp_path: Path, rows) -> None:
    for row in rows:
        if "experience" in row:
            row["experience"] = 10 - row["experience"]
    stream = list_stream(write(tmp_path / "a.csv", rows))
    assert [part.name for part in stream.experiences] == ["experience 8", "experience 9", "experience 10"]
    for row in rows:
        if "experience" in row:
            row["experience"] = {10: "shop", 9: "kitchen", 8: "garden"}[row["experience"]]
    stream = list_stream(write(tmp_path / "a.csv", rows))
    assert [part.name for part in stream.experiences] == ["shop", "kitchen", "garden"]


def test_without_test_rows_a_share_of_each_class_is_held_out(tmp_path: Path, rows) -> None:
    stream = list_stream(write(tmp_path / "a.csv", [row for row in rows if "split" not in row]))
    assert contents(stream.test, stream) == {"blue": 2, "green": 1, "red": 2} and decoded(stream)
    assert sum(map(len, stream.experiences)) == 24 - 5
    again = list_stream(tmp_path / "a.csv")
    assert again.test.paths == stream.test.paths
    other = list_stream(tmp_path / "a.csv", rules=Rules(seed=1))
    assert other.test.paths != stream.test.paths


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n", "has no rows"),
        ("", "has no column path and no column label; it has none"),
        ("file,label\na.png,red\n", "has no column path; it has file, label"),
        ("path,label\na.png,red\na.png,\n", "a.csv, line 3: label needs at least one visible character"),
        ("path,label\na.png,red\n,red\n", "a.csv, line 3: path is empty"),
        (
            'path,label\na.png,red\na.png,"r\ned"\n',
            "a.csv, line 4: label has the name .* which holds a line break",
        ),
        ("path,label,split\na.png,red,tests of mine\n", "a.csv, line 2: split must be train, test or val"),
        (
            "path,label\na.png,red\nb.png,red\nc.png,red\n",
            r"line 3: .*b.png is not a file \(2 rows have none\)",
        ),
        ("path,label\na.png,red,extra\n", "a.csv, line 2: more values than columns"),
        ("path,label\na.png,red\n", "no class of list a.csv has two images"),
        (
            "path,label,split\na.png,red,train\na.png,blue,test\n",
            "has no image to test on of a class that is learned",
        ),
        ("path,label,split\na.png,red,test\n", "has no image to learn from"),
        ("path,label\na.png,caf\udce9\n", "cannot be read .*; save it as UTF-8"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match=message):
        list_stream(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "a.jsonl, line 2: not JSON"),
        ("[1]", "a.jsonl, line 2: not an object"),
        ('{"path": "a.png"}', "a.jsonl, line 2 has no column label"),
        ('{"path": "a.png", "label": ["red"]}', "a.jsonl, line 2: label must be text or a whole number"),
        ('{"path": "a.png", "label": true}', "a.jsonl, line 2: label must be text or a whole number"),
    ],
)
def test_lines_of_json_are_checked_too(tmp_path: Path, line: str, message: str) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "a.jsonl").write_text(f'{{"path": "a.png", "label": "red"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list_stream(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match=r"give a \.csv, \.jsonl or \.parquet file"):
        list_stream(tmp_path / "a.xlsx")


def test_paths_may_be_absolute_or_above_the_list_or_written_by_windows(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path, f"photos/{name}.png")
    (tmp_path / "lists").mkdir()
    rows = [
        {"path": "../photos/a.png", "label": "red"},
        {"path": str(tmp_path / "photos" / "b.png"), "label": "red"},
        {"path": "..\\photos\\c.png", "label": "red"},
    ]
    stream = list_stream(write(tmp_path / "lists" / "a.csv", rows))
    assert stream.root is None and decoded(stream)
    stream = list_stream(
        write(tmp_path / "lists" / "b.csv", [{"path": f"{n}.png", "label": "red"} for n in "abc"]),
        tmp_path / "photos",
    )
    assert stream.root == tmp_path / "photos" and decoded(stream)


def test_labels_may_be_numbers_or_categories_and_columns_in_any_case(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        put(tmp_path, f"{name}.png")
    rows = [{"Path": f"{n}.png", "LABEL": k, "Category": "warm"} for k, n in enumerate("aabb")]
    for suffix in ("csv", "jsonl"):
        file = write(tmp_path / f"a.{suffix}", [row | {"LABEL": row["LABEL"] % 2} for row in rows])
        assert list_stream(file).class_names == ("0", "1")
        assert list_stream(file, labels="category").class_names == ("warm",)


def test_a_table_with_gaps_of_pandas_is_read(tmp_path: Path, rows) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rows)  # experience becomes 0.0, 1.0, ... and NaN for the test rows
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "a.parquet")
    stream = list_stream(tmp_path / "a.parquet")
    assert [part.name for part in stream.experiences] == [f"experience {n}" for n in range(3)]


def test_folders_of_experiences_are_learned_in_the_order_of_their_names(tmp_path: Path) -> None:
    for day in ("day10", "day2", "day1", "Test"):
        for colour in ("red", "blue"):
            for n in range(2):
                put(tmp_path, f"{day}/{colour}/{n}.png", colour)
    put(tmp_path, "loose.png")
    (tmp_path / "day1" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "day2" / "red" / "notes.txt").write_text("x")
    stream = experience_folders(tmp_path)
    assert [part.name for part in stream.experiences] == ["day1", "day2", "day10"] and decoded(stream)
    assert len(stream.test) == 4 and stream.notes == (
        "1 image in no class folder is left out (loose.png): put them into one",
    )
    assert stream.left_out.counts == {"left behind": 1, "no image": 1, "in no class folder": 1}
    assert "1 file that is no image is left out" in stream.facts[-1]
    with pytest.raises(DataError, match="holds no images as experience/class/image"):
        experience_folders(tmp_path / "day1")


def test_natural_order_counts_numbers() -> None:
    names = ["day10", "day2", "Day1", "", "day2b", "2", "10"]
    assert sorted(names, key=natural) == ["", "2", "10", "Day1", "day2", "day2b", "day10"]


def test_rules_have_ranges() -> None:
    for settings, message in (
        ({"experiences": "days"}, "experiences must be one of auto, written, session, classes, size"),
        ({"held_out": 1.0}, "held_out must be above 0 and below 1"),
        ({"classes_per_experience": 0}, "classes_per_experience must be >= 1"),
        ({"images_per_experience": 0}, "images_per_experience must be >= 1"),
        ({"seed": -1}, "seed must be >= 0"),
    ):
        with pytest.raises(DataError, match=message):
            Rules(**settings)  # type: ignore[arg-type]


def test_both_are_in_the_registry(tmp_path: Path, rows) -> None:
    config = DataConfig(dataset="list", file=str(write(tmp_path / "a.csv", rows)))
    assert len(load_stream(config)) == 3 and {"list", "experiences"} <= set(DATASETS)
    with pytest.raises(ConfigError, match=r"data\.dataset list needs data\.file"):
        replace(config, file=None)


# -- data sets of a program -----------------------------------------------------------------------------


class Coloured:
    """(image, label) pairs as PIL images, arrays or tensors with channels first."""

    def __init__(self, labels: list[str | int], kind: str = "pil") -> None:
        self.wanted, self.kind, self.fetched = labels, kind, 0

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        self.fetched += 1
        label = self.wanted[row]
        image = Image.new("RGB", (8, 8), COLOURS[label if isinstance(label, str) else list(COLOURS)[label]])
        if self.kind == "tensor":
            return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255, label
        return (image if self.kind == "pil" else np.array(image)), label


@pytest.mark.parametrize("kind", ["pil", "array", "tensor"])
def test_data_sets_of_a_program_are_a_stream(kind: str) -> None:
    parts = [Coloured(["red", "blue"] * 2, kind), Coloured(["green"], kind)]
    stream = Stream.from_datasets(parts, Coloured(list(COLOURS), kind))
    assert stream.class_names == ("blue", "green", "red") and len(stream) == 2 and decoded(stream)
    assert len(set(stream.experiences[0].paths)) == 4 and len(stream.test) == 3


def test_listed_labels_spare_fetching_images_through_subsets_too() -> None:
    whole = Coloured([0, 1, 2, 0])
    whole.targets = torch.tensor([0, 1, 2, 0])  # type: ignore[attr-defined]
    stream = Stream.from_datasets([Subset(whole, [2, 3])], whole, class_names=list(COLOURS))
    assert whole.fetched == 0 and stream.class_names == tuple(COLOURS)
    assert stream.experiences[0].labels.tolist() == [2, 0] and decoded(stream) and whole.fetched > 0


def test_a_data_set_of_tensors_works_and_what_is_none_is_refused() -> None:
    tensors = TensorDataset(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    stream = Stream.from_datasets([tensors], tensors)
    (_, images), *_ = iter_batches(stream.test.paths, stream.root, size=8)
    assert images.shape == (4, 8, 8, 3)
    for parts, test, message in (
        ([], tensors, "at least one data set"),
        ([[]], tensors, "data set 0 is empty"),
        ([iter([])], tensors, "data set 0 has no length"),
        ([["a"]], tensors, "gives a str as item 0; items begin with an image and its label"),
        ([Coloured([0])], Coloured(["red"]), "two labels|"),
    ):
        if message != "two labels|":
            with pytest.raises(DataError, match=message):
                Stream.from_datasets(parts, test)
    with pytest.raises(DataError, match="two labels read '1'"):
        Stream.from_datasets([[(0, 1)]], [[(0, "1")]])
    with pytest.raises(DataError, match="label 1 has no name"):
        Stream.from_datasets([tensors], tensors, class_names=["zero"])
    normalised = TensorDataset(torch.full((2, 3, 8, 8), -1.5), torch.tensor([0, 1]))
    stream = Stream.from_datasets([normalised], normalised)
    with pytest.raises(DataError, match=r"a float image must lie within 0\.\.1"):
        list(iter_batches(stream.test.paths, None, size=8))


def test_a_data_set_that_fails_is_a_sentence_or_skipped() -> None:
    class Failing(Coloured):
        def __getitem__(self, row: int) -> tuple[Any, Any]:
            if row == 1 and self.fetched:
                raise RuntimeError("disk\ngone")
            return super().__getitem__(row)

    failing = Failing(["red", "red"])
    failing.targets = ["red", "red"]  # type: ignore[attr-defined]
    stream = Stream.from_datasets([failing], failing)
    with pytest.raises(DataError, match=r"item 1 of a data set cannot be fetched \(disk gone\)"):
        list(iter_batches(stream.test.paths, None, size=8, workers=1))
    assert sum(len(rows) for rows, _ in iter_batches(stream.test.paths, None, size=8, on_bad="skip")) == 1


def test_a_scenario_of_continuum_is_a_stream() -> None:
    continuum = pytest.importorskip("continuum")
    from continuum.datasets import InMemoryDataset

    labels = np.repeat(np.arange(3), 4)
    images = np.array(list(COLOURS.values()), np.uint8)[labels][:, None, None].repeat(8, 1).repeat(8, 2)
    tasks = continuum.ClassIncremental(InMemoryDataset(images, labels), increment=1)
    stream = Stream.from_datasets(list(tasks), list(tasks), class_names=list(COLOURS))
    assert [part.classes for part in stream.experiences] == [(0,), (1,), (2,)]
    assert len(stream.test) == 12 and decoded(stream)


def test_a_path_that_no_file_can_have_is_a_sentence_with_its_line(tmp_path: Path) -> None:
    for path in ("x" * 300 + ".png", "clip.mp4/" + "0" * 8 + "/" + "y" * 300):
        (tmp_path / "list.csv").write_text(f"path,label\n{path},a\n")
        with pytest.raises(DataError, match=r"list\.csv, line 2: .* is not a file"):
            list_stream(tmp_path / "list.csv")
