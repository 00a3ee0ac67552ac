"""Pixels as viewers show them: depths, inverted greys, transparency, colour spaces, files cut short."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from vitlr.data.images import iter_batches, read_image
from vitlr.errors import DataError

CASES = Path(__file__).parent / "cases" / "pictures"


def encoded(image: Image.Image, format_: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def tiff(bits: int, photometric: int, pixels: bytes, width: int, order: str = "<") -> bytes:
    """One row of greys, uncompressed (TIFF 6.0, section 4)."""
    tags = [(256, 3, width), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 0)]
    tags += [(277, 3, 1), (278, 3, 1), (279, 4, len(pixels))]
    start = 8 + 2 + 12 * len(tags) + 4
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    for tag, kind, value in tags:
        value = start if tag == 273 else value
        packed = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        out += struct.pack(order + "HHI", tag, kind, 1) + packed
    return out + bytes(4) + pixels


def png(depth: int, colour: int, row: bytes, width: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """One row of pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def greys(image: np.ndarray) -> list[int]:
    assert (image == image[:, :, :1]).all()
    return image[0, :, 0].tolist()


SIXTEEN = np.array([0, 65535, 32768, 100])


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_of_both_byte_orders_are_scaled(order: str) -> None:
    assert greys(read_image(tiff(16, 1, SIXTEEN.astype(order + "u2").tobytes(), 4, order))) == [
        0,
        255,
        128,
        0,
    ]


def test_white_is_zero_is_inverted_in_eight_and_sixteen_bits() -> None:
    assert greys(read_image(tiff(8, 0, bytes([0, 255, 100]), 3))) == [255, 0, 155]
    assert greys(read_image(tiff(16, 0, SIXTEEN.astype("<u2").tobytes(), 4))) == [255, 0, 127, 255]


def test_an_inverted_image_is_inverted_once_when_it_is_turned() -> None:
    image = Image.fromarray(SIXTEEN.astype(np.uint16)[None])
    content = encoded(image, "TIFF", tiffinfo={262: 0, 274: 6})
    assert read_image(content)[:, 0, 0].tolist() == [255, 0, 127, 255]


def test_twelve_bits_reach_white() -> None:
    packed = (0 << 36 | 4095 << 24 | 2048 << 12 | 1024).to_bytes(6, "big")
    assert greys(read_image(tiff(12, 1, packed, 4))) == [0, 255, 128, 64]
    for most in (255, 4095, 65535):
        row = np.array([0, most], ">u2" if most > 255 else "u1").tobytes()
        assert greys(read_image(b"P5\n2 1\n%d\n" % most + row)) == [0, 255]


def test_a_png_of_twelve_bits_in_sixteen_is_scaled_as_its_standard_says() -> None:
    row = struct.pack(">3H", 0, 0x8008, 65535)
    assert greys(read_image(png(16, 0, row, 3, (b"sBIT", b"\x0c")))) == [0, 128, 255]


def test_a_transparent_value_of_sixteen_bits_is_white() -> None:
    row = struct.pack(">3H", 0, 1000, 65535)
    assert greys(read_image(png(16, 0, row, 3, (b"tRNS", struct.pack(">H", 1000))))) == [0, 255, 255]
    row = struct.pack(">6H", 1000, 2000, 3000, 65535, 0, 0)
    image = read_image(png(16, 2, row, 2, (b"tRNS", struct.pack(">3H", 1000, 2000, 3000))))
    assert image.tolist() == [[[255, 255, 255], [255, 0, 0]]]


def test_greys_beyond_sixteen_bits_are_refused_and_not_clipped() -> None:
    for value in (70_000, -1):
        with pytest.raises(DataError, match=r"values from .* beyond 0..65535"):
            read_image(Image.fromarray(np.array([[0, value]], np.int32)))


def test_grey_with_alpha_in_sixteen_bits_lies_on_white() -> None:
    assert read_image(CASES / "la16.png")[0, 0].tolist() == [100, 100, 100]


