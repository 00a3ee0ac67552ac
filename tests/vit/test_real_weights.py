"""A ViT-Ti pretrained on ImageNet: every weight in its place, and its own normalisation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_networks import random_images, transformers_features

from vitlr.vit import load_backbone, split

HALF = (0.5, 0.5, 0.5)


def test_weights_are_bitwise_those_of_the_file(real_vit: Path) -> None:
    raw = load_file(real_vit / "model.safetensors")
    backbone = load_backbone(real_vit)
    assert (backbone.mean, backbone.std) == (HALF, HALF)
    assert torch.equal(backbone.model.embeddings.cls_token, raw["vit.embeddings.cls_token"])
    assert torch.equal(
        backbone.model.embeddings.position_embeddings, raw["vit.embeddings.position_embeddings"]
    )
    for number, block in enumerate(backbone.model.layers):
        prefix = f"vit.encoder.layer.{number}"
        for name, layer in (
            ("attention.attention.query", block.attention.q_proj),
            ("attention.attention.key", block.attention.k_proj),
            ("attention.attention.value", block.attention.v_proj),
            ("attention.output.dense", block.attention.o_proj),
            ("intermediate.dense", block.mlp.fc1),
            ("output.dense", block.mlp.fc2),
            ("layernorm_before", block.layernorm_before),
            ("layernorm_after", block.layernorm_after),
        ):
            assert torch.equal(layer.weight, raw[f"{prefix}.{name}.weight"])
            assert torch.equal(layer.bias, raw[f"{prefix}.{name}.bias"])


@pytest.mark.parametrize("image_size", [128, 224])
def test_features_are_those_of_transformers(real_vit: Path, image_size: int) -> None:
    images = random_images(2, image_size)
    backbone = load_backbone(real_vit, image_size=image_size)
    expected = transformers_features(real_vit, "vit", images, mean=HALF, std=HALF)
    for cut in (0, 6, 11, 12):
        trunk, head = split(backbone, cut)
        difference = (head(trunk(images)) - expected).norm() / expected.norm()
        assert difference < 1e-5
