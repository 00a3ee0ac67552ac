"""Reading images of every kind, checked against Pillow's own conversions and hand-made pixels."""

from __future__ import annotations

import io
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from vitlr.data.decoding import announced, webp_canvas
from vitlr.data.images import as_images, iter_batches, read_image, resolve
from vitlr.errors import DataError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, format_: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


# -- modes ------------------------------------------------------------------------------------------


def test_an_rgb_png_is_read_unchanged_from_path_bytes_pil_and_array(tmp_path: Path, rng) -> None:
    pixels = noise(rng, 128, 128, 3)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    for source in (path, str(path), path.read_bytes(), Image.open(path), pixels):
        image = read_image(source)
        np.testing.assert_array_equal(image, pixels)
        assert image.dtype == np.uint8 and image.flags.writeable and image.flags.c_contiguous


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_opaque_modes_become_rgb_as_pillow_converts_them(mode: str, rng) -> None:
    image = Image.fromarray(noise(rng, 9, 7, 3)).convert(mode)
    np.testing.assert_array_equal(read_image(image), np.asarray(image.convert("RGB")))
    if mode in ("L", "1", "P", "RGB"):
        np.testing.assert_array_equal(read_image(encoded(image)), np.asarray(image.convert("RGB")))
    if mode == "CMYK":
        content = encoded(image, "JPEG")
        np.testing.assert_array_equal(
            read_image(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        )


def test_transparency_is_laid_over_white() -> None:
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    wanted = [[[200, 100, 0], [255, 255, 255], [204, 204, 204]]]
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(rgba))), wanted)
    np.testing.assert_array_equal(read_image(rgba), wanted)
    la = Image.new("LA", (2, 1))
    la.putdata([(0, 255), (0, 0)])
    np.testing.assert_array_equal(read_image(encoded(la)), [[[0] * 3, [255] * 3]])


def test_a_transparent_colour_of_a_palette_or_rgb_png_is_laid_over_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    np.testing.assert_array_equal(
        read_image(encoded(palette, transparency=1)), [[[10, 20, 30], [255, 255, 255]]]
    )
    rgb = Image.new("RGB", (2, 1))
    rgb.putdata([(1, 2, 3), (4, 5, 6)])
    np.testing.assert_array_equal(
        read_image(encoded(rgb, transparency=(4, 5, 6))), [[[1, 2, 3], [255, 255, 255]]]
    )


def test_sixteen_bit_greys_are_scaled_to_eight() -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    wanted = np.repeat(np.array([[0, 1, 128, 255]], dtype=np.uint8)[:, :, None], 3, axis=2)
    sixteen = Image.fromarray(values)
    assert sixteen.mode == "I;16"
    np.testing.assert_array_equal(read_image(encoded(sixteen)), wanted)
    np.testing.assert_array_equal(read_image(encoded(sixteen, "TIFF")), wanted)
    np.testing.assert_array_equal(read_image(Image.fromarray(values.astype(np.int32))), wanted)


def test_exif_orientation_is_applied(rng) -> None:
    image = Image.fromarray(noise(rng, 6, 4, 3))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for format_ in ("PNG", "TIFF"):
            content = encoded(image, format_, exif=exif)
            turned = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
            np.testing.assert_array_equal(read_image(content), np.asarray(turned))
        assert read_image(encoded(image, "JPEG", exif=exif)).shape == (
            (6, 4, 3) if orientation < 5 else (4, 6, 3)
        )


