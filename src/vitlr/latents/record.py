"""Latents as one record: the tokens at the cut, and the class tokens of chosen frozen blocks.

The trunk computes a class token after every block anyway; kept beside the tokens at the cut they are what statistics of
frozen features are made of. A method that keeps none has K = 0.

Shapes: N images, M random views of them, T tokens at the cut, D width, K blocks whose class tokens are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

__all__ = ["Encoded", "Latents"]


@dataclass(frozen=True, eq=False)
class Latents:
    """What the trunk makes of N images, and of random views of some of them.

    Attributes:
        tokens_NTD: tokens after block ``cut``; the class token alone at the last cut; pixels in native replay.
        class_tokens_NKD: class tokens after each of the last K blocks, before the final norm.
        views_MKD: the same of M random views; none unless they were encoded.
        view_rows_M: int64, the image that each view is of.
    """

    tokens_NTD: Tensor
    class_tokens_NKD: Tensor = None  # type: ignore[assignment]  # replaced below: none are kept
    views_MKD: Tensor = None  # type: ignore[assignment]
    view_rows_M: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        num, _, width = self.tokens_NTD.shape
        if self.class_tokens_NKD is None:
            object.__setattr__(self, "class_tokens_NKD", self.tokens_NTD.new_zeros(num, 0, width))
        if self.views_MKD is None:
            object.__setattr__(self, "views_MKD", self.class_tokens_NKD[:0])
        if len(self.class_tokens_NKD) != num or len(self.views_MKD) != len(self.view_rows_M):
            raise ValueError("tokens, class tokens and views must be of the same images")

    def __len__(self) -> int:
        return len(self.tokens_NTD)

    def __getitem__(self, rows: np.ndarray) -> Latents:
        """The latents of these images, with their views."""
        rows = np.asarray(rows, dtype=np.int64)
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        kept = np.flatnonzero(place[self.view_rows_M] >= 0)
        index, views = torch.from_numpy(rows), torch.from_numpy(kept)
        return Latents(
            self.tokens_NTD[index.to(self.tokens_NTD.device)],
            self.class_tokens_NKD[index.to(self.class_tokens_NKD.device)],
            self.views_MKD[views.to(self.views_MKD.device)],
            place[self.view_rows_M[kept]],
        )

    def to(self, device: torch.device) -> Latents:
        """The same on a device."""
        return Latents(
            self.tokens_NTD.to(device),
            self.class_tokens_NKD.to(device),
            self.views_MKD.to(device),
            self.view_rows_M,
        )

    def with_views(self, views_MKD: Tensor, view_rows_M: np.ndarray) -> Latents:
        """The same images with these views."""
        return replace(self, views_MKD=views_MKD, view_rows_M=view_rows_M)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return self.tokens_NTD.nbytes + self.class_tokens_NKD.nbytes + self.views_MKD.nbytes

    @staticmethod
    def joined(parts: list[Latents]) -> Latents:
        """The latents of several groups of images, one after the other; at least one group.

        The list is emptied on the way, so that tokens, which may be most of the memory, are held once and not twice.
        """
        starts = np.cumsum([0, *(len(part) for part in parts)])
        class_tokens_NKD = torch.cat([part.class_tokens_NKD for part in parts])
        views_MKD = torch.cat([part.views_MKD for part in parts])
        rows_M = np.concatenate(
            [part.view_rows_M + start for part, start in zip(parts, starts, strict=False)]
        )
        tokens_NTD = parts[0].tokens_NTD.new_empty(int(starts[-1]), *parts[0].tokens_NTD.shape[1:])
        for start in reversed(starts[:-1].tolist()):
            part = parts.pop()
            tokens_NTD[start : start + len(part)] = part.tokens_NTD
        return Latents(tokens_NTD, class_tokens_NKD, views_MKD, rows_M)


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
