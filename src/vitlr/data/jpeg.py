"""A JPEG that lacks only its last bytes, as a copy that was cut short does."""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image

__all__ = ["without_end"]

_END = b"\xff\xd9"
_FILLER = b"\x5a\xa5\x3c\xc3"  # bits of any pictures
_LOST = 0.01  # share of the pixels that may be lost
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


def without_end(content: bytes) -> Image.Image | None:
    """The image of a JPEG that ends early, if no more than a hundredth of its pixels is lost, else None.

    What is lost shows by decoding it twice, with different bits in place of those that are missing: pixels that
    differ depend on them.
    """
    content = content[:-1] if content.endswith(b"\xff") else content
    if not _has_all_scans(content):
        return None
    images = []
    for filler in (b"", _FILLER * (len(content) // len(_FILLER) + 1024)):
        image = Image.open(io.BytesIO(content + filler + _END), formats=("JPEG",))
        image.load()
        images.append(image)
    first, second = (np.asarray(image) for image in images)
    differ = (first != second).reshape(*first.shape[:2], -1).any(axis=2)
    return images[0] if differ.mean() <= _LOST else None


def _has_all_scans(content: bytes) -> bool:
    """True if the scans that began hold every coefficient to its last bit (ITU-T T.81, B.2)."""
    missing: dict[int, set[int]] = {}  # component -> coefficients not yet sent
    sequential, at = False, 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        segment = content[at + 4 : at + 2 + length]
        at += 2 + length
        if marker in (0xC0, 0xC1, 0xC2) and len(segment) >= 6:
            sequential = marker != 0xC2
            missing = {component: set(range(64)) for component in segment[6::3]}
        elif marker == 0xDA and len(segment) >= 4:
            components = segment[1 : 1 + 2 * segment[0] : 2]
            first, last, bits = segment[-3:] if not sequential else (0, 63, 0)
            if bits & 15 == 0:
                for component in components:
                    missing.get(component, set()).difference_update(range(first, last + 1))
            found = _NEXT_MARKER.search(content, at)
            at = found.start() if found else len(content)
    return bool(missing) and not any(missing.values())
