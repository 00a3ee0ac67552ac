"""Random views of an image: crops, flips and other light, drawn from the run's own randomness.

What changes between two views of one image is what does not matter for what it shows: place, size, side and light.
Statistics that take in views learn to disregard it. A view is determined by a seed, the image and its number, so that
it is the same in every order of a stream and can be cached.

Shapes: H and W sides of an image.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

__all__ = ["View", "ViewPlan"]

AREA = (0.35, 1.0)  # share of the image that a crop keeps
ASPECT = 0.2  # largest logarithm of its change of proportions
LIGHT = (0.6, 1.4)  # factors of brightness, contrast and saturation


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """How many random views are drawn of which images of an experience.

    Few images get many views each; of many, such as a video's frames, some that are evenly apart get one.

    Attributes:
        views: of an image, at most. budget: of an experience, at most.
    """

    views: int = 0
    budget: int = 0
    seed: int = 0

    def chosen(self, images: int) -> list[tuple[int, int]]:
        """Image and number of each view, in the order of the images."""
        if images == 0 or min(self.views, self.budget) < 1:
            return []
        each = max(1, min(self.views, self.budget // images))
        places = np.unique(np.linspace(0, images - 1, min(images, self.budget // each)).round().astype(int))
        return [(place, number) for place in places.tolist() for number in range(each)]


@dataclass(frozen=True)
class View:
    """One random view of a source; ``place`` is the source's among those of its experience."""

    source: Any
    seed: int
    number: int
    place: int

    def key(self, image: bytes) -> bytes:
        """Identity of the view of an image with that identity."""
        return blake2b(image + f"view {self.seed} {self.number}".encode(), digest_size=16).digest()

    def of(self, image_HWC: np.ndarray, size: int, resample: int) -> np.ndarray:
        """uint8 (size, size, 3) of an image (H, W, 3)."""
        named = isinstance(self.source, (str, os.PathLike))
        name = os.fsencode(self.source) if named else image_HWC.tobytes()
        rng = np.random.default_rng([self.seed, self.number, zlib.crc32(name)])
        return random_view(image_HWC, rng, size, resample)


def random_view(image_HWC: np.ndarray, rng: np.random.Generator, size: int, resample: int) -> np.ndarray:
    """A crop of 35 to 100 % of the area, flipped or not, in other light, resized to (size, size, 3) uint8."""
    height, width = image_HWC.shape[:2]
    area, proportions = rng.uniform(*AREA) * height * width, float(np.exp(rng.uniform(-ASPECT, ASPECT)))
    wide = min(width, max(1, round((area * proportions) ** 0.5)))
    high = min(height, max(1, round((area / proportions) ** 0.5)))
    left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
    image = Image.fromarray(image_HWC).resize(
        (size, size), resample, box=(left, top, left + wide, top + high)
    )
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(rng.uniform(*LIGHT))
    return np.asarray(image)