def test_an_image_with_broken_exif_is_still_an_image(rng) -> None:
    image = Image.fromarray(noise(rng, 4, 4, 3))
    assert read_image(encoded(image, "JPEG", exif=b"Exif\x00\x00not EXIF at all")).shape == (4, 4, 3)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    for format_ in ("GIF", "PNG", "WEBP"):
        content = encoded(frames[0], format_, save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_array_equal(read_image(content), np.full((3, 3, 3), (255, 0, 0)))


def test_one_pixel_is_an_image() -> None:
    np.testing.assert_array_equal(
        read_image(Image.new("RGB", (1, 1), "red"), 2), np.full((2, 2, 3), (255, 0, 0))
    )


def test_another_size_is_resized_with_the_given_filter(rng) -> None:
    image = Image.fromarray(noise(rng, 20, 30, 3))
    for resample in (Image.Resampling.BILINEAR, Image.Resampling.NEAREST):
        wanted = np.asarray(image.resize((16, 16), resample))
        np.testing.assert_array_equal(read_image(image, 16, int(resample)), wanted)
    np.testing.assert_array_equal(read_image(noise(rng, 16, 16, 3), 16).shape, (16, 16, 3))


# -- arrays -----------------------------------------------------------------------------------------


def test_float_arrays_within_0_and_1_are_scaled_by_255() -> None:
    np.testing.assert_array_equal(read_image(np.array([[0, 0.5, 1]]))[0, :, 0], [0, 128, 255])
    np.testing.assert_array_equal(read_image(np.ones((2, 2, 3), np.float32)), np.full((2, 2, 3), 255))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 4, 3), 200.0), "must lie within 0..1"),
        (np.full((4, 4, 3), np.nan), "must lie within 0..1"),
        (np.zeros((4, 4, 3), np.int64), "must be uint8, or float within 0..1, got int64"),
        (np.zeros((3, 9, 9), np.uint8), r"\(H, W\) or \(H, W, C\) with C 1, 3 or 4, got \(3, 9, 9\)"),
        (np.zeros((0, 4, 3), np.uint8), "got"),
        (np.array("text"), "is not an image"),
        (None, "NoneType is not an image; give a path, PIL image or array"),
    ],
)
def test_arrays_of_another_kind_are_refused(array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_image(array)


def test_as_images_takes_one_or_many(tmp_path: Path, rng) -> None:
    one = noise(rng, 8, 8, 3)
    for single in ("a.png", Path("a.png"), b"bytes", Image.new("L", (2, 2)), one, one[:, :, 0]):
        assert len(as_images(single)) == 1
    assert len(as_images(noise(rng, 5, 8, 8, 3))) == 5
    assert len(as_images(noise(rng, 5, 8, 8))) == 5
    assert as_images([one, "a.png"])[1] == "a.png"
    assert as_images(np.array(["a.png", "b.png"])) == ["a.png", "b.png"]
    assert as_images([]) == [] and as_images(np.zeros((0, 8, 8, 3))) == []
    assert as_images(path for path in ("a", "b")) == ["a", "b"]
    with pytest.raises(DataError, match="must be paths, PIL images or arrays, got int"):
        as_images(3)


# -- files that are no images -----------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_a_truncated_file_is_named(tmp_path: Path, rng, format_: str) -> None:
    content = encoded(Image.fromarray(noise(rng, 64, 64, 3)), format_)
    path = tmp_path / "cut"
    for length in (len(content) // 2, len(content) * 9 // 10):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"cut .*; replace or remove it"):
            read_image(path)


def test_a_png_without_its_last_bytes_is_truncated_though_pillow_reads_it(tmp_path: Path, rng) -> None:
    content = encoded(Image.fromarray(noise(rng, 64, 64, 3)))
    Image.open(io.BytesIO(content[:-5])).load()
    with pytest.raises(DataError, match="is truncated"):
        read_image(content[:-5])
    assert read_image(content + b"something appended").shape == (64, 64, 3)


def test_files_that_are_no_images_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("empty.png", r"empty.png is empty \(0 bytes\); replace or remove it"),
        (
            "text.png",
            r"text.png is text, not an image of a format that is read here \(JPEG, PNG, .*\); replace",
        ),
        ("folder.png", "folder.png is a folder, not a file"),
        ("absent.png", "absent.png does not exist; check the path"),
        ("nul\0.png", "is not a path"),
    ):
        with pytest.raises(DataError, match=message):
            read_image(tmp_path / name)


@pytest.mark.parametrize("action", ["error", "ignore", "default"])
@pytest.mark.parametrize("side", [11, 15])  # once and twice the limit: Pillow warns, Pillow refuses
def test_a_decompression_bomb_is_refused_whatever_the_warning_filters(monkeypatch, side: int, action) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    content = encoded(Image.new("L", (side, side)))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter(action)
        with pytest.raises(DataError, match="has more than 100 pixels"):
            read_image(content)


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"quality": 60}, {"lossless": True, "exif": b"Exif"}]
)
def test_a_webp_tells_its_size_before_pillow_makes_room_for_it(options: dict) -> None:
    content = encoded(Image.new("RGB", (300, 70), "red"), "WEBP", **options)
    assert webp_canvas(content[:4096]) == (300, 70) and announced(content) == ("WEBP", 21_000)
    with pytest.raises(DataError, match="more than 20,999 pixels"):
        read_image(content, max_pixels=20_999)


def test_a_bound_of_the_caller_is_compared_with_what_the_header_announces(tmp_path: Path) -> None:
    content = encoded(Image.new("L", (20, 10)))
    assert read_image(content, max_pixels=200).shape == (10, 20, 3) and announced(content) == ("PNG", 200)
    header = encoded(Image.new("L", (20_000, 10)))[:45]  # without pixels
    with pytest.raises(DataError, match="has more than 199,999 pixels"):
        read_image(header, max_pixels=199_999)
    (tmp_path / "text").write_text("no image")
    assert announced(tmp_path / "text") == announced(tmp_path / "absent") == announced(b"") == ("", 0)


