"""Which precision the trunk runs in. The trunk is most of the work and is never trained.

By default the processor decides, so that a machine always makes the same latents: bfloat16 where it
multiplies bfloat16 faster than float32, float32 elsewhere. Instructions alone do not tell. Whole trunk of a
ViT-B/32 at 128 px, ms an image on two cores:

    AMD Zen 4, avx512_bf16                     float32 17.5    bfloat16  8.6
    Intel Xeon, avx512_bf16 but without AMX    float32 10.3    bfloat16 18.6

so on Intel's processors AMX is asked for. int8 (:mod:`vitlr.vit.int8`) costs a little accuracy and is never chosen
unasked. :func:`measure_precisions` times all on the machine and network at
hand.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch

from vitlr.device import has_bfloat16
from vitlr.errors import ConfigError
from vitlr.vit.backbone import Backbone
from vitlr.vit.cut import PRECISIONS, Precision, Trunk
from vitlr.vit.int8 import int8_is_fast

__all__ = ["check_precision", "default_precision", "measure_precisions"]


def default_precision(device: torch.device | None = None) -> Precision:
    """``bfloat16`` where this processor, or the GPU given, computes it natively and fast, else ``float32``.

    It asks PyTorch by private names, which another version may not have: then float32, which is always right.
    """
    if device is not None and device.type == "cuda":
        return "bfloat16" if has_bfloat16(device) else "float32"
    if platform.machine().lower() in ("aarch64", "arm64"):
        fast = _asks(torch.ops.mkldnn, "_is_mkldnn_bf16_supported")  # on x86 also true where it is emulated
    else:
        fast = _asks(torch.cpu, "_is_amx_tile_supported") or (
            _asks(torch.cpu, "_is_avx512_bf16_supported") and not _is_intel()
        )
    return "bfloat16" if fast else "float32"


def check_precision(precision: str, device: torch.device) -> None:
    """ConfigError where the device has no such products; whether the processor has is seen when it is used."""
    if precision == "int8" and device.type != "cpu":
        raise ConfigError("precision int8 is for processors: choose device cpu, or precision bfloat16")


def _asks(module: object, name: str) -> bool:
    try:
        return bool(getattr(module, name)())
    except (AttributeError, RuntimeError):
        return False


def _is_intel() -> bool:
    """Whether Intel made the processor, as far as Linux and Windows tell."""
    try:
        maker = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        maker = platform.processor()
    return "GenuineIntel" in maker


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
