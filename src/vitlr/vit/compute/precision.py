"""The precision of the trunk, which is most of the work and is never trained.

By default the processor decides (:func:`vitlr.device.has_bfloat16`), so that a machine always computes the same
latents: bfloat16 if it multiplies bfloat16 faster than float32, else float32. int8 (:mod:`vitlr.vit.compute.int8`)
costs a little accuracy and is never chosen by default. :func:`measure_precisions` times all of them for a network
on this machine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from vitlr.device import device_named, has_bfloat16
from vitlr.errors import ConfigError
from vitlr.vit.backbone import Backbone
from vitlr.vit.compute.cut import PRECISIONS, Precision, Trunk
from vitlr.vit.compute.int8 import check_int8, int8_is_fast

__all__ = ["Compute", "default_precision", "measure_precisions", "native", "resolved"]


@dataclass(frozen=True)
class Compute:
    """Where a network computes, and in which precision its frozen part does."""

    device: torch.device
    precision: Precision

    def __str__(self) -> str:
        return self.precision if self.device.type == "cpu" else f"{self.precision} on {self.device}"


def resolved(device: str, precision: str | None = None) -> Compute:
    """A device and a precision by their names, checked against this machine. Done once, where they are given.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:NUMBER``, or ``auto`` for a GPU if there is one.
        precision: ``float32``, ``bfloat16`` or ``int8``; None or ``auto`` for what is native there.

    Raises:
        ConfigError: no such device or precision here.
    """
    place = device_named(device)
    if precision is None or precision == "auto":
        return Compute(place, default_precision(place))
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be auto or one of {', '.join(PRECISIONS)}, got {precision!r:.60}")
    if precision == "int8" and place.type != "cpu":
        raise ConfigError("precision int8 is for processors: choose device cpu, or precision bfloat16")
    if precision == "int8":
        check_int8()
    return Compute(place, precision)  # type: ignore[arg-type]


def native(device: str, precision: str | None = None) -> Compute:
    """As ``resolved``, with what this machine has in place of what it lacks: for a model that was made elsewhere.

    A GPU that is not here becomes the processor; bfloat16 that is not native and int8 without the instructions become
    what is native.
    """
    try:
        place = device_named(device)
    except ConfigError:
        place = device_named("auto")
    lacking = (precision == "int8" and (place.type != "cpu" or not int8_is_fast())) or (
        precision == "bfloat16" and not has_bfloat16(place)
    )
    return resolved(str(place), None if lacking else precision)


def default_precision(device: torch.device | None = None) -> Precision:
    """``bfloat16`` if this processor, or the GPU given, computes it natively and fast, else ``float32``."""
    return "bfloat16" if has_bfloat16(device or torch.device("cpu")) else "float32"


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
