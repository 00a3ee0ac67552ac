"""Which folders are classes and which are splits: pure functions of paths."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitlr.data.layout import checked_level, classes_of, find_split
from vitlr.errors import DataError


def paths(*folders: str, num: int = 2) -> list[str]:
    return sorted(f"{folder}/{n}.png".removeprefix("/") for folder in folders for n in range(num))


def names(files: list[str], level: str | int = "auto") -> list[str]:
    return list(classes_of(files, level).images)


@pytest.mark.parametrize(
    ("folders", "classes", "level"),
    [
        (("cat", "dog"), ["cat", "dog"], 1),
        (("cat", "dog/indoors", "dog/garden"), ["cat", "dog"], 1),
        (("Fruit/Apple", "Fruit/Pear", "Veg/Carrot"), ["Apple", "Carrot", "Pear"], 2),
        (("Fruit/Apple", "Fruit/Citrus/Lemon", "Veg/Carrot"), ["Apple", "Carrot", "Citrus"], 2),
        (("animals/cat", "animals/dog"), ["cat", "dog"], 2),
        (("data/animals/cat", "data/animals/dog"), ["cat", "dog"], 3),
        (("only",), ["only"], 1),
    ],
)
def test_classes_are_the_folders_of_the_first_level_with_images(folders, classes, level) -> None:
    found = classes_of(paths(*folders))
    assert list(found.images) == classes and found.level == level and not found.loose and not found.merged
    assert found.num_images == 2 * len(folders)


@pytest.mark.parametrize(
    "folders",
    [("day1/cat", "day1/dog", "day2/cat", "day2/dog"), ("a/cat/in", "a/cat/out", "a/dog/in", "a/dog/out")],
)
def test_where_names_repeat_nobody_can_tell_and_that_is_said(folders) -> None:
    files = paths(*folders)
    with pytest.raises(
        DataError, match=r"classes may be .* in each of them: give class_level=\d for the first or"
    ):
        classes_of(files)
    assert names(files, "leaf") == sorted({folder.split("/")[-1] for folder in folders})
    assert names(files, "top") == sorted({folder.split("/")[0] for folder in folders})
    assert classes_of(files, "leaf").merged == tuple(names(files, "leaf"))


def test_a_level_leaves_out_images_above_it() -> None:
    files = paths("Fruit", "Fruit/Apple", "Veg/Carrot", "")
    found = classes_of(files, 2)
    assert list(found.images) == ["Apple", "Carrot"] and len(found.loose) == 4
    assert names(files, "leaf") == ["Apple", "Carrot", "Fruit"]


@pytest.mark.parametrize("level", ["deep", 0, -1, True, 1.5, "1.5", None])
def test_a_level_is_a_word_or_a_number(level) -> None:
    with pytest.raises(DataError, match="class_level must be auto, top, leaf or a number >= 1"):
        checked_level(level)


def test_composed_and_decomposed_names_are_one_class() -> None:
    found = classes_of(["caf\u00e9/1.png", "cafe\u0301/2.png"])
    assert list(found.images) == ["caf\u00e9"] and found.merged == ("caf\u00e9",)


def test_a_name_that_cannot_be_a_class_is_refused_by_its_reason() -> None:
    with pytest.raises(DataError, match=r"class folder a\\nb has the name .* holds a line break; rename it"):
        classes_of(["a\nb/1.png"])


# -- splits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "trn", "train_set", "training-data"])
@pytest.mark.parametrize(
    "test", ["test", "Testing", "val", "VALIDATION", "valid", "dev", "eval", "test_images"]
)
def test_splits_have_their_usual_names_in_any_case(train: str, test: str) -> None:
    split = find_split(paths(f"{train}/red", f"{train}/blue", f"{test}/red", f"{test}/blue"))
    assert split == (0, train, test, ())


@pytest.mark.parametrize(
    "besides", [("docs",), ("docs", "misc/fig"), ("",), ("red2",)], ids=["folder", "nested", "loose", "class"]
)
def test_splits_with_the_same_classes_are_never_classes_whatever_is_beside_them(besides) -> None:
    split = find_split(paths("Train/red", "Train/blue", "Test/red", *besides))
    assert split is not None and (split.train, split.test) == ("Train", "Test")
    assert set(split.unused) == {folder.split("/")[0] for folder in besides if folder}


def test_the_test_split_comes_before_validation_and_the_other_is_not_used() -> None:
    split = find_split(paths(*(f"{a}/{b}" for a, b in product(("dev", "train", "Test"), ("red", "blue")))))
    assert split == (0, "train", "Test", ("dev",))


def test_splits_are_found_below_single_folders_and_in_every_class() -> None:
    assert find_split(paths("data/x/train/red", "data/x/test/red")) == (2, "train", "test", ())
    split = find_split(paths("red/train", "red/test", "blue/train", "blue/test"))
    assert split == (1, "train", "test", ())


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "test", "bus"),  # three classes of vehicles
        ("cat", "dog"),
        ("test/red", "cat"),
        ("trains/red", "tests/red"),
        ("train/red", "train/blue"),
    ],
)
def test_what_are_no_splits_are_classes(folders) -> None:
    assert find_split(paths(*folders)) is None


def test_classes_named_as_splits_are_classes_if_their_images_are_in_them() -> None:
    files = paths("train", "test", num=6) + paths("train/steam", "test/steam", "bus/red")
    assert find_split(sorted(files)) is None


def test_splits_of_which_none_is_to_learn_from_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match="none to learn from: give the folder to learn from as root"):
        find_split(paths("test/red", "test/blue", "val/red"))
    with pytest.raises(DataError, match="Train and training to learn from"):
        find_split(paths("Train/red", "training/red", "test/red"))
    with pytest.raises(DataError, match="holds no class folders; put the images of each class into a folder"):
        find_split(paths("train", "test"))


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=0, max_size=4), min_size=1, max_size=12))
def test_every_image_is_in_one_class_or_loose_at_every_level(folders) -> None:
    files = sorted({"/".join([*parts, f"{n}.png"]) for n, parts in enumerate(folders)})
    for level in ("top", "leaf", 1, 2, 3):
        found = classes_of(files, level)
        assert sorted([*found.loose, *(path for images in found.images.values() for path in images)]) == files
        for name, images in found.images.items():
            assert all(name in path.split("/")[:-1] for path in images)
    try:
        found = classes_of(files)
    except DataError as error:
        assert "give class_level=" in str(error)
    else:
        assert sum(map(len, found.images.values())) + len(found.loose) == len(files)
