"""What a file is, by its first bytes."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from dataclasses import dataclass

__all__ = ["HEAD", "Kind", "identify"]

HEAD = 4096  # bytes that are enough

# First bytes -> format. Group: image or video are read here; other is only named.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\xd8\xff", "JPEG", "image"),
    (b"\x89PNG\r\n\x1a\n", "PNG", "image"),
    (b"GIF8", "GIF", "image"),
    (b"II*\0", "TIFF", "image"),
    (b"MM\0*", "TIFF", "image"),
    (b"II+\0", "TIFF", "image"),
    (b"MM\0+", "TIFF", "image"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000", "image"),
    (b"\xff\x4f\xff\x51", "JPEG2000", "image"),
    (b"\x1a\x45\xdf\xa3", "Matroska", "video"),
    (b"\0\0\x01\xba", "MPEG", "video"),
    (b"\0\0\x01\xb3", "MPEG", "video"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF", "video"),
    (b"FLV\x01", "FLV", "video"),
    (b"YUV4MPEG2 ", "YUV4MPEG", "video"),
    (b"DKIF", "IVF", "video"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "MXF", "video"),
    (b"\x1f\x07\0", "DV", "video"),
    (b"\0\0\0\x0cJXL ", "JPEG XL", "other"),
    (b"\xff\x0a", "JPEG XL", "other"),
    (b"8BPS", "PSD", "other"),
    (b"%PDF", "PDF", "other"),
    (b"%!PS", "EPS", "other"),
    (b"\xc5\xd0\xd3\xc6", "EPS", "other"),
    (b"\0\0\x01\0", "ICO", "other"),
    (b"\x76\x2f\x31\x01", "OpenEXR", "other"),
    (b"#?RADIANCE", "Radiance HDR", "other"),
    (b"SIMPLE  =", "FITS", "other"),
    (b"gimp xcf", "XCF", "other"),
    (b"BPG\xfb", "BPG", "other"),
    (b"FUJIFILMCCD-RAW", "camera raw", "other"),
    (b"FOVb", "camera raw", "other"),
    (b"IIU\0", "camera raw", "other"),
    (b"IIRO", "camera raw", "other"),
    (b"\0\x05\x16\x07", "AppleDouble", "other"),
    (b"PK\x03\x04", "archive", "other"),
    (b"Rar!\x1a\x07", "archive", "other"),
    (b"7z\xbc\xaf\x27\x1c", "archive", "other"),
    (b"\x1f\x8b", "archive", "other"),
    (b"ID3", "sound", "other"),
    (b"fLaC", "sound", "other"),
    (b"version https://git-lfs", "Git LFS pointer", "other"),
)
_HEIF_BRANDS = {
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
    b"hevm",
    b"hevs",
    b"mif1",
    b"msf1",
    b"heif",
}
_BITMAPS = {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}  # of the header
_ATOMS = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}  # that old QuickTime files begin with
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1b")) + b"\x7f"


@dataclass(frozen=True)
class Kind:
    """What a file is: ``format`` by name, ``group`` image, video or other; empty if nothing is known."""

    format: str = ""
    group: str = ""

    def __bool__(self) -> bool:
        return bool(self.format)


def identify(head: bytes) -> Kind:
    """What a file is that begins with these bytes."""
    for magic, name, group in _MAGIC:
        if head.startswith(magic):
            if name == "TIFF" and head[8:10] == b"CR":
                return Kind("camera raw", "other")
            return Kind(name, group)
    for recognise in (_boxes, _containers, _maps, _stream, _text):
        kind = recognise(head)
        if kind:
            return kind
    return Kind("DICOM", "other") if head[128:132] == b"DICM" else Kind()


def _boxes(head: bytes) -> Kind:
    """Files of boxes (ISO 14496-12): MP4 and its kin, HEIC, AVIF, raw images."""
    if head[4:8] in _ATOMS:
        return Kind("QuickTime", "video")
    if head[4:8] != b"ftyp":
        return Kind()
    length = min(int.from_bytes(head[:4], "big"), 256)
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, length, 4)}
    if brands & {b"avif", b"avis"}:
        return Kind("AVIF", "image")
    if head[8:12] in _HEIF_BRANDS:
        return Kind("HEIC", "image")
    if head[8:12] == b"crx ":
        return Kind("camera raw", "other")
    return Kind("sound", "other") if head[8:12] in (b"M4A ", b"M4B ") else Kind("MP4", "video")


def _containers(head: bytes) -> Kind:
    if head[:4] == b"OggS":
        return Kind("Ogg", "video") if b"theora" in head[:512] else Kind("sound", "other")
    if head[:4] != b"RIFF":
        return Kind()
    found = {b"WEBP": Kind("WEBP", "image"), b"AVI ": Kind("AVI", "video"), b"WAVE": Kind("sound", "other")}
    return found.get(head[8:12], Kind())


def _maps(head: bytes) -> Kind:
    """Formats that begin like text or numbers do, so that more than the first bytes is looked at."""
    if re.match(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+(#[^\n]*\n\s*)*\d+\s", head):
        return Kind("PPM", "image")
    if head[:2] == b"BM" and head[14:18] in _BITMAPS:
        return Kind("BMP", "image")
    return Kind("DIB", "image") if head[:4] in _BITMAPS and head[12:14] == b"\x01\0" else Kind()


def _stream(head: bytes) -> Kind:
    """Transport streams, whose packets begin with one letter, and bare H.264 and H.265."""
    for first, step in ((0, 188), (4, 192)):
        packets = range(first, min(len(head), 5 * step), step)
        if len(packets) > 2 and all(head[at] == 0x47 for at in packets):
            return Kind("MPEG-TS", "video")
    for start in (b"\0\0\0\x01", b"\0\0\x01"):
        unit = head[len(start) : len(start) + 2]
        if head.startswith(start) and len(unit) == 2:
            if unit[0] in (0x40, 0x42, 0x44, 0x46) and unit[1] == 1:
                return Kind("H.265", "video")
            if not unit[0] & 0x80 and unit[0] & 0x1F in (7, 9):
                return Kind("H.264", "video")
            if unit[0] == 0 and unit[1] & 0xF0:  # a picture of MPEG-4 part 2 or the like
                return Kind()
    return Kind()


def _text(head: bytes) -> Kind:
    try:
        getincrementaldecoder("utf-8")().decode(head)  # which may end within a letter
    except UnicodeDecodeError:
        return Kind()
    if not head or head.translate(None, _CONTROL) != head:
        return Kind()
    begin = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if begin.startswith((b"<!doctype html", b"<html")) or b"<html" in begin:
        return Kind("web page", "other")
    return Kind("SVG", "other") if b"<svg" in begin else Kind("text", "other")
