"""The one walk over files: what people's folders hold, what is left out and said, where links lead."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from vitlr.data.files import find_images, is_litter, walk
from vitlr.errors import DataError

CASES = Path(__file__).parent / "cases" / "folders"


def put(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / path, "PNG")
    return root


@pytest.mark.parametrize(
    ("folder", "images", "sentence"),
    [
        (
            "phone",
            16,
            "4 HEIC files are left out (such as blue/IMG_8.HEIC): convert them to JPEG, or install pillow",
        ),
        (
            "appledouble",
            12,
            "12 files or folders that systems, cameras or programs leave behind are left out (such",
        ),
        ("hidden", 4, "1 hidden file or folder is left out (mug/.ipynb_checkpoints)"),
        (
            "unzipped",
            12,
            "1 file or folder that systems, cameras or programs leave behind is left out (__MACOSX)",
        ),
    ],
)
def test_the_folders_of_people_are_read_and_what_is_left_out_is_said(
    folder: str, images: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitlr.data import formats

    monkeypatch.setattr(formats, "has_heif", lambda: False)
    formats.readable.cache_clear()
    try:
        found = walk(CASES / folder)
        assert len(found.files) == images and [s[: len(sentence)] for s in found.sentences()] == [sentence]
        assert len(find_images([CASES / folder]).files) == images
        assert json.loads(json.dumps(found.as_dict()))["files"] == images
    finally:
        formats.readable.cache_clear()


@pytest.mark.parametrize(
    "name",
    [
        *("Thumbs.db", "desktop.ini", "Icon\r", "ehthumbs.db", "__MACOSX", "$RECYCLE.BIN", "lost+found"),
        *("System Volume Information", "@eaDir", "#recycle", "LOST.DIR", "._a.jpg", "a.jpg~", "#a.jpg#"),
        *(
            "a.jpg.part",
            "a.jpg.crdownload",
            "~$a.jpg",
            "a.jpg.swp",
            "GOPR1.THM",
            "GOPR1.LRV",
            "IMG_1.AAE",
            ".nfs01",
        ),
    ],
)
def test_what_systems_and_cameras_leave_behind_is_left_out(tmp_path: Path, name: str) -> None:
    put(tmp_path, "a.png", "b.png" if name.endswith("db") else name, f"{name}x/c.png")
    put(tmp_path, f"deep/{name}/d.png" if "." not in name else f"deep/{name}")
    found = walk(tmp_path)
    assert is_litter(name) and not [path for path in found.files if name in path.split("/")]
    assert found.left_out.counts == {"left behind": 1 if name.endswith("db") else 2} or name[0] in "._#~"


def test_a_class_of_recycled_things_or_a_picture_of_one_is_ordinary() -> None:
    assert not any(map(is_litter, ("recycled", "thumbs", "desktop.ini.jpg", "#1", "lock", "a~b", "part.png")))


def test_other_files_are_counted_and_images_of_any_name_found(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "noname", "wrong.txt", "IMG.heic")
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "labels.csv").write_text("a,b\n")
    (tmp_path / "weights.bin").write_bytes(bytes(range(200, 256)))
    (tmp_path / "a.psd").write_bytes(b"8BPS\0\1")
    found = walk(tmp_path)
    assert found.files == ("IMG.heic", "a.png", "noname", "wrong.txt")
    assert found.left_out.counts == {"no image": 3, "PSD": 1}
    assert list(found.left_out.missed.counts) == ["PSD"] and list(found.left_out.harmless.counts) == [
        "no image"
    ]


def test_videos_are_found_only_when_asked_for(tmp_path: Path) -> None:
    clip = (CASES.parent / "videos" / "clip.3g2").read_bytes()
    put(tmp_path, "a.png")
    for name in ("b.3g2", "c.dat"):
        (tmp_path / name).write_bytes(clip)
    (tmp_path / "main.ts").write_text("export const x = 1;\n")
    assert walk(tmp_path, videos=True).files == ("a.png", "b.3g2", "c.dat")
    assert walk(tmp_path, videos=True).videos == {"b.3g2", "c.dat"}
    found = walk(tmp_path)
    assert found.files == ("a.png",) and found.left_out.counts == {"video": 2, "no image": 1}
    assert len(find_images([tmp_path], videos=True).files) == 3


def test_pipes_and_devices_are_left_out_without_being_opened(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "c")
    (tmp_path / "d.png").symlink_to("/dev/zero")
    found = walk(tmp_path)
    assert found.files == ("a.png",) and found.left_out.counts == {"not a file": 3}


# -- links ----------------------------------------------------------------------------------------------


def test_links_are_followed_once_each(tmp_path: Path) -> None:
    root = put(tmp_path / "root", "real/1.png")
    put(tmp_path / "elsewhere", "2.png", "deep/3.png")
    (root / "again").symlink_to("real")
    (root / "also.png").symlink_to("real/1.png")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "out2").symlink_to(tmp_path / "elsewhere")
    (root / "three.png").symlink_to(tmp_path / "elsewhere" / "deep" / "3.png")
    found = walk(root)
    assert found.files == ("out/2.png", "out/deep/3.png", "real/1.png")
    assert found.left_out.counts == {"link to what is read already": 4}
    assert [link for link, _ in found.followed] == ["out"]
    assert found.sentences()[-1].startswith("1 link leads out of the folder and is followed (out to ")


def test_loops_and_links_that_lead_nowhere_are_said(tmp_path: Path) -> None:
    root = put(tmp_path / "root", "a/1.png")
    (root / "a" / "up").symlink_to("..")
    (root / "a" / "self").symlink_to("self")
    (root / "whole").symlink_to("/")
    (root / "gone.png").symlink_to("nothing.png")
    found = walk(root)
    assert found.files == ("a/1.png",)
    assert found.left_out.counts == {"link that leads back": 3, "broken link": 1}
    assert any("lead back in a circle" in sentence for sentence in found.sentences())


def test_a_folder_made_of_links_works(tmp_path: Path) -> None:
    put(tmp_path / "store", *(f"{n}.png" for n in range(4)))
    for name, numbers in (("cat", (0, 1)), ("dog", (2, 3))):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        for number in numbers:
            (tmp_path / "sorted" / name / f"{number}.png").symlink_to(tmp_path / "store" / f"{number}.png")
    found = walk(tmp_path / "sorted")
    assert found.files == ("cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png") and len(found.followed) == 4


# -- what people give -----------------------------------------------------------------------------------


def test_files_and_folders_are_taken_in_their_order(tmp_path: Path) -> None:
    put(tmp_path, "z.png", "folder/b.png", "folder/a.png", ".hidden.png", "Thumbs.db", "__MACOSX/x.png")
    given = ["z.png", "folder", ".hidden.png", "Thumbs.db", "__MACOSX"]
    found = find_images([tmp_path / name for name in given])
    names = [Path(path).relative_to(tmp_path).as_posix() for path in found.files]
    assert names == ["z.png", "folder/a.png", "folder/b.png", ".hidden.png"]
    assert found.left_out.counts == {"left behind": 2}


def test_a_path_that_cannot_be_taken_is_named_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "heic").mkdir()
    (tmp_path / "heic" / "a.heic").write_bytes(b"\0\0\0\x1cftypheic")
    for name, message in (
        ("missing.png", "missing.png does not exist; check the path"),
        ("pipe", "pipe is not a file or folder"),
        ("empty", "empty holds no image; give files or folders of them"),
        ("a\0b", "does not exist"),
    ):
        with pytest.raises(DataError, match=message):
            find_images([tmp_path / name])


def test_a_folder_of_nothing_but_heic_is_named_as_such(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from vitlr.data import formats

    monkeypatch.setattr(formats, "has_heif", lambda: False)
    formats.readable.cache_clear()
    try:
        (tmp_path / "a.HEIC").write_bytes((CASES / "phone" / "red" / "IMG_8.HEIC").read_bytes())
        with pytest.raises(DataError, match="holds no image that can be read: 1 HEIC file is left out"):
            find_images([tmp_path])
    finally:
        formats.readable.cache_clear()


def test_the_home_directory_and_names_that_are_no_utf_8_are_ordinary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path, "photos/a.png")
    with open(os.fsencode(tmp_path) + b"/photos/caf\xe9.png", "wb") as file:
        file.write((tmp_path / "photos" / "a.png").read_bytes())
    with open(os.fsencode(tmp_path) + b"/photos/caf\xe9.psd", "wb") as file:
        file.write(b"8BPS")
    found = find_images(["~/photos"])
    assert len(found.files) == 2
    "".join(found.sentences()).encode()
    json.dumps(found.as_dict(), ensure_ascii=False).encode()
