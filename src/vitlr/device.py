"""Where tensors live: the processor's memory, or a GPU's.

On a GPU everything that a step of training touches stays there: trunk, head, the latents of the experience, and
the replay memory and test latents as far as they fit. Host and GPU wait for each other once an epoch and once an
evaluation, not at every step.
"""

from __future__ import annotations

import re

import torch

from vitlr.errors import ConfigError

__all__ = ["device_named", "fits", "has_bfloat16"]

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
    """Whether a GPU multiplies bfloat16 natively (NVIDIA: from Ampere on; earlier ones emulate it)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def fits(num_bytes: int, device: torch.device) -> bool:
    """Whether that much can be kept on the device; always true of the processor's own memory."""
    if device.type != "cuda":
        return True
    return num_bytes <= _SHARE * torch.cuda.mem_get_info(device)[0]
