"""Videos as players show them: mirrors and turns, colour matrices and ranges, high dynamic range."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vitlr.data.video import Sampled, Video, read_video
from vitlr.data.video_colours import turned
from vitlr.errors import DataError

av = pytest.importorskip("av")
CASES = Path(__file__).parent / "cases" / "videos"


def corners(image: np.ndarray) -> dict[str, bool]:
    half_h, half_w = image.shape[0] // 2, image.shape[1] // 2
    parts = {
        "top left": image[:half_h, :half_w],
        "top right": image[:half_h, half_w:],
        "bottom left": image[half_h:, :half_w],
        "bottom right": image[half_h:, half_w:],
    }
    return {name for name, part in parts.items() if part.mean() > 200}  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "white"),
    [
        ("plain.mp4", "top left"),
        ("mirrored-left-right.mp4", "top right"),
        ("mirrored-top-bottom.mp4", "bottom left"),
    ],
)
def test_mirrored_videos_are_shown_as_players_show_them(name: str, white: str) -> None:
    assert [corners(image) for image in read_video(CASES / name)] == [{white}] * 3


def test_every_turn_and_mirror_of_the_display_matrix_is_applied(tmp_path: Path) -> None:
    content = bytearray((CASES / "plain.mp4").read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    for numbers in ((a, b, c, d) for a, d in ((1, 1), (1, -1), (-1, 1), (-1, -1)) for b, c in ((0, 0),)):
        _check_matrix(tmp_path, content, at, numbers)
    for b, c in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        _check_matrix(tmp_path, content, at, (0, b, c, 0))


def _check_matrix(tmp_path: Path, content: bytearray, at: int, numbers: tuple[int, int, int, int]) -> None:
    a, b, c, d = numbers
    fixed = [value * 65536 for value in (a, b, 0, c, d, 0)]
    content[at : at + 24] = struct.pack(">6i", *fixed)
    (tmp_path / "clip.mp4").write_bytes(content)
    # White is at the left (x < 0) and above (y < 0) of the middle: x' = ax + cy, y' = bx + dy.
    x, y = -a - c, -b - d
    white = f"{'top' if y < 0 else 'bottom'} {'left' if x < 0 else 'right'}"
    assert corners(read_video(tmp_path / "clip.mp4")[0]) == {white}


def test_a_matrix_between_two_quarters_is_taken_for_the_nearest() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(turned(image, (60000, 2000, -2000, 60000)), image)
    assert np.array_equal(turned(image, (-2000, 60000, -60000, -2000)), np.rot90(image, -1))


@pytest.mark.parametrize(
    ("name", "colour"), [("bt709-tv-red.mp4", (200, 20, 20)), ("bt601-full-green.mp4", (20, 200, 20))]
)
def test_colours_are_those_of_matrix_and_range(name: str, colour: tuple[int, int, int]) -> None:
    for image in read_video(CASES / name):
        assert np.abs(image.reshape(-1, 3).mean(axis=0) - colour).max() < 4


@pytest.mark.parametrize("name", ["camcorder.MTS", "raspivid.h264", "clip.3g2"])
def test_videos_of_cameras_are_read(name: str) -> None:
    assert len(read_video(CASES / name, 32)) == 12


def write(path: Path, planes: tuple[int, int, int], size: tuple[int, int], **colours: int) -> Path:
    """Three frames of one colour, given in the video's own luma and chroma (of 10 bits for high dynamic range)."""
    deep = "color_trc" in colours
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265" if deep else "libx264", rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p10le" if deep else "yuv420p"
        stream.time_base = Fraction(1, 10)
        if deep:
            stream.options = {"x265-params": "log-level=none"}
        for name, value in colours.items():
            setattr(stream.codec_context, name, value)
        for number in range(3):
            frame = av.VideoFrame(*size, stream.pix_fmt)
            for plane, value in zip(frame.planes, planes, strict=True):
                line = np.full(plane.line_size // (2 if deep else 1), value, np.uint16 if deep else np.uint8)
                plane.update(np.tile(line, (plane.height, 1)).tobytes())
            for name, value in colours.items():
                setattr(frame, name, value)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_without_a_matrix_large_videos_are_bt709_and_small_ones_bt601(tmp_path: Path) -> None:
    planes = (63, 102, 240)  # (184, 0, 21) or so by BT.601, (200, 20, 20) or so by BT.709
    small = read_video(write(tmp_path / "a.mp4", planes, (64, 64)))[0][5, 5].astype(int)
    large = read_video(write(tmp_path / "b.mp4", planes, (1280, 720)))[0][5, 5].astype(int)
    assert np.abs(large - small).max() > 10
    by_709 = _rgb(planes, 0.2126, 0.0722)
    assert np.abs(large - by_709).max() < 5 and np.abs(small - _rgb(planes, 0.299, 0.114)).max() < 5


def _rgb(planes: tuple[int, int, int], red: float, blue: float) -> np.ndarray:
    """Of limited range (ITU-R BT.601 and BT.709)."""
    y, cb, cr = (planes[0] - 16) / 219, (planes[1] - 128) / 224, (planes[2] - 128) / 224
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    green = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.round(255 * np.array([r, green, b])), 0, 255)


