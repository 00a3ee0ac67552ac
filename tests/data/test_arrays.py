"""Arrays, tensors, files and folders from a program: read as meant, or refused with what to write instead."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitlr.data.images import as_images, read_image
from vitlr.data.pictures import pictures
from vitlr.data.video import Video
from vitlr.errors import DataError

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((3, 96, 96), r"permute\(1, 2, 0\)"),
        ((4, 96, 96), r"permute\(1, 2, 0\)"),
        ((7, 3, 96, 96), r"permute\(0, 2, 3, 1\).*moveaxis\(x, 1, -1\)"),
        ((7, 1, 96, 96), r"permute\(0, 2, 3, 1\)"),
        ((96, 96, 2), "with C 1, 3 or 4"),
        ((7, 96, 96, 2), "with C 1, 3 or 4"),
        ((2, 3, 4, 96, 96), "with C 1, 3 or 4"),
        ((784,), r"an array of shape \(784,\) holds no images"),
    ],
)
def test_channels_first_and_other_shapes_are_refused_with_the_remedy(make, shape, named: str) -> None:
    with pytest.raises(DataError, match=named):
        as_images(make(shape))
    with pytest.raises(DataError):
        read_image(make(shape))


def test_one_tensor_with_channels_first_is_never_three_grey_pictures() -> None:
    with pytest.raises(DataError, match=r"3 grey pictures have the shape \(3, 96, 96, 1\)"):
        as_images(torch.zeros(3, 96, 96))
    assert len(as_images(torch.zeros(3, 96, 96, 1))) == 3
    assert len(as_images(torch.zeros(5, 96, 96))) == 5 and len(as_images(np.zeros((1, 28, 28)))) == 1


def test_bgr_of_opencv_is_turned_for_arrays_alone() -> None:
    blue = np.zeros((4, 4, 3), np.uint8)
    blue[..., 0] = 255  # in BGR
    assert read_image(blue, channel_order="bgr")[0, 0].tolist() == [0, 0, 255]
    assert read_image(torch.from_numpy(blue), channel_order="bgr")[0, 0].tolist() == [0, 0, 255]
    with_alpha = np.concatenate([blue, np.full((4, 4, 1), 255, np.uint8)], axis=2)
    assert read_image(with_alpha, channel_order="bgr")[0, 0].tolist() == [0, 0, 255]
    picture = Image.new("RGB", (4, 4), "red")
    sources = as_images([blue, picture, blue[..., 0]], channel_order="bgr")
    assert [read_image(source)[0, 0].tolist() for source in sources] == [[0, 0, 255], [255, 0, 0], [255] * 3]
    assert [read_image(s)[0, 0, 2] for s in as_images(np.stack([blue] * 2), channel_order="bgr")] == [
        255,
        255,
    ]
    for call in (as_images, read_image):
        with pytest.raises(DataError, match="channel_order must be one of rgb, bgr"):
            call(blue, channel_order="BGR")


def test_open_files_are_read_from_their_beginning(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG")  # which leaves it at its end
    assert as_images(buffer) == [buffer] and read_image(buffer)[0, 0].tolist() == [255, 0, 0]
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    with open(tmp_path / "a.png", "rb") as file:
        assert read_image(file).shape == (4, 4, 3)
    with pytest.raises(DataError, match="open it with mode 'rb'"):
        read_image(io.StringIO("text"))


def test_generators_work_and_what_has_no_order_is_refused() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert len(as_images(pixels for _ in range(3))) == 3
    for unordered in ({"a.png", "b.png"}, frozenset({"a.png"}), {"a.png": "red"}):
        with pytest.raises(DataError, match="has no order; give a list"):
            as_images(unordered)


def test_the_path_of_a_folder_stands_for_its_images_and_videos() -> None:
    red = CASES / "folders" / "appledouble" / "red"
    assert [Path(path).name for path in as_images(red)] == [f"red{n}.jpg" for n in range(6)]
    assert len(as_images(str(CASES / "videos"))) == 8
    assert as_images([red]) == [red]  # of several sources each keeps its place, as labels go with them


def test_the_home_directory_is_found_in_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    assert read_image("~/a.png").shape == (4, 4, 3)
    assert as_images("~") == [str(tmp_path / "a.png")]


def test_every_source_gives_its_pictures(tmp_path: Path) -> None:
    pytest.importorskip("av")
    notes: list[str] = []
    appledouble = CASES / "folders" / "appledouble"
    images = list(pictures(appledouble, 16, on_note=notes.append))
    assert len(images) == 12 and {image.shape for image in images} == {(16, 16, 3)} and len(notes) == 1
    clip = CASES / "videos" / "clip.3g2"
    assert len(list(pictures(clip, 16))) == 12 and len(list(pictures(Video(clip, every=6), 16))) == 2
    assert len(list(pictures(CASES / "videos", 16))) == 3 * 12 + 5 * 3
    assert len(list(pictures(CASES / "pictures" / "la16.png"))) == len(list(pictures(np.zeros((4, 4))))) == 1
    with pytest.raises(DataError, match="does not exist"):
        list(pictures(tmp_path / "missing.png"))