def test_reading_changes_no_global_state(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    before = list(warnings.filters)
    with pytest.raises(DataError):
        read_image(tmp_path / "text.png")
    assert warnings.filters == before


# -- batches ----------------------------------------------------------------------------------------


@pytest.fixture
def numbered(tmp_path: Path) -> tuple[Path, list[str]]:
    """50 images whose pixels are their number; the early ones are larger, so they are decoded last."""
    paths = [f"{i:02d}.png" for i in range(50)]
    for i, path in enumerate(paths):
        Image.new("RGB", (400 if i % 7 == 0 else 8,) * 2, (i, i, i)).save(tmp_path / path)
    return tmp_path, paths


@pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
def test_threads_keep_the_order(numbered, batch_size: int) -> None:
    root, paths = numbered
    batches = list(iter_batches(paths, root, size=8, batch_size=batch_size, workers=4))
    rows = np.concatenate([rows for rows, _ in batches])
    images = np.concatenate([images for _, images in batches])
    np.testing.assert_array_equal(rows, np.arange(50))
    np.testing.assert_array_equal(images[:, 3, 3, 1], np.arange(50))
    assert images.shape == (50, 8, 8, 3) and images.dtype == np.uint8 and rows.dtype == np.int64
    assert [len(rows) for rows, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)


def test_the_first_bad_image_is_named_after_the_batches_before_it(numbered) -> None:
    root, paths = numbered
    (root / "23.png").write_bytes(b"")
    (root / "21.png").write_bytes((root / "21.png").read_bytes()[:60])
    read = []
    with pytest.raises(DataError, match=r"21\.png"):
        for rows, _ in iter_batches(paths, root, size=8, batch_size=10):
            read.extend(rows)
    assert read == list(range(20))


def test_bad_images_are_skipped_when_asked_for(numbered) -> None:
    root, paths = numbered
    for name in ("10.png", "11.png", "37.png"):
        (root / name).write_bytes(b"no image")
    batches = list(iter_batches(paths, root, size=8, batch_size=2, on_bad="skip"))
    rows = np.concatenate([rows for rows, _ in batches])
    assert sorted(set(range(50)) - set(rows.tolist())) == [10, 11, 37]
    images = np.concatenate([images for _, images in batches])
    np.testing.assert_array_equal(images[:, 0, 0, 0], rows)
    assert len(batches) == 24  # the batch of 10 and 11 has nothing to yield


def test_only_a_few_batches_are_read_ahead(numbered, monkeypatch) -> None:
    root, paths = numbered
    from vitlr.data import images

    seen = []
    original = images.read_image
    monkeypatch.setattr(
        images,
        "read_image",
        lambda path, *rest, **more: (seen.append(path), original(path, *rest, **more))[1],
    )
    batches = iter_batches(paths, root, size=8, batch_size=5)
    next(batches)
    batches.close()
    assert len(seen) <= 5 * images.AHEAD


def test_threads_end_with_the_iterator(numbered) -> None:
    root, paths = numbered
    before = threading.active_count()
    batches = iter_batches(paths, root, size=8, batch_size=5)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_paths_may_not_leave_the_root(tmp_path: Path) -> None:
    windows = ("C:\\a.png", "..\\a.png") if os.name == "nt" else ()
    for path in ("../a.png", "a/../../b.png", "/etc/a.png", *windows):
        with pytest.raises(DataError, match="leads out of"):
            resolve(tmp_path, path)
        with pytest.raises(DataError, match="leads out of"):
            list(iter_batches([path], tmp_path, size=8))
    assert resolve(tmp_path, "a/b.png") == tmp_path / "a" / "b.png"


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_backslashes_and_colons_are_letters_of_a_name_on_this_system(tmp_path: Path) -> None:
    for name in (r"\frac", "a: cups", "C:", "..."):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), "red").save(tmp_path / name / "0.png")
        assert resolve(tmp_path, f"{name}/0.png").is_file()
        assert len(list(iter_batches([f"{name}/0.png"], tmp_path, size=8))) == 1


def test_no_paths_give_no_batches_and_bad_settings_are_refused_at_once(tmp_path: Path) -> None:
    assert list(iter_batches([], tmp_path, size=8)) == []
    with pytest.raises(DataError, match="on_bad must be error or skip"):
        iter_batches([], tmp_path, size=8, on_bad="ignore")
    with pytest.raises(DataError, match="batch_size and workers must be >= 1"):
        iter_batches([], tmp_path, size=8, batch_size=0)
