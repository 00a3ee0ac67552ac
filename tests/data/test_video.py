"""Frames of videos: sampled as said, treated as images are, in bounded memory; bad videos give one sentence."""

from __future__ import annotations

import json
import os
import struct
import sys
import tracemalloc
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import vitlr.data.animation as animation_module
import vitlr.data.pictures as pictures_module
import vitlr.data.video as module
from tests.runs.conftest import save_tiny_vit
from vitlr.classifier import LatentReplayClassifier
from vitlr.cli import main
from vitlr.data.images import read_image
from vitlr.data.pictures import pictures
from vitlr.data.video import Bounds, Sampled, Video, is_video, read_video
from vitlr.errors import DataError

av = pytest.importorskip("av")

KINDS = {"mp4": "libx264", "mov": "libx264", "mkv": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4"}


def write_video(path: Path, images: Iterable[np.ndarray], codec: str | None = None, rate: int = 20) -> Path:
    """Images (H, W, 3), sides even, as a video; the suffix says of which kind."""
    with av.open(str(path), "w") as container:
        stream = None
        for image in images:
            if stream is None:
                stream = container.add_stream(codec or KINDS[path.suffix[1:]], rate=rate)
                stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
                stream.bit_rate = 8_000_000
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def steps(num: int, side: int = 64) -> list[np.ndarray]:
    """Grey frames whose brightness tells their number: 20, 27, 34, ..."""
    return [np.full((side, side, 3), 20 + 7 * n, np.uint8) for n in range(num)]


def numbers(images: Iterable[np.ndarray]) -> list[int]:
    return [round((float(image.mean()) - 20) / 7) for image in images]


def write_animation(path: Path, images: list[np.ndarray]) -> Path:
    first, *others = [Image.fromarray(image) for image in images]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, duration=50, **options)
    return path


def animation(path: Path, num: int = 10) -> Path:
    return write_animation(path, steps(num))


# -- what is taken --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_of_a_short_video_is_taken_in_order(tmp_path: Path, kind: str) -> None:
    path = write_video(tmp_path / f"clip.{kind}", steps(30))
    said: list[Sampled] = []
    images = read_video(Video(path, on_read=said.append), 32)
    assert {(image.shape, image.dtype) for image in images} == {((32, 32, 3), np.dtype(np.uint8))}
    assert numbers(images) == list(range(30))
    assert said == [Sampled(path=str(path), taken=30, step=1, seen=30, whole=True)]
    assert said[0].counts == "30 of 30 frames (each)"
    assert read_video(str(path))[0].shape == (64, 64, 3)


@pytest.mark.parametrize("kind", ["gif", "webp", "apng"])
def test_frames_of_an_animation_are_those_that_pillow_gives(tmp_path: Path, kind: str) -> None:
    path = animation(tmp_path / f"clip.{kind}")
    assert is_video(path) and numbers(read_video(path)) == list(range(10))
    noise = list(np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), dtype=np.uint8))
    write_animation(path, noise)
    with Image.open(path) as image:
        for index, taken in enumerate(read_video(path, 32)):
            image.seek(index)
            assert np.array_equal(taken, read_image(image.convert("RGB"), 32))


def test_a_frame_of_a_video_is_resized_as_an_image_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((160, 120), Image.Resampling.BICUBIC))
    path = write_video(tmp_path / "clip.mp4", [smooth] * 5)
    (first, *_) = read_video(path, 48)
    assert np.abs(first.astype(int) - read_image(smooth, 48)).mean() < 4  # what the codec loses
    assert np.array_equal(first, read_image(read_video(path)[0], 48))


def test_transparent_frames_lie_on_white_as_images_do(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (8, 8), (0, 0, 0, alpha)) for alpha in (0, 255)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert [int(image.mean()) for image in read_video(tmp_path / "a.webp")] == [255, 0]


