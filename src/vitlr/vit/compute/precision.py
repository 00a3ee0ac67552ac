"""The precision of the trunk, which is most of the work and is never trained.

By default the processor decides (:func:`vitlr.device.has_bfloat16`), so that a machine always computes the same
latents: bfloat16 if it multiplies bfloat16 faster than float32, else float32. int8 (:mod:`vitlr.vit.compute.int8`)
costs a little accuracy and is never chosen by default. :func:`measure_precisions` times all of them for a network
on this machine.
"""

from __future__ import annotations

import time

import torch

from vitlr.device import has_bfloat16
from vitlr.errors import ConfigError
from vitlr.vit.backbone import Backbone
from vitlr.vit.compute.cut import PRECISIONS, Precision, Trunk
from vitlr.vit.compute.int8 import int8_is_fast

__all__ = ["check_precision", "default_precision", "measure_precisions"]


def default_precision(device: torch.device | None = None) -> Precision:
    """``bfloat16`` if this processor, or the given GPU, computes it natively and fast, else ``float32``."""
    return "bfloat16" if has_bfloat16(device or torch.device("cpu")) else "float32"


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigError if the device has no such products. The processor's instructions are checked on use."""
    if precision == "int8" and device.type != "cpu":
        raise ConfigError("precision int8 is for processors: choose device cpu, or precision bfloat16")


def measure_precisions(
    backbone: Backbone, cut: int, *, batch_size: int = 64, repeats: int = 3
) -> dict[Precision, float]:
    """Milliseconds per image of the trunk in each precision that this machine supports.

    The best of ``repeats``, after one warm-up.
    """
    side = backbone.image_size
    images_NHWC = torch.zeros(batch_size, side, side, 3, dtype=torch.uint8)
    best: dict[Precision, float] = {}
    for precision in PRECISIONS:
        if precision == "int8" and not int8_is_fast():
            continue
        trunk = Trunk(backbone, cut, precision=precision)
        trunk(images_NHWC)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            trunk(images_NHWC)
            seconds.append(time.perf_counter() - start)
        best[precision] = 1e3 * min(seconds) / batch_size
    return best
