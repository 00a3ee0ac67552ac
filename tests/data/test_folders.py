"""Folders of class folders: what a stream over them must hold, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitlr.data import DATASETS, folder_stream, load_stream
from vitlr.data.experience import Stream
from vitlr.data.images import iter_batches
from vitlr.data.settings import DataConfig
from vitlr.errors import DataError


def make(root: Path, sizes: dict[str, int], suffix: str = ".png") -> Path:
    for name, number in sizes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            (root / name / f"{i:03d}{suffix}").touch()
    return root


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    return make(tmp_path / "animals", {"cat": 10, "dog": 5, "eel": 2, "fox": 1, "gnu": 7})


def every_path(stream: Stream) -> list[str]:
    return [path for part in (*stream.experiences, stream.test) for path in part.paths]


def same(a: Stream, b: Stream) -> bool:
    parts = zip((*a.experiences, a.test), (*b.experiences, b.test), strict=True)
    return a.class_names == b.class_names and all(
        x.paths == y.paths and np.array_equal(x.labels, y.labels) for x, y in parts
    )


def test_every_image_is_once_in_train_or_test_with_the_label_of_its_folder(animals: Path) -> None:
    for seed in range(5):
        stream = folder_stream(animals, 2, seed)
        paths = every_path(stream)
        assert sorted(paths) == sorted(p.relative_to(animals).as_posix() for p in animals.rglob("*.png"))
        assert stream.class_names == ("cat", "dog", "eel", "fox", "gnu")
        for part in (*stream.experiences, stream.test):
            assert [stream.class_names[label] for label in part.labels] == [
                p.split("/")[0] for p in part.paths
            ]


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    share=st.floats(0.05, 0.95),
    per=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_each_class_is_held_out_in_its_share_and_never_wholly(
    tmp_path_factory, sizes, share, per, seed
) -> None:
    root = make(tmp_path_factory.mktemp("sizes"), {f"c{i}": n for i, n in enumerate(sizes)})
    if max(sizes) == 1:
        with pytest.raises(DataError, match=r"no class in .* has two images"):
            folder_stream(root, per, seed, share)
        return
    stream = folder_stream(root, per, seed, share)
    for label, number in enumerate(sizes):
        train = sum(int((part.labels == label).sum()) for part in stream.experiences)
        test = int((stream.test.labels == label).sum())
        assert train + test == number and train >= 1 and (test >= 1) == (number >= 2)
        assert abs(test - share * number) <= 1


def test_classes_never_span_experiences(animals: Path) -> None:
    for per in (1, 2, 3, 9):
        stream = folder_stream(animals, per)
        classes = [label for experience in stream.experiences for label in experience.classes]
        assert sorted(classes) == list(range(5))
        assert [len(experience.classes) for experience in stream.experiences[:-1]] == [per] * (
            len(stream) - 1
        )


def test_the_first_experience_may_have_another_number_of_classes(animals: Path) -> None:
    stream = folder_stream(animals, 1, first_classes=3)
    assert [len(experience.classes) for experience in stream.experiences] == [3, 1, 1]


def test_the_same_seed_gives_the_same_stream_and_another_another(animals: Path) -> None:
    assert same(folder_stream(animals, 2, 3), folder_stream(animals, 2, 3))
    assert not same(folder_stream(animals, 2, 3), folder_stream(animals, 2, 4))
    orders = {tuple(e.classes for e in folder_stream(animals, 1, seed).experiences) for seed in range(8)}
    assert len(orders) > 4


def test_runs_are_other_orders_of_the_classes_judged_on_the_same_images(animals: Path) -> None:
    runs = [folder_stream(animals, 1, run=run) for run in range(10)]
    assert same(runs[0], folder_stream(animals, 1)) and same(runs[3], folder_stream(animals, 1, run=3))
    orders = {tuple(int(part.labels[0]) for part in stream.experiences) for stream in runs}
    assert len(orders) >= 8
    for stream in runs:
        assert stream.test.paths == runs[0].test.paths
        assert sorted(every_path(stream)) == sorted(every_path(runs[0]))
    with pytest.raises(DataError, match="run must be >= 0, got -1"):
        folder_stream(animals, 1, run=-1)


def test_order_by_name_is_alphabetical(animals: Path) -> None:
    stream = folder_stream(animals, 2, order="name")
    assert [experience.classes for experience in stream.experiences] == [(0, 1), (2, 3), (4,)]


def test_images_are_found_at_any_depth_and_other_files_are_not(tmp_path: Path) -> None:
    make(tmp_path, {"cat/indoors/night": 2, "cat/garden": 2, "dog": 2, ".git": 3, "cat/.thumbs": 2})
    make(tmp_path, {"dog": 2}, ".JPG")
    (tmp_path / "dog" / "notes.txt").touch()
    (tmp_path / "dog" / "._000.png").touch()
    (tmp_path / "loose.png").touch()
    stream = folder_stream(tmp_path, 2)
    assert stream.class_names == ("cat", "dog") and len(every_path(stream)) == 8
    assert "cat/indoors/night/001.png" in every_path(stream) and "dog/001.JPG" in every_path(stream)


def test_one_class_is_enough(tmp_path: Path) -> None:
    stream = folder_stream(make(tmp_path, {"cat": 5}), 2)
    assert len(stream) == 1 and len(stream.test) == 1


@pytest.mark.parametrize("test", ["test", "val", "valid"])
def test_train_and_test_folders_are_recognised(tmp_path: Path, test: str) -> None:
    make(tmp_path / "train", {"cat": 3, "dog": 4})
    make(tmp_path / test, {"cat": 1, "dog": 2})
    stream = folder_stream(tmp_path, 1)
    assert stream.class_names == ("cat", "dog") and stream.num_train_images == 7
    assert stream.test.paths == (f"{test}/cat/000.png", f"{test}/dog/000.png", f"{test}/dog/001.png")
    assert all((stream.root / path).is_file() for path in every_path(stream))


def test_with_test_and_val_the_unused_one_is_said(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        make(tmp_path / name, {"cat": 2})
    stream = folder_stream(tmp_path, 1)
    assert stream.test.paths[0].startswith("test/") and stream.notes == (f"{tmp_path / 'val'} is not used",)


def test_a_class_named_test_among_others_is_a_class(tmp_path: Path) -> None:
    stream = folder_stream(make(tmp_path, {"train": 2, "test": 2, "bus": 2}), 1)
    assert stream.class_names == ("bus", "test", "train")


@pytest.mark.parametrize("where", ["elsewhere/held", "animals/held"])
def test_a_test_folder_anywhere_is_used_in_place_of_held_out_images(
    tmp_path: Path, animals: Path, where: str
) -> None:
    test = make(tmp_path / where, {"cat": 1, "dog": 1, "eel": 1, "fox": 1, "gnu": 1})
    stream = folder_stream(animals, 2, test_root=test)
    assert stream.num_train_images == 25 and len(stream.test) == 5 and stream.num_classes == 5
    assert all((stream.root / path).is_file() for path in every_path(stream))
    assert not any(path.startswith("/") or ".." in path for path in every_path(stream))


def test_relative_roots_work(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(animals.parent)
    make(animals.parent / "held", {"cat": 1, "dog": 1, "eel": 1, "fox": 1, "gnu": 1})
    for stream in (folder_stream("animals", 2), folder_stream("animals", 2, test_root="held")):
        assert all((stream.root / path).is_file() for path in every_path(stream))


def test_what_cannot_be_a_stream_is_refused_with_the_remedy(tmp_path: Path, animals: Path) -> None:
    (tmp_path / "file.zip").touch()
    (tmp_path / "empty").mkdir()
    make(tmp_path, {"flat": 3})
    other = make(tmp_path / "other", {"bee": 1, "yak": 1})
    for root, options, message in (
        ("absent", {}, "absent does not exist; give a folder that holds one folder of images for each class"),
        ("file.zip", {}, "file.zip is not a folder"),
        ("empty", {}, "empty is empty; put the images of each class"),
        ("flat", {}, "flat holds no class folders; put the images of each class"),
        ("animals", {"held_out": 0.0}, "held_out must be above 0 and below 1, got 0.0"),
        ("animals", {"held_out": 1.0}, "held_out must be above 0 and below 1"),
        ("animals", {"classes_per_experience": 0}, "classes_per_experience and first_classes must be >= 1"),
        ("animals", {"order": "size"}, "order must be one of seed, name, got 'size'"),
        ("animals", {"seed": -1}, "seed must be >= 0"),
        ("animals", {"every": 0}, "every must be >= 1, got 0"),
        ("animals", {"max_frames": 0}, "max_frames must be >= 1, got 0"),
        ("animals", {"test_root": animals}, "cannot be both learned from and tested on"),
        ("animals", {"test_root": tmp_path / "absent"}, "absent does not exist"),
        ("animals", {"class_level": 0}, "class_level must be auto, top, leaf or a number >= 1, got 0"),
        ("animals", {"class_level": 2}, "animals holds no class folders"),
        (
            "animals",
            {"test_root": other},
            "the test folder has the classes bee, yak and .*animals has cat, dog, .*none",
        ),
    ):
        with pytest.raises(DataError, match=message):
            folder_stream(tmp_path / root, **{"classes_per_experience": 2, **options})


# -- the registry -----------------------------------------------------------------------------------


def test_a_new_data_set_is_one_line_in_the_registry(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = folder_stream(animals, 1)
    monkeypatch.setitem(DATASETS, "mine", lambda config, progress: stream)
    assert load_stream(DataConfig(dataset="mine")) is stream
    assert same(load_stream(DataConfig(dataset="folder", root=str(animals))), folder_stream(animals, 2))


def test_core50_is_loaded_by_name(real_objects: Path) -> None:
    stream = load_stream(DataConfig(dataset="core50", root=str(real_objects), order=3, scenario="nicv2_79"))
    assert len(stream) == 79 and stream.name == "core50 nicv2_79 run 3"


def test_rendered_objects_are_drawn_once_and_then_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(root: Path, frames: int, **options) -> None:
        drawn.append((frames, options["seed"]))
        make(root, {"s1/o1": 0, "s3/o1": 0})
        (root / "s1/o1/C_01_01_150.png").touch()
        (root / "s3/o1/C_03_01_150.png").touch()

    monkeypatch.setattr("vitlr.rendered.dataset.render_dataset", draw)
    monkeypatch.setenv("VITLR_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        stream = load_stream(DataConfig(dataset="rendered", root=None, frames=1, seed=7, scenario="ni"))
        assert stream.name == "rendered ni run 0" and stream.num_train_images == 1
    load_stream(DataConfig(dataset="rendered", root=str(tmp_path / "here"), frames=1, scenario="ni"))
    assert drawn == [(1, 7), (1, 0)]
    assert stream.root is not None and stream.root.parent == tmp_path / "cache"


def test_an_unknown_data_set_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        DataError,
        match="data set must be one of rendered, core50, folder, experiences, list, hub, got 'mnist'",
    ):
        load_stream(SimpleNamespace(dataset="mnist"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_class_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    open(folder + b"/0.png", "wb").close()
    with pytest.raises(DataError, match="holds bytes that are no UTF-8; rename it"):
        folder_stream(tmp_path, 2)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_backslash_is_a_letter_of_a_name(tmp_path: Path) -> None:
    for name in (r"\frac", r"b\..\c", "a: cups", "$x$"):
        for number in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{number}.png")
    stream = folder_stream(tmp_path, 4)
    assert set(stream.class_names) == {r"\frac", r"b\..\c", "a: cups", "$x$"}
    (rows, _), *_ = iter_batches(stream.experiences[0].paths, stream.root, size=8)
    assert len(rows) == 4
