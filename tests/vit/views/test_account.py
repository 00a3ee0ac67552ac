"""The costs of a cut against counting: PyTorch's own FLOP counter, and the tensors themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tiny_networks import random_images
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitlr.errors import BackboneError
from vitlr.vit import account, load_backbone, random_backbone, split
from vitlr.vit.compute import products


@pytest.mark.parametrize("cut", range(4))
def test_flop_are_those_that_pytorch_counts(
    directory: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The counter knows neither the fused attention of CPUs nor oneDNN's products by name.
    monkeypatch.setattr(products, "has_onednn", lambda: False)
    monkeypatch.setattr(products, "onednn_is_faster", lambda: False)
    with sdpa_kernel(SDPBackend.MATH):
        count_and_compare(directory, cut)


def count_and_compare(directory: Path, cut: int) -> None:
    backbone = load_backbone(directory)
    trunk, head = split(backbone, cut)
    costs = account(backbone, cut)
    images = random_images(2, 32)
    with FlopCounterMode(display=False) as counter:
        latents = trunk(images)
    assert counter.get_total_flops() == 2 * costs.trunk_flop
    with FlopCounterMode(display=False) as counter:
        features = head(latents)
    assert counter.get_total_flops() == 2 * costs.head_flop
    with FlopCounterMode(display=False) as counter:
        features.sum().backward()
    assert counter.get_total_flops() + 2 * costs.head_flop == 2 * costs.head_step_flop
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.model(torch.zeros(2, 3, 32, 32))
    assert counter.get_total_flops() == 2 * costs.network_flop


@pytest.mark.parametrize("cut", range(4))
def test_parameters_and_latents_are_those_of_the_halves(directory: Path, cut: int) -> None:
    backbone = load_backbone(directory)
    trunk, head = split(backbone, cut)
    costs = account(backbone, cut)
    assert costs.trained_names == tuple(name for name, _ in head.named_parameters())
    assert costs.trained_parameters == sum(parameter.numel() for parameter in head.parameters())
    whole = sum(parameter.numel() for parameter in backbone.model.parameters())
    assert costs.frozen_parameters == whole - costs.trained_parameters
    latent = trunk(random_images(1, 32))
    assert (costs.tokens, costs.width) == latent.shape[1:]
    assert costs.latent_elements == latent.numel()
    assert costs.latent_bytes == {"float32": latent.nbytes, "bfloat16": latent.bfloat16().nbytes}
    assert costs.image_bytes == random_images(1, 32).nbytes


def test_figures_of_vit_b32_at_128_px() -> None:
    """2.97 GFLOP for the whole network; 52,224 bytes for a latent of 17 tokens."""
    backbone = random_backbone("B_32", image_size=128)
    costs = account(backbone, 11)
    assert costs.network_flop == pytest.approx(2.97e9, rel=2e-3)
    assert costs.network_tokens == costs.tokens == 17
    assert costs.latent_bytes["float32"] == 52_224
    assert account(backbone, 12).latent_bytes["float32"] == 3_072
    with pytest.raises(BackboneError, match="cut 13 of 12 is out of range"):
        account(backbone, 13)
