"""From a decoded image of any mode to RGB, as viewers show it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from vitlr.errors import DataError

__all__ = ["to_rgb"]

_ORIENTATION = 0x0112  # EXIF tag
_PHOTOMETRIC, _BITS = 262, 258  # TIFF tags


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image as RGB: turned as its EXIF data say, transparency laid over white.

    Greys of 12, 16 or 32 bits, 0..4095 or 0..65535, become 8 bits; CMYK and LAB go through their profile, CMYK
    without one as Pillow converts it.

    Raises:
        DataError: values out of range; LAB in a Pillow without LittleCMS.
    """
    image = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        return _from_floats(np.asarray(image))
    if image.mode.startswith("I"):
        return _from_long_greys(image)
    if image.mode == "LAB":
        return _by_profile(image, None)
    if image.mode == "CMYK" and image.info.get("icc_profile"):
        return _by_profile(image, image.info["icc_profile"])
    if image.mode == "La":
        image = image.convert("LA")
    clear = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in clear)  # of 16 bits, as the pixels were
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # an image with broken EXIF data is still an image
        return image
    if not turned:
        return image
    upright = ImageOps.exif_transpose(image)
    upright.format = image.format
    if hasattr(image, "tag_v2"):
        upright.tag_v2 = image.tag_v2  # type: ignore[attr-defined]  # _from_long_greys looks at them
    return upright


def _from_floats(array_HW: np.ndarray) -> Image.Image:
    if not (array_HW.min() >= 0 and array_HW.max() <= 1):  # false for NaN as well
        raise DataError("a float image must be within 0..1; convert values of 0..255 to uint8")
    return Image.fromarray(np.round(array_HW * 255.0).astype(np.uint8)).convert("RGB")


def _from_long_greys(image: Image.Image) -> Image.Image:
    """Greys of more than 8 bits. Integers take less memory than floats."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    most = 4095 if tags.get(_BITS) == (12,) else 65535
    grey_HW = np.asarray(image)
    if grey_HW.size and not 0 <= int(grey_HW.min()) <= int(grey_HW.max()) <= most:
        raise DataError(
            f"a grey image has values from {grey_HW.min()} to {grey_HW.max()}, beyond 0..{most}; convert it to 8 or"
            " 16 bits"
        )
    transparent = image.info.get("transparency")
    clear_HW = None if not isinstance(transparent, int) else grey_HW == transparent
    # Rounded to the nearest: the divisor is odd, so that no value is halfway.
    grey_HW = ((grey_HW.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0 and image.mode.startswith("I;16"):
        grey_HW = 255 - grey_HW  # zero is white; Pillow inverts 8 bits only
    if clear_HW is not None:
        grey_HW[clear_HW] = 255
    return Image.fromarray(grey_HW).convert("RGB")


def _by_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """LAB, or CMYK with a colour profile, to sRGB; CMYK without a usable profile as Pillow converts it."""
    try:
        from PIL import ImageCms

        origin = (
            ImageCms.createProfile("LAB")
            if profile is None
            else ImageCms.ImageCmsProfile(io.BytesIO(profile))
        )
        shown = ImageCms.profileToProfile(image, origin, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except Exception as error:  # no LittleCMS, or a profile that is damaged or of another colour space
        if image.mode == "CMYK":
            return image.convert("RGB")
        raise DataError(f"a LAB image cannot be converted ({error}); save it as RGB") from None
    assert shown is not None  # as it is only where the image itself is changed
    return shown