@given(num=st.integers(1, 400), limit=st.integers(1, 60), every=st.none() | st.integers(1, 30))
def test_frames_are_evenly_spread_and_never_more_than_asked_for(
    num: int, limit: int, every: int | None
) -> None:
    drawn = [np.full((1, 1, 3), (n % 256, n // 256, 0), np.uint8) for n in range(num)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module,
            "decoded_frames",
            lambda path, needed, notes, bounds: (partial(Image.fromarray, image) for image in drawn),
        )
        said: list[Sampled] = []
        images = read_video(Video("clip.mp4", every, limit, said.append))
    taken = [int(image[0, 0, 0]) + 256 * int(image[0, 0, 1]) for image in images]
    if every is not None:
        assert taken == list(range(0, num, every))[:limit]
        assert said[0].whole == (len(taken) < limit or taken[-1] == num - 1)
    else:
        step = next(2**power for power in range(20) if len(range(0, num, 2**power)) <= limit)
        assert taken == list(range(0, num, step)) and said[0].step == step and said[0].whole
        assert len(taken) > limit // 2 or len(taken) == num
    assert said[0].taken == len(taken)


def test_every_stops_where_enough_are_taken_and_says_so(tmp_path: Path) -> None:
    said: list[Sampled] = []
    images = read_video(Video(animation(tmp_path / "a.gif"), 3, 2, said.append))
    assert numbers(images) == [0, 3] and said[0].counts == "2 of the first 4 frames (every 3rd)"


@pytest.mark.parametrize("settings", [{"every": 0}, {"max_frames": 0}, {"every": -1}])
def test_sampling_settings_have_a_range(settings: dict[str, int]) -> None:
    with pytest.raises(DataError, match=f"{next(iter(settings))} must be >= 1"):
        Video("clip.mp4", **settings)


def test_a_long_video_needs_the_memory_of_the_frames_that_are_taken(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", (steps(30) * 14)[:400])
    read_video(Video(path, max_frames=2), 128)  # what is imported on the way is no part of it
    tracemalloc.start()
    images = read_video(Video(path, max_frames=8), 128)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(images) == 7 and peak < 12 * images[0].nbytes  # 400 of them would be 19 MB


def test_only_videos_and_animations_count_as_videos(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "still.gif")
    (tmp_path / "damaged.gif").write_bytes(b"GIF89a")
    assert is_video("clip.MP4") and is_video(Video("x")) and is_video(animation(tmp_path / "a.gif"))
    others = ("still.gif", "damaged.gif", "missing.gif", "a.png", "a\0.gif")
    assert not any(is_video(tmp_path / name) for name in others)
    assert not is_video(np.zeros((4, 4, 3))) and not is_video(b"clip.mp4")


def test_a_video_that_says_how_it_was_held_is_turned_upright(tmp_path: Path) -> None:
    """The matrix of the track, as a telephone writes it (ISO 14496-12, tkhd)."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48] = 255  # white where up and left meet
    path = write_video(tmp_path / "clip.mp4", [image] * 3)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", content[at : at + 36])[:5] == (65536, 0, 0, 0, 65536)
    for matrix, white in (
        ((0, 65536, 0, -65536, 0), np.rot90(image, -1)),  # to be shown turned clockwise
        ((-65536, 0, 0, 0, -65536), np.rot90(image, 2)),
        ((0, -65536, 0, 65536, 0), np.rot90(image, 1)),
    ):
        content[at : at + 20] = struct.pack(">5i", *matrix)
        path.write_bytes(content)
        shown = read_video(path)[0]
        assert shown.shape == white.shape and np.abs(shown.astype(int) - white).mean() < 8


# -- bad videos -----------------------------------------------------------------------------------------


def refusal(path: Path | str) -> str:
    with pytest.raises(DataError) as error:
        read_video(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", [*KINDS, "gif", "webp"])
def test_a_damaged_video_gives_its_frames_or_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"clip.{kind}"
    noise = [np.random.default_rng(n).integers(0, 256, (48, 64, 3), dtype=np.uint8) for n in range(12)]
    whole = (write_video if kind in KINDS else write_animation)(path, noise)
    content, rng, refused = whole.read_bytes(), np.random.default_rng(0), 0
    for trial in range(60):  # cut off, changed near the beginning, changed anywhere
        damaged = bytearray(content[: int(rng.integers(len(content)))] if trial % 3 == 0 else content)
        for _ in range(20 if trial % 3 else 0):
            damaged[int(rng.integers(400 if trial % 3 == 1 else len(damaged)))] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            images = read_video(path, 16)
        except DataError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert 1 <= len(images) <= 300
    assert refused > 5


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nSECRET\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile SECRET\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        b'<?xml version="1.0"?><MPD><Period><BaseURL>SECRET</BaseURL></Period></MPD>',
        b"not a video at all",
    ],
)
def test_a_file_that_names_other_files_or_addresses_is_no_video(tmp_path: Path, content: bytes) -> None:
    secret = write_video(tmp_path / "secret.mp4", steps(3))
    path = tmp_path / "clip.mp4"
    path.write_bytes(content.replace(b"SECRET", str(secret).encode()))
    assert "is not a video that can be read" in refusal(path)


def test_what_is_no_file_has_no_end_and_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "is a pipe, not a file" in refusal(tmp_path / "pipe.mp4")
    assert "is a device, not a file" in refusal("/dev/zero")
    assert "is a folder, not a file" in refusal(tmp_path)
    assert "does not exist; check the path" in refusal(tmp_path / "missing.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / "empty.mp4")


def test_frames_and_their_pixels_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film, gif = write_video(tmp_path / "clip.mp4", steps(12)), animation(tmp_path / "clip.gif", 12)
    monkeypatch.setattr(module, "MAX_DECODED", 11)
    assert "more than 11 frames; cut it" in refusal(film) and "more than 11 frames" in refusal(gif)
    assert len(read_video(Video(film, every=1, max_frames=11))) == 11
    for place in (module, animation_module):
        monkeypatch.setattr(place, "MAX_PIXELS", 64 * 64 - 1)
    assert "frames of 64x64, more than 4,095 pixels" in refusal(film)
    assert "frames of 64x64, more than 4,095 pixels" in refusal(gif)


def test_the_pixels_of_a_film_are_bounded_and_frames_are_shrunk_as_they_come(tmp_path: Path) -> None:
    film = write_video(tmp_path / "clip.mp4", steps(12))
    for bounds, message in (
        (Bounds(film=64 * 64 * 12 - 1), "more than 49,151 pixels in all"),
        (Bounds(frame=64 * 64 - 1), "frames of 64x64, more than 4,095 pixels"),
    ):
        with pytest.raises(DataError, match=message):
            read_video(film, bounds=bounds)
    sides: list[tuple[int, ...]] = []

    def fit(frame: np.ndarray) -> np.ndarray:
        sides.append(frame.shape)
        return frame[::2, ::2]

    small = read_video(film, fit=fit, bounds=Bounds(film=64 * 64 * 12, frame=64 * 64))
    assert sides == [(64, 64, 3)] * 12 and {frame.shape for frame in small} == {(32, 32, 3)}


@pytest.mark.parametrize("every", [None, 1, 2, 5])
@pytest.mark.parametrize("max_frames", [1, 3, 4, 12, 20])
def test_frames_of_their_own_size_come_one_at_a_time_if_they_are_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int | None, max_frames: int
) -> None:
    film, gif = write_video(tmp_path / "clip.mp4", steps(12)), animation(tmp_path / "clip.gif", 12)
    for path in (film, gif):
        video = Video(path, every=every, max_frames=max_frames)
        together = list(pictures(video))
        monkeypatch.setattr(pictures_module, "HELD", 0)
        alone = pictures(video)
        assert not isinstance(alone, list)
        found = list(alone)
        monkeypatch.undo()
        assert len(found) == len(together) and all(map(np.array_equal, found, together))


def test_sound_alone_and_rare_codecs_are_named(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    assert "holds no pictures" in refusal(tmp_path / "sound.mp4")
    rare = write_video(tmp_path / "rare.mkv", steps(3), codec="ffv1")
    assert "packed with ffv1, which is not read; convert it" in refusal(rare)


def test_without_pyav_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "clip.mp4", steps(3))
    gif = animation(tmp_path / "clip.gif")
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install 'vitlr[video]'" in refusal(path)
    assert len(read_video(gif)) == 10  # animations need none


# -- the classifier and the command ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vit(tmp_path_factory.mktemp("network") / "tiny")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def classifier(network: Path) -> LatentReplayClassifier:
    return LatentReplayClassifier(network, memory=30, precision="float32", batch_size=16)


def coloured(path: Path, colour: tuple[int, int, int], num: int = 12) -> Path:
    rng = np.random.default_rng(sum(colour))
    images = (np.array(colour) + rng.normal(scale=20, size=(num, 48, 64, 3))).clip(0, 255).astype(np.uint8)
    return write_video(path, images)


def test_a_video_among_images_counts_as_its_frames(network: Path, tmp_path: Path) -> None:
    red, blue = coloured(tmp_path / "red.mp4", (220, 30, 30)), coloured(tmp_path / "blue.webm", (30, 30, 220))
    still = np.full((32, 32, 3), (30, 220, 30), np.uint8)
    with_videos = classifier(network).partial_fit([red, still, str(blue)], ["red", "green", "blue"])
    frames = [*read_video(red), still, *read_video(blue)]
    by_frames = classifier(network).partial_fit(frames, ["red"] * 12 + ["green"] + ["blue"] * 12)
    assert with_videos.remember().latents == {"red": 12, "green": 1, "blue": 12}
    assert np.array_equal(with_videos.predict_proba(frames), by_frames.predict_proba(frames))
    assert np.array_equal(with_videos.predict_proba([red, still, blue]), by_frames.predict_proba(frames))
    assert len(with_videos.predict(Video(red, every=5))) == 3
    right = with_videos.predict([red, blue]) == np.array(["red"] * 12 + ["blue"] * 12)
    assert with_videos.score([red, blue], ["red", "blue"]) == right.mean()


def test_a_bad_video_leaves_the_classifier_as_it_was(network: Path, tmp_path: Path) -> None:
    red = coloured(tmp_path / "red.mp4", (220, 30, 30))
    model = classifier(network).partial_fit(red, "red")
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"bad")
    with pytest.raises(DataError, match="is not a video that can be read"):
        model.partial_fit([red, bad], "blue")
    assert model.remember().latents == {"red": 12}


def test_objects_taught_by_video_are_recognised_in_videos_of_another_session(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from vitlr.rendered.dataset import render_frame

    for session, kind in ((1, "mp4"), (2, "webm")):
        for label, object_ in (("plug", 1), ("ball", 31)):
            images = [render_frame(session, object_, index) for index in range(0, 300, 25)]
            write_video(tmp_path / f"{label}{session}.{kind}", images)
    robot = str(tmp_path / "robot")
    for label in ("plug", "ball"):
        video = str(tmp_path / f"{label}1.mp4")
        assert main(["teach", robot, "--label", label, video, "--max-frames", "6"]) == 0
        said = capsys.readouterr().out
        assert f"{video}: 6 of 12 frames (every 2nd)" in said and f"{label}: 6 images learned" in said
    videos = [str(tmp_path / f"{label}2.webm") for label in ("plug", "ball")]
    assert main(["predict", robot, *videos]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [[videos[0], "plug"], [videos[1], "ball"]]
    assert all(line[3] == "12 of 12 frames (each)" and 0.5 <= float(line[2]) <= 1 for line in lines)

    still = tmp_path / "still.png"
    Image.fromarray(render_frame(2, 31, 7)).save(still)
    assert main(["predict", robot, videos[1], str(still), "--json", "--every", "4", "--unknown", "?"]) == 0
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (first["path"], first["video"]["taken"], first["video"]["step"]) == (videos[1], 3, 4)
    assert second["path"] == str(still) and "video" not in second
    assert main(["teach", robot, "--label", "x", "--json", videos[0]]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["images"] == 12 and content["videos"][0]["path"] == videos[0]
    assert main(["teach", robot, "--label", "x", videos[0], "--every", "0"]) == 2
    assert "every must be >= 1" in capsys.readouterr().err


def test_a_folder_is_searched_for_videos_too(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "seen").mkdir()
    coloured(tmp_path / "seen" / "red.mp4", (220, 30, 30))
    command = ["teach", str(tmp_path / "robot"), "--label", "red", str(tmp_path / "seen")]
    assert main([*command, "--backbone", str(network)]) == 0
    assert "red: 12 images learned" in capsys.readouterr().out
