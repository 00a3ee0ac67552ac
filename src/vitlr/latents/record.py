"""Latents as one record: the tokens at the cut, and the class tokens of chosen frozen blocks.

The trunk computes a class token after every block anyway; kept beside the tokens at the cut they are what statistics of
frozen features are made of. A method that keeps none has K = 0.

Shapes: N images, T tokens at the cut, D width, K blocks whose class tokens are kept, V random views of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Encoded", "Latents"]


@dataclass(frozen=True, eq=False)
class Latents:
    """What the trunk makes of N images.

    Attributes:
        tokens_NTD: tokens after block ``cut``; the class token alone at the last cut; pixels in native replay.
        class_tokens_NKD: class tokens after each of the chosen blocks, before the final norm.
        views_NVKD: the same of V random views of each image; V is 0 unless views were encoded.
    """

    tokens_NTD: Tensor
    class_tokens_NKD: Tensor = None  # type: ignore[assignment]  # replaced below: none are kept
    views_NVKD: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        num, _, width = self.tokens_NTD.shape
        if self.class_tokens_NKD is None:
            object.__setattr__(self, "class_tokens_NKD", self.tokens_NTD.new_zeros(num, 0, width))
        if self.views_NVKD is None:
            blocks = self.class_tokens_NKD.shape[1]
            object.__setattr__(self, "views_NVKD", self.class_tokens_NKD.new_zeros(num, 0, blocks, width))
        if not len(self.tokens_NTD) == len(self.class_tokens_NKD) == len(self.views_NVKD):
            raise ValueError("tokens, class tokens and views must be of the same images")

    def __len__(self) -> int:
        return len(self.tokens_NTD)

    def __getitem__(self, rows: np.ndarray | Tensor | slice) -> Latents:
        """The latents of these images."""
        if isinstance(rows, np.ndarray):
            rows = torch.from_numpy(rows)
        return self._each(lambda part: part[rows.to(part.device) if isinstance(rows, Tensor) else rows])

    def to(self, device: torch.device) -> Latents:
        """The same on a device."""
        return self._each(lambda part: part.to(device))

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return self.tokens_NTD.nbytes + self.class_tokens_NKD.nbytes + self.views_NVKD.nbytes

    @staticmethod
    def joined(parts: Sequence[Latents]) -> Latents:
        """The latents of several groups of images, one after the other; at least one group."""
        return Latents(
            torch.cat([part.tokens_NTD for part in parts]),
            torch.cat([part.class_tokens_NKD for part in parts]),
            torch.cat([part.views_NVKD for part in parts]),
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> Latents:
        return Latents(change(self.tokens_NTD), change(self.class_tokens_NKD), change(self.views_NVKD))


@dataclass(frozen=True, eq=False)
class Encoded:
    """Latents of those sources that could be read.

    Attributes:
        rows_N: int64, ascending; the position in the sources that each latent comes from. A video has several.
        latents: N of them, in the same order.
    """

    rows_N: np.ndarray
    latents: Latents

    def __len__(self) -> int:
        return len(self.rows_N)
