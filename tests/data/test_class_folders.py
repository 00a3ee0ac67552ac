"""Folders of people as a stream: what is learned, what is tested on, and what is said about the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlr.data import folder_stream, formats
from vitlr.data.class_folders import read_class_folders
from vitlr.data.experience import Stream
from vitlr.data.images import iter_batches, read_image
from vitlr.data.video import read_video
from vitlr.errors import DataError

CASES = Path(__file__).parent / "cases"
FOLDERS, VIDEOS = CASES / "folders", CASES / "videos"


@pytest.fixture(params=[False, True], ids=["without pillow-heif", "with pillow-heif"])
def heif(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    if request.param:
        pytest.importorskip("pillow_heif")
    monkeypatch.setattr(formats, "has_heif", lambda: request.param)
    formats.readable.cache_clear()
    yield request.param
    formats.readable.cache_clear()


def make(root: Path, sizes: dict[str, int]) -> Path:
    for name, number in sizes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(root / name / f"{i:03d}.png")
    return root


def sizes(stream: Stream) -> dict[str, tuple[int, int]]:
    """Images that are learned and tested on, by class."""
    learned = np.concatenate([part.labels for part in stream.experiences])
    return {
        name: (int((learned == label).sum()), int((stream.test.labels == label).sum()))
        for label, name in enumerate(stream.class_names)
    }


def class_images(root: Path, class_level: str = "auto") -> dict[str, list[str]]:
    """Images to test on, or all if there is no split."""
    found = read_class_folders(root, class_level=class_level)
    return (found.test or found.train).images


def decoded(stream: Stream) -> int:
    paths = [path for part in (*stream.experiences, stream.test) for path in part.paths]
    return sum(len(rows) for rows, _ in iter_batches(paths, stream.root, size=16))


# -- the cases ------------------------------------------------------------------------------------------


def test_photos_of_telephones_are_all_read_or_named(heif: bool) -> None:
    stream = folder_stream(FOLDERS / "phone", 1)
    number = 10 if heif else 8
    assert {sum(pair) for pair in sizes(stream).values()} == {number} and decoded(stream) == 2 * number
    assert stream.facts[0] == f"2 classes of {2 * number} images found in {FOLDERS / 'phone'}"
    heic = [note for note in stream.notes if "HEIC" in note]
    assert bool(heic) != heif and stream.left_out.counts == ({} if heif else {"HEIC": 4})


@pytest.mark.parametrize(("folder", "images"), [("appledouble", 12), ("unzipped", 12)])
def test_what_a_mac_leaves_behind_is_no_image_and_no_class(folder: str, images: int) -> None:
    stream = folder_stream(FOLDERS / folder, 1)
    assert stream.class_names == ("blue", "red") and decoded(stream) == images and not stream.notes
    assert "that systems, cameras or programs leave behind" in stream.facts[1]
    assert [len(paths) for paths in class_images(FOLDERS / folder).values()] == [6, 6]


def test_copies_of_a_notebook_are_not_learned() -> None:
    assert sizes(folder_stream(FOLDERS / "hidden", 1)) == {"mug": (3, 1)}


def test_train_and_test_of_any_case_are_no_classes() -> None:
    stream = folder_stream(FOLDERS / "Train-Test", 1)
    assert sizes(stream) == {"blue": (6, 3), "red": (6, 3)}
    assert all(path.startswith("Test/") for path in stream.test.paths)
    assert stream.facts == (
        f"2 classes of 12 images found in {FOLDERS / 'Train-Test' / 'Train'}",
        f"2 classes of 6 images to test on found in {FOLDERS / 'Train-Test' / 'Test'}",
    )
    assert sum(map(len, class_images(FOLDERS / "Train-Test").values())) == len(stream.test)


# -- classes --------------------------------------------------------------------------------------------


def test_nested_classes_are_learned_as_such_and_that_is_said(tmp_path: Path) -> None:
    make(tmp_path, {"Fruit/Apple": 3, "Fruit/Pear": 2, "Veg/Carrot": 4})
    stream = folder_stream(tmp_path, 1)
    assert stream.class_names == ("Apple", "Carrot", "Pear")
    assert stream.facts[0].startswith("3 classes of 9 images found in ")
    assert stream.facts[0].endswith(" (class folders are those of level 2)")
    assert folder_stream(tmp_path, 1, class_level="top").class_names == ("Fruit", "Veg")
    assert list(class_images(tmp_path, "top")) == ["Fruit", "Veg"]


def test_sessions_within_sessions_need_a_word_from_the_user(tmp_path: Path) -> None:
    make(tmp_path, {f"day{d}/{name}": 2 for d in (1, 2) for name in ("cat", "dog")})
    with pytest.raises(DataError, match="classes may be day1, day2, or cat, dog in each of them"):
        folder_stream(tmp_path, 1)
    stream = folder_stream(tmp_path, 1, class_level=2)
    assert sizes(stream) == {"cat": (3, 1), "dog": (3, 1)}
    assert "folders of one name are one class (cat, dog)" in stream.facts


@pytest.mark.parametrize("name", [r"\frac", "a: cups", "می‌خواهم", "👩‍🚀", "क्‍ष", "no\u00a0break", "#1 é"])
def test_class_folders_of_any_ordinary_name_are_learned_and_read(tmp_path: Path, name: str) -> None:
    stream = folder_stream(make(tmp_path, {name: 3, "other": 3}), 1)
    assert name in stream.class_names and decoded(stream) == 6


def test_a_folder_without_images_is_no_class_and_one_of_unread_photos_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, {"cat": 3, "dog": 3, "eel": 0})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "cat.xml").write_text("<annotation/>")
    stream = folder_stream(tmp_path, 1)
    assert stream.class_names == ("cat", "dog")
    assert stream.notes == ("2 folders hold no image and are no classes (such as annotations)",)
    monkeypatch.setattr(formats, "has_heif", lambda: False)
    formats.readable.cache_clear()
    shutil.copy(FOLDERS / "phone" / "red" / "IMG_8.HEIC", tmp_path / "eel")
    with pytest.raises(DataError, match="eel holds no image that can be read: 1 HEIC file is left out"):
        folder_stream(tmp_path, 1)
    formats.readable.cache_clear()


def test_images_beside_the_class_folders_are_counted(tmp_path: Path) -> None:
    make(tmp_path, {"cat": 3, "": 1})
    stream = folder_stream(tmp_path, 1)
    assert stream.notes == ("1 image in no class folder is left out (000.png): put them into one",)


def test_classes_with_nothing_to_hold_out_are_named(tmp_path: Path) -> None:
    stream = folder_stream(make(tmp_path, {"cat": 5, "dog": 1, "eel": 1}), 1)
    assert stream.notes == ("2 classes have one image or clip and so no test image: dog, eel",)


# -- test folders ---------------------------------------------------------------------------------------


def test_a_test_folder_that_lacks_classes_or_holds_others_is_used_and_said(tmp_path: Path) -> None:
    make(tmp_path / "train", {"cat": 3, "dog": 3})
    make(tmp_path / "test", {"cat": 2, "yak": 4})
    for stream in (
        folder_stream(tmp_path, 1),
        folder_stream(tmp_path / "train", 1, test_root=tmp_path / "test"),
    ):
        assert sizes(stream) == {"cat": (3, 2), "dog": (3, 0)}
        assert stream.notes == (
            "the test folder has no images of dog: accuracy is over the other classes",
            "the test folder has 4 images of classes that are not learned, left out: yak",
        )


def test_composed_and_decomposed_names_of_train_and_test_are_one_class(tmp_path: Path) -> None:
    make(tmp_path / "Train", {"caf\u00e9": 2, "tea": 2})
    make(tmp_path / "Test", {"cafe\u0301": 1, "tea": 1})
    assert sizes(folder_stream(tmp_path, 1)) == {"caf\u00e9": (2, 1), "tea": (2, 1)}


def test_a_split_in_every_class_is_a_split(tmp_path: Path) -> None:
    make(
        tmp_path, {f"{name}/{part}": n for name in ("cat", "dog") for part, n in (("train", 3), ("test", 2))}
    )
    assert sizes(folder_stream(tmp_path, 1)) == {"cat": (3, 2), "dog": (3, 2)}


def test_with_a_test_folder_of_its_own_the_splits_of_the_root_are_still_no_classes(tmp_path: Path) -> None:
    make(tmp_path / "a" / "train", {"cat": 3, "dog": 3})
    make(tmp_path / "a" / "val", {"cat": 1, "dog": 1})
    make(tmp_path / "b", {"cat": 2, "dog": 2})
    stream = folder_stream(tmp_path / "a", 1, test_root=tmp_path / "b")
    assert sizes(stream) == {"cat": (3, 2), "dog": (3, 2)} and decoded(stream) == 10
    stream = folder_stream(tmp_path / "a", 1, test_root=tmp_path / "a" / "val")
    assert sizes(stream) == {"cat": (3, 1), "dog": (3, 1)} and decoded(stream) == 8


def test_links_in_class_folders_are_read_and_told(tmp_path: Path) -> None:
    make(tmp_path / "store", {"cats": 3})
    make(tmp_path / "root", {"dog": 3})
    (tmp_path / "root" / "cat").symlink_to(tmp_path / "store" / "cats")
    stream = folder_stream(tmp_path / "root", 1)
    assert decoded(stream) == 6 and any("leads out of the folder and is followed" in n for n in stream.notes)


# -- clips ----------------------------------------------------------------------------------------------


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    pytest.importorskip("av")
    make(tmp_path, {"still": 4, "film": 0, "both": 2})
    for name in ("camcorder.MTS", "raspivid.h264", "clip.3g2"):
        shutil.copy(VIDEOS / name, tmp_path / "film" / name)
    shutil.copy(VIDEOS / "clip.3g2", tmp_path / "both" / "clip.3g2")
    return tmp_path


def test_class_folders_of_clips_are_learned_frame_by_frame(clips: Path) -> None:
    stream = folder_stream(clips, 1, every=3)
    assert {name: sum(pair) for name, pair in sizes(stream).items()} == {"both": 6, "film": 12, "still": 4}
    assert decoded(stream) == 22
    assert "4 clips are learned from or tested on as a whole, by 16 frames" in stream.facts
    assert len(folder_stream(clips, 1, every=3, max_frames=2).experiences) == 3


@pytest.mark.parametrize("seed", range(5))
def test_frames_of_one_clip_are_never_on_both_sides(clips: Path, seed: int) -> None:
    stream = folder_stream(clips, 1, seed)
    learned, tested = (
        {path.rpartition("/")[0] for part in parts for path in part.paths if "." in path.split("/")[-2]}
        for parts in (stream.experiences, [stream.test])
    )
    assert len(learned | tested) == 4 and not learned & tested


def test_a_frame_of_a_clip_is_that_of_the_video(clips: Path) -> None:
    frames = read_video(clips / "film" / "clip.3g2", 32)
    stream = folder_stream(clips, 1)
    paths = [f"film/clip.3g2/{n:06d}" for n in range(12)]
    (rows, images), *_ = iter_batches(paths, stream.root, size=32, batch_size=64)
    assert rows.tolist() == list(range(12)) and np.array_equal(images, frames)
    assert np.array_equal(read_image(clips / paths[5], 32), frames[5])
    again = np.concatenate([images for _, images in iter_batches(paths[::2], clips, size=32, batch_size=4)])
    assert np.array_equal(again, frames[::2])


def test_a_damaged_clip_is_an_error_or_skipped_as_an_image_is(clips: Path) -> None:
    (clips / "film" / "bad.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    stream = folder_stream(clips, 1)
    paths = [path for part in (*stream.experiences, stream.test) for path in part.paths]
    with pytest.raises(DataError, match=r"bad\.mp4 is not a video that can be read"):
        list(iter_batches(paths, clips, size=16))
    read = sum(len(rows) for rows, _ in iter_batches(paths, clips, size=16, on_bad="skip"))
    assert read == len(paths) - 1
    with pytest.raises(DataError, match="has 12 frames and no frame 200"):
        read_image(clips / "film" / "clip.3g2" / "000200")


def test_without_pyav_clips_are_counted_with_the_remedy(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitlr.data import class_folders

    monkeypatch.setattr(class_folders, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="film holds no image that can be read: 3 videos are left out"):
        folder_stream(clips, 1)
    shutil.rmtree(clips / "film")
    stream = folder_stream(clips, 1)
    assert "1 video is left out (both/clip.3g2): install PyAV (pip install 'vitlr[video]')" in stream.notes


def test_read_class_folders_refuses_a_folder_to_learn_from_and_test_on(tmp_path: Path) -> None:
    make(tmp_path / "a", {"cat": 2})
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match="cannot be both learned from and tested on"):
        read_class_folders(tmp_path / "a", tmp_path / "b")