@pytest.mark.parametrize(("transfer", "name", "white"), [(16, "PQ", 573), (18, "HLG", 721)])
def test_high_dynamic_range_is_tone_mapped_and_said(
    tmp_path: Path, transfer: int, name: str, white: int
) -> None:
    """White paper, 203 cd/m2, is 58 % of a PQ and 75 % of an HLG signal (ITU-R BT.2408)."""
    try:
        path = write(
            tmp_path / "a.mp4",
            (white, 512, 512),
            (64, 64),
            color_trc=transfer,
            color_primaries=9,
            colorspace=9,
        )
    except (av.FFmpegError, ValueError, AttributeError) as error:
        pytest.skip(f"this PyAV writes no such video: {error}")
    said: list[Sampled] = []
    images = read_video(Video(path, on_read=said.append))
    assert said[0].notes == (f"{path} is of high dynamic range ({name}), which is tone-mapped",)
    assert said[0].as_dict()["notes"] == said[0].notes
    grey = images[0].reshape(-1, 3).mean(axis=0)
    assert np.ptp(grey) < 4 and 180 < grey.mean() < 210  # bright, below the white of a screen


def test_a_row_of_jpegs_is_a_video(tmp_path: Path) -> None:
    path = tmp_path / "camera.mjpeg"
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    levels = [round(float(image.mean())) for image in read_video(path)]
    assert np.abs(np.array(levels) - [0, 40, 80, 120, 160]).max() < 4


@pytest.mark.parametrize(
    ("name", "codec"), [("a.vob", "mpeg2video"), ("a.hevc", "libx265"), ("a.m2ts", "libx264")]
)
def test_other_containers_are_known_by_content(tmp_path: Path, name: str, codec: str) -> None:
    kinds = {"vob": "vob", "hevc": "hevc", "m2ts": "mpegts"}
    path = tmp_path / name
    try:
        with av.open(str(path), "w", format=kinds[path.suffix[1:]]) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            if codec == "libx265":
                stream.options = {"x265-params": "log-level=none"}
            for number in range(5):
                frame = av.VideoFrame.from_ndarray(
                    np.full((64, 64, 3), 30 * number, np.uint8), format="rgb24"
                )
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"this PyAV writes no such video: {error}")
    assert len(read_video(path)) == 5
    path.rename(tmp_path / "film")
    assert len(read_video(tmp_path / "film")) == 5


def test_a_still_named_as_a_video_is_read_as_an_image_and_text_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("not a video")
    with pytest.raises(DataError, match=r"a\.mp4 is not a video that can be read"):
        read_video(tmp_path / "a.mp4")
