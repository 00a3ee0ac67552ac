"""Linear layers by oneDNN, called by name, with frozen weights packed once and trained weights as they are.

PyTorch passes float32 products on x86 to MKL, which leaves half of the vector unit unused on processors not made by
Intel. oneDNN, which PyTorch includes and uses for bfloat16, does not. GFLOP/s on two AMD Zen 5 cores (2048
cubed; 128 rows by 3072 x 768, forward, as in a mini-batch of the head's MLP):

    float32     MKL 207, 197        oneDNN 453, 461      packed 479, 498
    bfloat16                        oneDNN 885, 929      packed 972, 942

Packing stores the weights in the order in which the kernel reads them. The kernel can apply GELU and add a residual
while a result is still in registers; each saves a pass over memory.

The names are private. If this PyTorch does not have them, or the processor or type is another one, the same modules
use PyTorch's own functions.

Shapes: B rows, I inputs, O outputs.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitlr.device import is_intel

__all__ = [
    "FrozenLinear",
    "TrainedLinear",
    "has_onednn",
    "onednn_is_faster",
    "plain",
    "trained",
    "with_linears",
]

_ROWS = 1024  # number of rows that packed weights are laid out for; other numbers work too


class FrozenLinear(nn.Module):
    """``inputs @ weight.T + bias``, then GELU (exact, by erf) if ``gelu`` is set, then plus ``residual`` if given.

    Args:
        weight_OI, bias_O: floating point of one type, which products are computed in. Copied if they are packed.
    """

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        self.gelu = gelu
        weight_OI = weight_OI.detach().contiguous()
        self.packed = has_onednn() and _is_ours(weight_OI, torch.float32, torch.bfloat16)
        if self.packed:
            weight_OI = torch.ops.mkldnn._reorder_linear_weight(weight_OI, _ROWS)
        self.register_buffer("weight", weight_OI, persistent=False)
        self.register_buffer("bias", None if bias_O is None else bias_O.detach().clone(), persistent=False)

    def __deepcopy__(self, memo: dict) -> FrozenLinear:
        """Returns itself: it never changes, and packed weights cannot be copied."""
        return self

    def forward(self, inputs: Tensor, residual: Tensor | None = None) -> Tensor:
        """(..., O) of (..., I); a residual has the result's shape."""
        if not self.packed:
            outputs = F.linear(inputs, self.weight, self.bias)  # type: ignore[arg-type]
            outputs = F.gelu(outputs) if self.gelu else outputs
            return outputs if residual is None else outputs + residual
        product = torch.ops.mkldnn._linear_pointwise
        if residual is not None and not self.gelu:
            return product.binary(inputs, residual, self.weight, self.bias, "add")
        after: tuple = ("gelu", [], "none") if self.gelu else ("none", [], "")
        outputs = product(inputs, self.weight, self.bias, *after)
        return outputs if residual is None else outputs + residual


class TrainedLinear(nn.Linear):
    """``nn.Linear`` whose float32 products, forward and backward, use oneDNN if that is faster."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., O) of (..., I)."""
        if (
            not onednn_is_faster()
            or not _is_ours(input, torch.float32)
            or not _is_ours(self.weight, torch.float32)
            or torch.is_autocast_enabled("cpu")  # autocast converts to bfloat16, which uses oneDNN already
            or input.numel() == 0
        ):
            return super().forward(input)
        outputs = _Product.apply(input.reshape(-1, self.in_features), self.weight, self.bias)
        return outputs.view(*input.shape[:-1], self.out_features)


class _Product(torch.autograd.Function):
    """``inputs @ weight.T + bias``. With d for the gradient of the loss: dx = dy W, dW = dy' x, db = sum of dy."""

    @staticmethod
    def forward(ctx, inputs_BI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(inputs_BI, weight_OI)
        return _product(inputs_BI, weight_OI, bias_O)

    @staticmethod
    def backward(ctx, dy_BO: Tensor):  # type: ignore[override]
        inputs_BI, weight_OI = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        return (
            _product(dy_BO, weight_OI.T) if of_inputs else None,
            _product(dy_BO.T, inputs_BI.T) if of_weight else None,
            dy_BO.sum(0) if of_bias else None,
        )


def _product(a_MK: Tensor, b_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """``a @ b.T + bias``; both may be transposed views."""
    return torch.ops.mkldnn._linear_pointwise(a_MK, b_NK, bias_N, "none", [], "")


def with_linears(module: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Replace every linear layer in the module by ``make(layer)``; returns the module."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                setattr(parent, name, make(child))
    return module


def trained(linear: nn.Linear) -> TrainedLinear:
    """A layer that shares the parameters."""
    return _same(TrainedLinear, linear)


def plain(linear: nn.Linear) -> nn.Linear:
    """A plain PyTorch layer that shares the parameters."""
    return _same(nn.Linear, linear)


def _same(kind, linear: nn.Linear):
    layer = kind(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
    layer.weight, layer.bias = linear.weight, linear.bias
    return layer.train(linear.training)


@lru_cache(maxsize=1)
def has_onednn() -> bool:
    """Whether this PyTorch has oneDNN's linear layer under the names used here, on an x86 processor."""
    names = ("_linear_pointwise", "_reorder_linear_weight")
    return (
        platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in names)
    )


@lru_cache(maxsize=1)
def onednn_is_faster() -> bool:
    """Whether oneDNN is faster than MKL for float32 products with weights that are not packed."""
    return has_onednn() and not is_intel()


def _is_ours(tensor: Tensor, *dtypes: torch.dtype) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype in dtypes
