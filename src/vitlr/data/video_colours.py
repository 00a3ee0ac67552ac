"""A decoded frame of a video as RGB: by its colour matrix, range and transfer, and turned by its display matrix.

Sources: ITU-T H.273 (the numbers of matrices, ranges and transfers), ITU-R BT.2100 (PQ and HLG), ISO 14496-12
(the display matrix).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

__all__ = ["HDR", "hdr_of", "to_rgb", "turned"]

HDR = {16: "PQ", 18: "HLG"}  # transfer -> name
_BT709, _UNSPECIFIED, _BT2020 = 1, 2, 9
_TO_BT709 = np.array(  # linear RGB of BT.2020 to BT.709 (ITU-R BT.2087)
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
_WHITE, _PEAK = (
    203.0,
    1000.0,
)  # cd/m2: of white paper (ITU-R BT.2408), and of the brightest light that is kept


def hdr_of(frame: Any) -> str:
    """PQ or HLG if the frame is of high dynamic range, else nothing."""
    return HDR.get(int(frame.color_trc), "")


def to_rgb(frame: Any) -> np.ndarray:
    """uint8 (H, W, 3) of a PyAV frame, upright. High dynamic range is tone-mapped to what a plain screen shows.

    A frame that does not say its matrix has that of its size, as players assume: BT.709 from 1280 x 720 on,
    BT.601 below.
    """
    matrix = int(frame.colorspace)
    colours: dict[str, Any] = {"src_color_range": int(frame.color_range) or None}
    if matrix == _UNSPECIFIED and (frame.width >= 1280 or frame.height > 576):
        colours["src_colorspace"] = _BT709
    kind = hdr_of(frame)
    if not kind:
        return turned(frame.to_ndarray(format="rgb24", **colours), _display_matrix(frame))
    if matrix == _UNSPECIFIED:
        colours["src_colorspace"] = _BT2020
    deep = frame.to_ndarray(format="rgb48le" if sys.byteorder == "little" else "rgb48be", **colours)
    wide = int(frame.color_primaries) in (_BT2020, _UNSPECIFIED)
    return turned(_tone_mapped(deep.astype(np.float32) / 65535, kind, wide), _display_matrix(frame))


# -- high dynamic range -----------------------------------------------------------------------------


def _tone_mapped(signal_HWC: np.ndarray, kind: str, wide: bool) -> np.ndarray:
    """uint8 sRGB of a PQ or HLG signal within 0..1; ``wide``: of BT.2020's primaries."""
    light = (_pq_light if kind == "PQ" else _hlg_light)(signal_HWC) / _WHITE
    if wide:
        light = np.maximum(light @ _TO_BT709.T.astype(np.float32), 0)
    # Reinhard's curve by the brightest of the three, so that hues stay: what is as bright as _PEAK becomes 1.
    brightest = light.max(axis=2, keepdims=True)
    most = _PEAK / _WHITE
    light *= (1 + brightest / most**2) / (1 + brightest)
    light = np.clip(light, 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def _pq_light(signal: np.ndarray) -> np.ndarray:
    """cd/m2 (BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = signal ** (1 / m2)
    return 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg_light(signal_HWC: np.ndarray) -> np.ndarray:
    """cd/m2 on a screen of 1,000 (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal_HWC <= 0.5, signal_HWC**2 / 3, (np.exp((signal_HWC - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    return _PEAK * np.maximum(luminance, 1e-6)[..., None] ** 0.2 * scene


# -- the display matrix -----------------------------------------------------------------------------


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """a, b, c, d of x' = ax + cy, y' = bx + dy; those of no change if the frame has none."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            values = np.frombuffer(bytes(data), dtype="=i4")[[0, 1, 3, 4]].tolist()
            return (values[0], values[1], values[2], values[3])
    return (1, 0, 0, 1)


def turned(image_HWC: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """The image turned by quarters and mirrored; a matrix between is taken for the nearest of these."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        image_HWC = image_HWC.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        image_HWC = image_HWC[:, ::-1]
    if d < 0:
        image_HWC = image_HWC[::-1]
    return np.ascontiguousarray(image_HWC)
