"""Where tensors live: the processor's memory, or a GPU's.

On a GPU everything that a step of training touches stays there: trunk, head, the latents of the experience, and
the replay memory and test latents as far as they fit. Host and GPU wait for each other once an epoch and once an
evaluation, not at every step.
"""

from __future__ import annotations

import platform
import re
from functools import lru_cache
from pathlib import Path

import torch

from vitlr.errors import ConfigError

__all__ = ["device_named", "fits", "has_bfloat16", "is_intel"]

_SHARE = (
    0.5  # of a GPU's free memory that may be filled with latents: the rest is for activations and weights
)


def device_named(name: str) -> torch.device:
    """``cpu``, ``cuda`` or ``cuda:1``; ``auto`` for a GPU where there is one.

    Raises:
        ConfigError: another name, or a GPU that PyTorch does not see.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise ConfigError(f"backbone.device must be cpu, cuda, cuda:NUMBER or auto, got {name!r:.60}")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"backbone.device {name}: PyTorch sees {torch.cuda.device_count()} GPUs here; choose cpu, or install"
            " a PyTorch build for your GPU"
        )
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are native there, and faster than float32.

    NVIDIA: from Ampere on; earlier GPUs emulate them. Of processors the instructions alone do not tell; whole trunk of
    a ViT-B/32 at 128 px, ms an image on two cores (PyTorch's own layers):

        AMD Zen 4, avx512_bf16                     float32 17.5    bfloat16  8.6
        AMD Zen 5, avx512_bf16                     float32 14.3    bfloat16  4.5
        Intel Xeon, avx512_bf16 but without AMX    float32 10.3    bfloat16 18.6

    so on Intel's processors AMX is asked for. PyTorch is asked by private names, which another version may not have:
    then no, which is always right.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    if platform.machine().lower() in ("aarch64", "arm64"):
        return _asks(torch.ops.mkldnn, "_is_mkldnn_bf16_supported")  # on x86 also true where it is emulated
    if _asks(torch.cpu, "_is_amx_tile_supported"):
        return True
    return _asks(torch.cpu, "_is_avx512_bf16_supported") and not is_intel()


@lru_cache(maxsize=1)
def is_intel() -> bool:
    """Whether Intel made the processor, as far as Linux and Windows tell."""
    try:
        maker = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        maker = platform.processor()
    return "GenuineIntel" in maker


def _asks(module: object, name: str) -> bool:
    try:
        return bool(getattr(module, name)())
    except (AttributeError, RuntimeError):
        return False


def fits(num_bytes: int, device: torch.device) -> bool:
    """Whether that much can be kept on the device; always true of the processor's own memory."""
    if device.type != "cuda":
        return True
    return num_bytes <= _SHARE * torch.cuda.mem_get_info(device)[0]