def test_cmyk_of_adobe_is_inverted_once() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    content = encoded(red, "JPEG", quality=95)
    assert b"Adobe" in content  # Pillow writes inverted values and says so, as Photoshop does
    for source in (content, encoded(red, "TIFF"), red):
        assert np.abs(read_image(source)[0, 0].astype(int) - [255, 0, 0]).max() < 3


def test_lab_is_shown_as_viewers_show_it() -> None:
    lab = Image.new("LAB", (2, 1))
    lab.putpixel((0, 0), (255, 128, 128))
    lab.putpixel((1, 0), (138, 128 + 80, 128 + 67))  # CIE L 54, a 80, b 67: red
    for source in (lab, encoded(lab, "TIFF")):
        white, red = read_image(source)[0].astype(int)
        assert np.abs(white - 255).max() < 3 and np.abs(red - [254, 0, 0]).max() < 15


def test_cmyk_goes_through_its_profile_and_a_broken_one_is_passed_over() -> None:
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    for profile in (b"broken", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        assert read_image(encoded(image, "TIFF", icc_profile=profile))[0, 0].tolist() == [255, 0, 0]


def test_a_kind_of_tiff_that_pillow_does_not_read_is_named() -> None:
    with pytest.raises(
        DataError, match="is a TIFF image that is damaged, or of a kind that Pillow does not read"
    ):
        read_image(tiff(16, 0, SIXTEEN.astype(">u2").tobytes(), 4, ">"))


def test_of_several_pages_the_first_is_read_and_that_is_said() -> None:
    pages = [Image.new("L", (4, 4), value) for value in (10, 20)]
    notes: list[str] = []
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert greys(read_image(content, on_note=notes.append))[0] == 10
    assert notes == ["the image has several pages, of which the first is read"]


def test_a_camera_raw_image_is_not_read_by_its_thumbnail(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16))
    (tmp_path / "a.tif").write_bytes(encoded(image, "TIFF", tiffinfo={50706: b"\1\4\0\0"}))
    with pytest.raises(DataError, match="is in camera raw format, which is not read here: develop it"):
        read_image(tmp_path / "a.tif")


# -- JPEG files cut short -------------------------------------------------------------------------------


def photo(**options) -> bytes:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    return encoded(small.resize((320, 240), Image.Resampling.BICUBIC), "JPEG", quality=90, **options)


def test_a_jpeg_that_lacks_its_last_bytes_is_read_with_a_note_or_refused() -> None:
    notes: list[str] = []
    path = CASES / "no-eoi.jpg"
    assert read_image(path, on_note=notes.append).shape == (48, 64, 3)
    assert notes == [f"{path} lacks its last bytes: it is read as far as it goes"]
    with pytest.raises(DataError, match=r"no-eoi.jpg is truncated"):
        read_image(path, strict=True)
    with pytest.raises(DataError, match=r"no-eoi.jpg is truncated"):
        list(iter_batches([path.name], CASES, size=8, strict=True))
    notes.clear()
    assert len(list(iter_batches([path.name], CASES, size=8, on_note=notes.append))) == 1 and len(notes) == 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_what_a_jpeg_lost_is_at_most_a_hundredth_of_its_pixels(options) -> None:
    content = photo(**options)
    whole = read_image(content)
    for lost in (1, 2, 3, 10):
        differ = (read_image(content[:-lost]) != whole).any(axis=2).mean()
        assert differ <= 0.01 and (lost > 2 or not differ)
    for lost in (1000, len(content) // 4, len(content) // 2):
        with pytest.raises(DataError, match="is truncated"):
            read_image(content[:-lost])


def test_a_progressive_jpeg_cut_between_two_scans_is_not_taken_for_whole() -> None:
    content = photo(progressive=True)
    scans = [at for at in range(len(content) - 1) if content[at : at + 2] == b"\xff\xda"]
    for at in scans[1:]:
        with pytest.raises(DataError, match="truncated"):
            read_image(content[:at])
