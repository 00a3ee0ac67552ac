"""Images to latents, each image through the trunk exactly once.

The trunk is frozen and nothing is drawn at random, so the latents of an image never change: they may be kept.

Shapes: N images, H and W their sides, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from vitlr.errors import ConfigError, DataError
from vitlr.vit.compute.cut import Trunk
from vitlr.vit.compute.images import ImageTrunk

__all__ = ["encode"]

Images = np.ndarray | Tensor


def encode(
    trunk: Trunk | ImageTrunk,
    batches: Iterable[Images],
    *,
    num: int,
    batch_size: int = 64,
    dtype: torch.dtype = torch.float32,
    out: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Latents (N, T, D) of all images, in their order.

    Images are joined or cut into batches of ``batch_size`` before the trunk sees them, so how they are
    grouped in ``batches`` changes no bit of the result. Another ``batch_size`` changes it by rounding only,
    since matrix products of other sizes add in another order.

    Args:
        batches: uint8 arrays or tensors of shape (any, H, W, 3).
        num: how many images there are in all.
        dtype: that of the latents returned, float32, bfloat16 or, of images, uint8; not used where ``out`` is given.
        out: where to put them, a tensor (num, T, D); by default a new one.
        progress: called with the number of images encoded so far, after each batch.

    Raises:
        DataError: more or fewer images than ``num``, or images that the trunk does not read.
        ConfigError: a batch size below 1, or ``out`` of another shape.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be >= 1, got {batch_size}")
    shape = (num, *trunk.latent_shape)
    if out is None:
        out = torch.empty(shape, dtype=dtype)
    elif out.shape != shape:
        raise ConfigError(f"out must have the shape {shape} of the latents, got {tuple(out.shape)}")
    done = 0
    for images_NHWC in _regroup(batches, batch_size):
        if done + len(images_NHWC) > num:
            raise DataError(f"more images than the {num} announced")
        out[done : done + len(images_NHWC)] = trunk(images_NHWC)
        done += len(images_NHWC)
        if progress is not None:
            progress(done)
    if done != num:
        raise DataError(f"{num} images were announced, but {done} came")
    return out


def _regroup(batches: Iterable[Images], batch_size: int) -> Iterator[Tensor]:
    """The same images in batches of ``batch_size``, the last one smaller where it must be."""
    waiting: list[Tensor] = []
    for images in batches:
        waiting.append(torch.as_tensor(images))
        if sum(map(len, waiting)) < batch_size:
            continue
        images_NHWC = torch.cat(waiting) if len(waiting) > 1 else waiting[0]
        whole = len(images_NHWC) // batch_size * batch_size
        yield from images_NHWC[:whole].split(batch_size)
        waiting = [images_NHWC[whole:]] if whole < len(images_NHWC) else []
    if sum(map(len, waiting)):
        yield torch.cat(waiting)
