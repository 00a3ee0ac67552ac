"""What a file is, by its content: names may lie, and what is refused is named."""

from __future__ import annotations

import io
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlr.data import formats
from vitlr.data.formats import kind_of, readable
from vitlr.data.images import read_image
from vitlr.data.video import is_video, read_video
from vitlr.errors import DataError

CASES = Path(__file__).parent / "cases"
RED = CASES / "folders" / "phone" / "red"


@pytest.mark.parametrize("name", ["download5.jfif", "7.jpe", "IMG_2.avif", "0.jpg"])
def test_pictures_of_phones_are_read(name: str) -> None:
    assert read_image(RED / name).shape == (96, 96, 3) and kind_of(RED / name).group == "image"


@pytest.mark.parametrize(
    "format_", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000"]
)
@pytest.mark.parametrize("name", ["a.jpg", "a.PNG", "a.heic", "a.mp4", "a", "a.jpg?w=640"])
def test_an_image_is_read_whatever_its_name_says(tmp_path: Path, format_: str, name: str) -> None:
    pixels = np.full((16, 16, 3), (200, 30, 30), np.uint8)
    Image.fromarray(pixels).save(tmp_path / name, format_)
    assert np.abs(read_image(tmp_path / name).astype(int) - pixels).max() < 12
    assert kind_of(tmp_path / name).group == "image" and not is_video(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pgm", ".PBM", ".ppm", ".jp2", ".apng", ".JFIF", ".avif"])
def test_suffixes_count_in_any_case(suffix: str) -> None:
    assert kind_of(f"a{suffix}", name_alone=True).group == "image"


@pytest.mark.parametrize("name", ["plain.mp4", "camcorder.MTS", "raspivid.h264", "clip.3g2"])
def test_a_video_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av")
    (tmp_path / "film.jpg").write_bytes((CASES / "videos" / name).read_bytes())
    assert is_video(tmp_path / "film.jpg") and len(read_video(tmp_path / "film.jpg")) >= 3
    with pytest.raises(DataError, match=r"film.jpg is a video \(.*\) and not an image"):
        read_image(tmp_path / "film.jpg")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            b"8BPS\0\1" + bytes(40),
            "is in PSD format, which is not read here: convert it to one of JPEG, PNG, ",
        ),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is in JPEG XL format"),
        (b"%PDF-1.7", "is in PDF format"),
        (b"\0\0\1\0\1\0", "is in ICO format"),
        (b"II*\0\x10\0\0\0CR\2\0", "is in camera raw format, which is not read here: develop it"),
        (b"<svg xmlns='x'></svg>", "is in SVG format"),
        (b"<!DOCTYPE html><html>", r"is a web page, not an image of a format that is read here \(JPEG, PNG"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "is an AppleDouble file of a Mac, not an image"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a pointer of Git LFS .git lfs pull fetches the file., not an image",
        ),
        (b"PK\3\4", "is an archive, not an image"),
        (b"\x93NUMPY", "is not an image of a format that is read here"),
        (b"", r"is empty \(0 bytes\)"),
    ],
)
def test_a_refusal_names_what_was_found_and_what_can_be_read(
    tmp_path: Path, content: bytes, named: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.jpg {named}"):
        read_image(tmp_path / "a.jpg")


def test_heic_is_named_with_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "has_heif", lambda: False)
    readable.cache_clear()
    try:
        for name in ("IMG_8.HEIC", "IMG_9.HEIC"):
            with pytest.raises(
                DataError, match=r"is in HEIC format, .*convert it to JPEG, or install pillow-heif"
            ):
                read_image(RED / name)
    finally:
        readable.cache_clear()


def test_heic_is_read_with_pillow_heif() -> None:
    pytest.importorskip("pillow_heif")
    image = read_image(RED / "IMG_8.HEIC")
    assert image.shape == (96, 96, 3) and kind_of(RED / "IMG_8.HEIC").group == "image"


def test_only_regular_files_are_opened_also_behind_links(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "nowhere.png").symlink_to("nothing")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        began = time.monotonic()
        for name, what in (
            *(("pipe.png", "is a pipe"), ("link.png", "is a pipe"), ("zero.png", "is a device")),
            *(("folder.png", "is a folder"), ("s.png", "is a socket")),
        ):
            with pytest.raises(DataError, match=f"{name} {what}, not a file"):
                read_image(tmp_path / name)
            assert not is_video(tmp_path / name)
        assert time.monotonic() - began < 2
    with pytest.raises(DataError, match=r"does not exist \(a link that leads nowhere\); check the path"):
        read_image(tmp_path / "nowhere.png")


def test_a_name_that_is_no_utf_8_is_read_and_can_be_printed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    for content in (buffer.getvalue(), b"no image"):
        path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
        with open(path, "wb") as file:
            file.write(content)
        if content.startswith(b"\x89"):
            assert read_image(path).shape == (4, 4, 3)
        else:
            with pytest.raises(DataError, match=r"caf\\xe9.png is text, not an image") as refusal:
                read_image(path)
            str(refusal.value).encode("ascii")
