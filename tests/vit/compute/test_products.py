"""Layers by oneDNN against PyTorch's own, in float64 where it is about gradients."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from tests.tiny_networks import random_images
from torch import nn
from torch.nn import functional as F

from vitlr.vit import Trunk, load_backbone
from vitlr.vit.compute import products
from vitlr.vit.compute.frozen_block import FrozenPatches
from vitlr.vit.compute.products import FrozenLinear, TrainedLinear, plain, trained
from vitlr.vit.compute.whole_block import attend

with_onednn = pytest.mark.skipif(not products.has_onednn(), reason="no oneDNN on an x86 processor here")


@pytest.fixture(params=["oneDNN", "PyTorch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "oneDNN" and not products.has_onednn():
        pytest.skip("no oneDNN on an x86 processor here")
    monkeypatch.setattr(products, "has_onednn", lambda: request.param == "oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: request.param == "oneDNN")
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_a_frozen_layer_is_product_gelu_and_residual(
    kernels: str, dtype: torch.dtype, bias: bool, gelu: bool, added: bool
) -> None:
    torch.manual_seed(0)
    layer, inputs, residual = nn.Linear(48, 20, bias=bias), torch.randn(3, 7, 48), torch.randn(3, 7, 20)
    layer, inputs, residual = layer.to(dtype), inputs.to(dtype), residual.to(dtype)
    with torch.no_grad():
        expected = deepcopy(layer).double()(inputs.double())
        expected = F.gelu(expected) if gelu else expected
        expected = expected + residual.double() if added else expected
        kept = residual.clone()
        frozen = FrozenLinear(layer.weight, layer.bias, gelu=gelu)
        found = frozen(inputs, residual if added else None)
    assert frozen.packed == (kernels == "oneDNN")
    assert found.dtype == dtype and found.shape == expected.shape
    assert torch.equal(residual, kept)
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.03}
    torch.testing.assert_close(found.double(), expected, **close)


@with_onednn
def test_frozen_layers_of_other_types_and_copies_compute_too() -> None:
    layer, inputs = nn.Linear(8, 4).double(), torch.randn(5, 8, dtype=torch.float64)
    assert torch.equal(FrozenLinear(layer.weight, layer.bias)(inputs), layer(inputs))
    frozen = FrozenLinear(layer.weight.float(), None)
    assert torch.equal(deepcopy(nn.ModuleList([frozen]))[0](inputs.float()), frozen(inputs.float()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "inputs_need"), [((6,), True), ((2, 5), True), ((2, 5), False)])
def test_a_trained_layer_has_the_outputs_and_gradients_of_an_exact_one(
    kernels: str, bias: bool, rows: tuple[int, ...], inputs_need: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(33, 21, bias=bias)
    exact = deepcopy(layer).double()
    fast = trained(layer)
    inputs = torch.randn(*rows, 33, requires_grad=inputs_need)
    reference = inputs.detach().double().requires_grad_(inputs_need)
    weight = torch.randn(*rows, 21)
    (fast(inputs).sin() * weight).sum().backward()
    (exact(reference).sin() * weight.double()).sum().backward()
    pairs = (
        [(fast.weight, exact.weight)] + [(fast.bias, exact.bias)] * bias + [(inputs, reference)] * inputs_need
    )
    for found, expected in pairs:
        torch.testing.assert_close(found.grad.double(), expected.grad, rtol=1e-4, atol=1e-5)


def test_layers_of_both_kinds_share_their_parameters(kernels: str) -> None:
    layer = nn.Linear(6, 3)
    fast = trained(layer)
    back = plain(fast)
    assert type(fast) is TrainedLinear and type(back) is nn.Linear
    assert back.weight is fast.weight is layer.weight and back.bias is layer.bias
    assert list(fast.state_dict()) == ["weight", "bias"]
    assert fast(torch.empty(0, 6)).shape == (0, 3)


@with_onednn
def test_the_trunk_is_the_same_network_with_and_without_onednn(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, images = load_backbone(directory), random_images(3, 32)
    found = Trunk(backbone, 3)(images)
    monkeypatch.setattr(products, "has_onednn", lambda: False)
    torch.testing.assert_close(found, Trunk(backbone, 3)(images))


@pytest.mark.parametrize("side", [32, 35])
def test_patches_as_rows_are_the_convolution_also_where_pixels_are_left_over(kernels: str, side: int) -> None:
    torch.manual_seed(0)
    patches = nn.Module()
    patches.projection, patches.patch_size = nn.Conv2d(3, 12, 8, stride=8), (8, 8)
    pixels = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = patches.projection(pixels).flatten(2).transpose(1, 2)
        torch.testing.assert_close(FrozenPatches(patches)(pixels), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [5, 70])
def test_attention_in_bfloat16_is_the_fused_one_up_to_rounding(tokens: int) -> None:
    q, k, v = torch.randn(3, 2, 3, tokens, 8, generator=torch.Generator().manual_seed(0))
    exact = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    torch.testing.assert_close(attend(q, k, v), exact)
    rounded = attend(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() < 0.02 * exact.norm()
