"""Animations: bounded by canvas and frames before anything is decoded, whatever the format."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlr.data import animation
from vitlr.data.animation import is_animated, num_frames
from vitlr.data.images import read_image
from vitlr.data.video import Video, is_video, read_video
from vitlr.errors import DataError

CASES = Path(__file__).parent / "cases" / "pictures"


def animated(format_: str, num: int, side: int = 8) -> bytes:
    frames = [Image.new("RGB", (side, side), (n % 256, n // 256, 9)) for n in range(num)]
    buffer = io.BytesIO()
    options = {"lossless": True} if format_ == "WEBP" else {}
    frames[0].save(buffer, format_, save_all=True, append_images=frames[1:], **options)
    return buffer.getvalue()


def pages(num: int) -> bytes:
    """A TIFF of one grey pixel a page (TIFF 6.0, section 2)."""
    out, at = bytearray(b"II*\0" + struct.pack("<I", 8)), 8
    for page in range(num):
        tags = ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 0), (277, 1), (278, 1), (279, 1))
        size = 2 + 12 * len(tags) + 4
        out += struct.pack("<H", len(tags))
        for tag, value in tags:
            out += struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, at + size if tag == 273 else value)
        at += size + 2
        out += struct.pack("<I", 0 if page == num - 1 else at) + bytes([page % 256, 0])
    return bytes(out)


def within(seconds: float):
    class Timer:
        def __enter__(self) -> None:
            self.began = time.monotonic()

        def __exit__(self, *error: object) -> None:
            assert time.monotonic() - self.began < seconds

    return Timer()


def test_a_small_file_of_a_large_canvas_is_refused_within_two_seconds() -> None:
    path = CASES / "large-canvas.gif"
    with within(2):
        assert is_video(path)
        with pytest.raises(
            DataError, match="has 601 frames of 4096x4096, more than 536,870,912 pixels in all"
        ):
            read_video(path)
        assert read_image(path, 32).shape == (32, 32, 3)  # its first frame alone is an image
    assert len(read_video(Video(path, every=1, max_frames=2), 32)) == 2


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "AVIF"])
@pytest.mark.parametrize("num", [1, 2, 7])
def test_frames_are_counted_without_decoding_them(tmp_path: Path, format_: str, num: int) -> None:
    content = animated(format_, num)
    assert num_frames(io.BytesIO(content), 100) == num and num_frames(io.BytesIO(content), 3) == min(num, 3)
    (tmp_path / "a.jpg").write_bytes(content)
    assert is_animated(tmp_path / "a.jpg") == is_video(tmp_path / "a.jpg") == (num > 1)
    if num > 1:
        assert len(read_video(tmp_path / "a.jpg")) == num


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "AVIF"])
def test_work_is_bounded_in_every_format(
    tmp_path: Path, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(animated(format_, 6))
    monkeypatch.setattr(animation, "MAX_WORK", 8 * 8 * 5)
    with pytest.raises(DataError, match="has 6 frames of 8x8, more than 320 pixels in all"):
        read_video(tmp_path / "a")
    assert len(read_video(Video(tmp_path / "a", every=2, max_frames=3))) == 3


def test_a_tiff_of_very_many_pages_is_read_as_its_first_and_refused_as_a_video(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(pages(65_000))
    with within(2):
        notes: list[str] = []
        assert read_image(tmp_path / "a.tif", on_note=notes.append).shape == (1, 1, 3) and len(notes) == 1
        assert not is_video(tmp_path / "a.tif")
        with pytest.raises(DataError, match="has more than 4,096 frames"):
            read_video(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(pages(3))
    assert [int(page[0, 0, 0]) for page in read_video(tmp_path / "b.tif")] == [0, 1, 2]


def test_pages_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    content = bytearray(pages(2))
    content[-6:-2] = struct.pack("<I", 8)
    assert num_frames(io.BytesIO(bytes(content)), 10**6) == 2
    (tmp_path / "a.tif").write_bytes(content)
    assert read_image(tmp_path / "a.tif").shape == (1, 1, 3)


def test_pictures_beside_the_first_of_a_camera_are_not_read_as_a_video(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    assert not is_video(tmp_path / "a.jpg")
    assert np.abs(read_image(tmp_path / "a.jpg")[0, 0].astype(int) - [255, 0, 0]).max() < 4


def test_a_canvas_is_checked_before_a_decoder_makes_it(tmp_path: Path) -> None:
    content = bytearray(animated("WEBP", 2))
    assert content[12:16] == b"VP8X"
    content[24:30] = b"\xff\x3f\x00\xff\x3f\x00"  # 16,384 x 16,384
    (tmp_path / "a.webp").write_bytes(content)
    with pytest.raises(DataError, match="has frames of 16384x16384, more than"):
        read_video(tmp_path / "a.webp")
    with pytest.raises(DataError, match=r"has more than .* pixels; make it smaller"):
        read_image(tmp_path / "a.webp")


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_damaged_animations_are_refused_or_read_and_counted_in_bounds(tmp_path: Path, format_: str) -> None:
    content, rng = pages(5) if format_ == "TIFF" else animated(format_, 5), np.random.default_rng(0)
    for trial in range(60):
        damaged = bytearray(content[: int(rng.integers(8, len(content)))] if trial % 2 else content)
        for _ in range(0 if trial % 2 else 8):
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
        (tmp_path / "a").write_bytes(damaged)
        is_video(tmp_path / "a")
        try:
            assert 1 <= len(read_video(tmp_path / "a", 8)) <= 300
        except DataError as error:
            assert "\n" not in str(error)
