"""Random views of an image: crops, flips and other light, drawn from the run's own randomness.

What changes between two views of one image is what does not matter for what it shows: place, size, side and light.
Statistics that take in views learn to disregard it. A view is determined by a seed, the image and its number, so that
it is the same in every order of a stream and can be cached.

Shapes: H and W sides of an image.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

__all__ = ["RECIPE", "View", "ViewPlan"]

AREA = (0.35, 1.0)  # share of the image that a crop keeps
ASPECT = 0.2  # largest logarithm of its change of proportions
LIGHT = (0.6, 1.4)  # factors of brightness, contrast and saturation
COLOUR = (0.7, 1.3)  # of each channel, as lamps of other colours give
RECIPE = (AREA, ASPECT, LIGHT, COLOUR)  # what a view is drawn by, besides its seed


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """How many random views are drawn of which images of an experience.

    Few images of a class get many views each; of many, such as a video's frames, some that are evenly apart get one.

    Attributes:
        views: of an image, at most. budget: of a class in one experience, at most.
    """

    views: int = 0
    budget: int = 0
    seed: int = 0

    def chosen(self, labels_N: np.ndarray) -> list[tuple[int, int]]:
        """Image and number of each view, in the order of the images, whose labels (N,) are given."""
        if len(labels_N) == 0 or min(self.views, self.budget) < 1:
            return []
        found: list[tuple[int, int]] = []
        for label in np.unique(labels_N):
            rows = np.flatnonzero(labels_N == label)
            each = max(1, min(self.views, self.budget // len(rows)))
            few = np.linspace(0, len(rows) - 1, min(len(rows), self.budget // each)).round().astype(int)
            found += [(int(row), number) for row in rows[np.unique(few)] for number in range(each)]
        return sorted(found)


@dataclass(frozen=True)
class View:
    """One random view of a picture of a source.

    Attributes:
        number: of the view among those of its picture. row: of the latent of that picture, in its experience.
        picture: its number in the source, which may be a video or a folder.
    """

    source: Any
    seed: int
    number: int
    row: int
    picture: int = 0

    def key(self, image: bytes) -> bytes:
        """Identity of the view of an image with that identity."""
        return blake2b(image + f"view {self.seed} {self.number}".encode(), digest_size=16).digest()

    def of(self, image_HWC: np.ndarray, size: int, resample: int) -> np.ndarray:
        """uint8 (size, size, 3) of an image (H, W, 3)."""
        # By what is in it, whatever it is called: a file and the array that is read from it have the same views.
        rng = np.random.default_rng([self.seed, self.number, zlib.crc32(np.ascontiguousarray(image_HWC))])
        return random_view(image_HWC, rng, size, resample)


def random_view(image_HWC: np.ndarray, rng: np.random.Generator, size: int, resample: int) -> np.ndarray:
    """A crop of 35 to 100 % of the area, flipped or not, in light of another strength and colour; (size, size, 3)."""
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
    return (np.asarray(image) * rng.uniform(*COLOUR, 3)).clip(0, 255).astype(np.uint8)
