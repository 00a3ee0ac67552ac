"""Settings of what is learned from: what is checked, and that every one of them reaches its data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vitlr.data import load_stream
from vitlr.data.settings import DataConfig
from vitlr.errors import ConfigError, DataError

CASES = Path(__file__).parent / "cases"


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / path)
    return root


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dataset": "list"}, "needs data.file"),
        ({"dataset": "experiences"}, "needs data.root"),
        ({"dataset": "folder"}, "needs data.root"),
        ({"file": "a.csv"}, "add --data.dataset list"),
        ({"test_root": "a"}, "add --data.dataset folder"),
        ({"class_level": "leave"}, "data.class_level must be auto, top, leaf or a number >= 1, got 'leave'"),
        ({"class_level": 0}, "data.class_level must be auto, top, leaf or a number >= 1, got 0"),
        ({"every": 0}, "data.every must be >= 1, got 0"),
        ({"max_frames": 0}, "data.max_frames must be >= 1"),
        ({"images_per_experience": 0}, "data.images_per_experience must be >= 1"),
        ({"experiences": "sessions"}, "did you mean session?"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_the_way_out(
    settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        DataConfig(**settings)
    assert sentence in str(caught.value)


def test_the_level_of_class_folders_may_be_written_as_a_number_or_as_its_text() -> None:
    assert DataConfig(class_level="2") == DataConfig(class_level=2)


@pytest.mark.parametrize(("level", "classes"), [("auto", 2), ("top", 1), ("leaf", 2), (2, 2)])
def test_the_class_level_reaches_the_folder(tmp_path: Path, level: str | int, classes: int) -> None:
    root = make(
        tmp_path / "food", "fruit/apple/1.png", "fruit/apple/2.png", "fruit/pear/1.png", "fruit/pear/2.png"
    )
    stream = load_stream(DataConfig(dataset="folder", root=str(root), class_level=level))
    assert stream.num_classes == classes and stream.facts


def test_a_list_is_cut_into_experiences_of_a_size(tmp_path: Path) -> None:
    make(tmp_path, *(f"{label}{n}.png" for label in "ab" for n in range(5)))
    rows = "".join(f"{label}{n}.png,{label}\n" for label in "ab" for n in range(5))
    (tmp_path / "list.csv").write_text("path,label\n" + rows)
    config = DataConfig(
        dataset="list", file=str(tmp_path / "list.csv"), experiences="size", images_per_experience=3
    )
    assert [len(part) for part in load_stream(config).experiences] == [3, 3, 2]


def test_splits_of_unusual_names_are_no_classes() -> None:
    stream = load_stream(DataConfig(dataset="folder", root=str(CASES / "folders" / "Train-Test")))
    assert stream.class_names == ("blue", "red") and len(stream.test) == 6


def test_forgetting_the_data_set_suggests_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no rendered objects; .* add --data\.dataset folder"):
        load_stream(DataConfig(root=str(CASES / "folders" / "Train-Test")))
    (tmp_path / "list.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"give --data\.dataset list"):
        load_stream(DataConfig(root=str(tmp_path / "list.csv")))
