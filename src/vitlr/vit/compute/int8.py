"""Matrix products in 8-bit integers, for the frozen trunk on processors that support them.

Weights are quantised once, symmetrically, with one scale per output feature. Activations are quantised as they
come, with one scale per token (dynamic quantisation; both granularities: Yao et al. 2022, ZeroQuant, arXiv
2206.01861, sec. 4). Products are summed exactly in 32-bit integers, so a token's result does not depend on the
rest of the batch. Attention, norms and residuals stay float32. There is no calibration, and quantising takes less
than a second.

The kernels are those of PyTorch's quantisation on x86 (oneDNN), called by name. ``benchmarks/int8.py`` compares
time and error with PyTorch's export quantisation and with ONNX Runtime.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitlr.errors import ConfigError

__all__ = ["ROWS", "Int8Linear", "check_int8", "int8_is_fast"]

ROWS = 544  # tokens that go through the blocks at once: intermediate results stay in the cache
_ZERO_POINT = 128  # the kernels need unsigned activations


class Int8Linear(nn.Module):
    """Linear layer with int8 weights (one scale per output feature) and int8 activations (one scale per token).

    Followed by GELU (exact, by erf) if ``gelu`` is set, and by the sum with ``residual`` if given; in place, in
    float32.

    Args:
        weight_OI, bias_O: floating point of any type.

    Raises:
        ConfigError: this PyTorch or processor has no fast 8-bit products.
    """

    bias: Tensor
    integer: Tensor

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        check_int8()
        self.gelu = gelu
        weight_OI = weight_OI.detach().float()
        bound = weight_OI.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
        scale = bound / 127
        levels = (weight_OI / scale[:, None]).round().to(torch.int8)
        bias = torch.zeros(len(weight_OI)) if bias_O is None else bias_O.detach().float()
        self.register_buffer("packed", torch.ops.onednn.qlinear_prepack(levels, None), persistent=False)
        self.register_buffer("scale_O", scale, persistent=False)
        self.register_buffer("bias", bias.clone(), persistent=False)
        self.register_buffer(
            "integer", torch.full((weight_OI.shape[1],), 2.0**23 + _ZERO_POINT), persistent=False
        )
        self.register_buffer("zero_points", torch.zeros(len(scale), dtype=torch.int64), persistent=False)

    def __deepcopy__(self, memo: dict) -> Int8Linear:
        """Returns itself, since it never changes."""
        return self

    def forward(self, inputs: Tensor, residual: Tensor | None = None) -> Tensor:
        """(..., O) of float32 (..., I); a residual has the result's shape."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        bound = torch.maximum(rows.amax(-1, keepdim=True), rows.amin(-1, keepdim=True).neg_())
        bound.clamp_min_(torch.finfo(torch.float32).tiny)
        # Near 2^23 the last bits of a float32 are an integer, rounded to the nearest. It is read from these bits,
        # since PyTorch's cast to bytes takes twice as long as both steps.
        levels = torch.addcmul(self.integer, rows, 127 / bound).view(torch.int32).to(torch.uint8)
        product = torch.ops.onednn.qlinear_pointwise(
            levels, 1.0, _ZERO_POINT, self.packed, self.scale_O, self.zero_points, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        outputs = torch.addcmul(self.bias, product, bound / 127, out=product)
        if self.gelu:
            outputs = torch.ops.aten.gelu_(outputs)
        outputs = outputs.view(*inputs.shape[:-1], -1)
        return outputs if residual is None else outputs.add_(residual)


def check_int8() -> None:
    """Raise ConfigError if this PyTorch or processor has no fast 8-bit products."""
    if not int8_is_fast():
        raise ConfigError(
            "precision int8 needs an x86 processor with VNNI or AMX instructions, which this one is not:"
            " choose float32 or bfloat16"
        )


def int8_is_fast() -> bool:
    """Whether PyTorch has the kernels and the processor has the instructions (VNNI, or AMX, which includes it).

    Without VNNI the sums of two products saturate at 16 bits, so results would be wrong as well as slow.
    """
    try:
        return bool(torch.cpu._is_vnni_supported()) and hasattr(torch.ops.onednn, "qlinear_pointwise")
    except (AttributeError, RuntimeError):
        return False
