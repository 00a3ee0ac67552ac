"""A network as tensors and plain data: the same network again, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_networks import make_directory, random_images

from vitlr.errors import BackboneError
from vitlr.vit import load_backbone, split
from vitlr.vit.stored import backbone_from_state, backbone_state


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_stored_network_computes_the_same_bits(directory: Path, precision: Any, cut: int) -> None:
    backbone = load_backbone(directory, blocks=2, image_size=48)
    tensors, plain = backbone_state(backbone)
    restored = backbone_from_state("again", tensors, json.loads(json.dumps(plain)))
    images = random_images(3, 48)
    outputs = []
    for network in (backbone, restored):
        trunk, head = split(network, cut, precision=precision)
        latents = trunk(images)
        outputs.append((latents, head(latents)))
    assert torch.equal(outputs[0][0], outputs[1][0]) and torch.equal(outputs[0][1], outputs[1][1])
    assert (restored.image_size, restored.tokens, restored.num_blocks) == (48, backbone.tokens, 2)
    assert restored.normalisation == backbone.normalisation
    again, _ = backbone_state(restored)
    assert all(
        torch.equal(again[name], tensor) and again[name].dtype == tensor.dtype
        for name, tensor in tensors.items()
    )


def test_weights_that_bfloat16_holds_exactly_take_half_the_bytes_and_no_other_is_rounded(
    tmp_path: Path,
) -> None:
    backbone = load_backbone(make_directory(tmp_path, "vit"))
    state = backbone.model.state_dict()
    with torch.no_grad():
        for name in [name for name in state if ".mlp." in name]:
            state[name].copy_(state[name].bfloat16())
    tensors, _ = backbone_state(backbone)
    for name, tensor in tensors.items():
        assert torch.equal(tensor.float(), state[name])
        assert tensor.dtype == torch.bfloat16 or ".mlp." not in name


def test_no_path_of_the_machine_is_stored(tmp_path: Path) -> None:
    backbone = load_backbone(make_directory(tmp_path / "secret_place", "vit"))
    assert "secret_place" not in json.dumps(backbone_state(backbone)[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, plain: tensors.pop("layernorm.weight"),
        lambda tensors, plain: tensors.update(surprise=torch.zeros(1)),
        lambda tensors, plain: tensors.update({"layernorm.weight": torch.zeros(5)}),
        lambda tensors, plain: plain["config"].update(model_type="bert"),
        lambda tensors, plain: plain["config"].update(num_hidden_layers=10**9),
        lambda tensors, plain: plain["config"].update(num_hidden_layers="3"),
        lambda tensors, plain: plain["config"].pop("num_hidden_layers"),
        lambda tensors, plain: plain["config"].update(layer_norm_eps="a"),
        lambda tensors, plain: plain.pop("normalisation"),
        lambda tensors, plain: plain["normalisation"].update(std=[0, 0, 0]),
        lambda tensors, plain: plain.update(config=None),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, change: Any) -> None:
    tensors, plain = backbone_state(load_backbone(make_directory(tmp_path, "vit")))
    plain = json.loads(json.dumps(plain))
    change(tensors, plain)
    with pytest.raises(BackboneError):
        backbone_from_state("odd", tensors, plain)
