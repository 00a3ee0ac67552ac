"""Which precision the trunk runs in. The trunk is most of the work and is never trained.

By default the processor decides (:func:`vitlr.device.has_bfloat16`), so that a machine always makes the same latents:
bfloat16 where it multiplies bfloat16 faster than float32, float32 elsewhere. int8 (:mod:`vitlr.vit.compute.int8`) costs
a little accuracy and is never chosen unasked. :func:`measure_precisions` times all on the machine and network at hand.
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
    """``bfloat16`` where this processor, or the GPU given, computes it natively and fast, else ``float32``."""
    return "bfloat16" if has_bfloat16(device or torch.device("cpu")) else "float32"


def check_precision(precision: str, device: torch.device) -> None:
    """ConfigError where the device has no such products; whether the processor has is seen when it is used."""
    if precision == "int8" and device.type != "cpu":
        raise ConfigError("precision int8 is for processors: choose device cpu, or precision bfloat16")


def measure_precisions(
    backbone: Backbone, cut: int, *, batch_size: int = 64, repeats: int = 3
) -> dict[Precision, float]:
    """Milliseconds an image of the trunk in each precision that this machine has.

    The best of ``repeats`` after one to warm up.
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
