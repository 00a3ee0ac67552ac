"""Attention rollout: the maths by hand, and the attention of every family against transformers' own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny_networks import KINDS, MEAN, STD, make_directory, random_images, randomise

from vitlr.errors import BackboneError, ConfigError, DataError
from vitlr.vit import load_backbone, split
from vitlr.vit.views.rollout import (
    FUSIONS,
    attention_maps,
    attention_rollout,
    discard_lowest,
    fuse_heads,
    rollout,
    with_residual,
)


def transformers_attentions(
    directory: Path, kind: str, images_NHWC: torch.Tensor, *, blocks: int | None = None
) -> list[np.ndarray]:
    """(N, H, T, T) of each block as transformers' eager attention returns it, in float64."""
    import transformers

    model = getattr(transformers, KINDS[kind][1]).from_pretrained(directory, attn_implementation="eager")
    model = model.eval().double()
    layers = model.layers if hasattr(model, "layers") else model.encoder.layer
    del layers[blocks if blocks is not None else len(layers) :]
    centre, spread = torch.tensor([MEAN, STD], dtype=torch.float64)
    pixels = (images_NHWC.double() / 255 - centre) / spread
    options = {} if kind.startswith("dinov2") else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        output = model(pixels.permute(0, 3, 1, 2), output_attentions=True, **options)
    return [attention.numpy() for attention in output.attentions]


def numpy_map(attentions: list[np.ndarray], prefix: int, side: int, fuse: str, discard: float) -> np.ndarray:
    """The whole method again, image by image, in NumPy, straight from the paper."""
    fused = {"mean": np.mean, "max": np.max, "min": np.min}[fuse]
    maps = []
    for image in range(len(attentions[0])):
        rolled = np.eye(attentions[0].shape[-1])
        for attention in attentions:
            matrix = fused(attention[image], axis=0)
            order = sorted((matrix[i, j], i, j) for i, j in np.ndindex(*matrix.shape) if j != 0)
            for _, i, j in order[: int(discard * len(order))]:
                matrix[i, j] = 0
            matrix = 0.5 * matrix + 0.5 * np.eye(len(matrix))
            rolled = matrix / matrix.sum(axis=1, keepdims=True) @ rolled
        maps.append(rolled[0, prefix:].reshape(side, side))
    return np.stack(maps)


def test_two_blocks_of_three_tokens_by_hand() -> None:
    """A class token and two patches. First block: the class token reads patch 1 alone, patch 2 the class
    token alone. Second block: the class token reads patch 2 alone. Nobody else attends to anyone else."""
    first = torch.tensor([[0.0, 1, 0], [0, 1, 0], [1, 0, 0]])
    second = torch.tensor([[0.0, 0, 1], [0, 1, 0], [0, 0, 1]])
    rolled = rollout([first[None, None], second[None, None]])[0]
    # Class token after block 1: half itself, half patch 1; patch 2: half itself, half the class token.
    # After block 2: half of the former and half of the latter.
    expected = torch.tensor([[0.25 + 0.25, 0.25, 0.25], [0, 1, 0], [0.5, 0, 0.5]])
    assert torch.allclose(rolled, expected)


def test_heads_are_fused_by_mean_max_or_min() -> None:
    heads = torch.tensor([[[0.2, 0.8], [0.5, 0.5]], [[0.6, 0.4], [0.1, 0.9]]])[None]
    assert torch.allclose(fuse_heads(heads, "mean")[0], torch.tensor([[0.4, 0.6], [0.3, 0.7]]))
    assert torch.allclose(fuse_heads(heads, "max")[0], torch.tensor([[0.6, 0.8], [0.5, 0.9]]))
    assert torch.allclose(fuse_heads(heads, "min")[0], torch.tensor([[0.2, 0.4], [0.1, 0.5]]))


def test_the_lowest_share_is_discarded_for_each_image_and_never_the_class_tokens_column() -> None:
    one = torch.tensor([[0.01, 0.3, 0.69], [0.02, 0.9, 0.08], [0.03, 0.57, 0.4]])
    other = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.1, 0.3, 0.6]])
    kept = discard_lowest(torch.stack([one, other]), 0.5)  # 3 of the 6 entries beside column 0
    assert torch.equal(kept[0], torch.tensor([[0.01, 0, 0.69], [0.02, 0.9, 0], [0.03, 0.57, 0]]))
    assert torch.equal(kept[1], torch.tensor([[0.1, 0.8, 0], [0.1, 0, 0.7], [0.1, 0, 0.6]]))
    assert torch.equal(discard_lowest(one[None], 0.0)[0], one)
    assert (discard_lowest(one[None], 0.999)[0] > 0).sum() == 4, "the column and the largest of the others"


def test_the_residual_is_half_and_rows_sum_to_one_even_where_nothing_is_attended_to() -> None:
    mixed = with_residual(torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[0.6, 0.8], [0.9, 0.9]]]))
    assert torch.allclose(mixed[0], torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    assert torch.allclose(mixed.sum(dim=-1), torch.ones(2, 2))


@pytest.mark.parametrize("fuse", FUSIONS)
@pytest.mark.parametrize("discard", [0.0, 0.6])
def test_rows_of_a_rollout_are_shares(fuse: str, discard: float) -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = [torch.randn(2, 3, 7, 7, generator=generator).softmax(-1) for _ in range(4)]
    rolled = rollout(blocks, fuse=fuse, discard=discard)
    assert rolled.min() >= 0 and torch.allclose(rolled.sum(dim=-1), torch.ones(2, 7))


def test_uniform_attention_gives_every_patch_the_same_share() -> None:
    rolled = rollout([torch.full((1, 2, 5, 5), 0.2)] * 3)[0, 0]
    assert torch.allclose(rolled[1:], rolled[1].expand(4)) and rolled[0] > rolled[1]


def test_attention_is_that_of_transformers(directory: Path, kind: str) -> None:
    backbone = load_backbone(directory)
    images = random_images(3, backbone.image_size)
    ours = list(attention_maps(backbone, images))
    theirs = transformers_attentions(directory, kind, images)
    assert len(ours) == len(theirs) == backbone.num_blocks
    for block, expected in zip(ours, theirs, strict=True):
        assert block.shape == expected.shape == (3, backbone.heads, backbone.tokens, backbone.tokens)
        assert np.allclose(block.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize(("side", "blocks"), [(32, None), (48, 2), (16, 1)])
@pytest.mark.parametrize(("fuse", "discard"), [("mean", 0.0), ("max", 0.3), ("min", 0.9)])
def test_maps_are_those_of_transformers_attentions_at_any_size_and_number_of_blocks(
    directory: Path, kind: str, side: int, blocks: int | None, fuse: str, discard: float
) -> None:
    backbone = load_backbone(directory, image_size=side, blocks=blocks)
    images = random_images(2, side)
    prefix = {"deit": 2, "dinov2_with_registers": 4}.get(kind, 1)
    attentions = transformers_attentions(directory, kind, images, blocks=blocks)
    expected = numpy_map(attentions, prefix, side // 8, fuse, discard)
    maps = attention_rollout(backbone, images, fuse=fuse, discard=discard)
    assert maps.shape == (2, side // 8, side // 8) and maps.dtype == torch.float32
    assert np.allclose(maps.numpy(), expected, atol=1e-5)


def test_a_trained_head_takes_the_place_of_the_blocks_above_the_cut(directory: Path, kind: str) -> None:
    backbone = load_backbone(directory)
    images = random_images(2, backbone.image_size)
    untrained = attention_rollout(backbone, images)
    _, head = split(backbone, 1)
    assert torch.equal(attention_rollout(backbone, images, head), untrained)
    randomise(head, seed=5)
    before, after = list(attention_maps(backbone, images)), list(attention_maps(backbone, images, head))
    assert torch.equal(before[0], after[0]), "the trunk's block is the same"
    assert not torch.allclose(before[1], after[1]) and not torch.allclose(before[2], after[2])

    # Independently: the same weights put into the network itself, as an exported model has them.
    blocks = backbone.family.blocks(backbone.model)
    for number, block in head.blocks.items():
        blocks[int(number)].load_state_dict(block.state_dict())
    assert torch.equal(
        attention_rollout(backbone, images), attention_rollout(load_backbone(directory), images, head)
    )


@pytest.mark.parametrize("place", ["cpu", "meta"])
def test_backbone_and_head_may_be_on_different_devices(directories: dict[str, Path], place: str) -> None:
    """As a classifier on a GPU has them. ``meta`` stands in for a device, and the mode refuses every operation on
    tensors of two."""
    from tests.learning.test_device import OneDevice

    backbone = load_backbone(directories["vit"])
    _, head = split(backbone, 1)
    backbone.model.to("meta")
    head.to(place)
    with OneDevice():
        maps = attention_rollout(backbone, random_images(2, 32), head)
    assert maps.device.type == "meta" and maps.shape == (2, 4, 4)
    assert {parameter.device.type for parameter in head.parameters()} == {place}, "the head stays where it is"


def test_many_images_are_computed_a_few_at_a_time_with_the_same_maps(
    directories: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone(directories["vit"])
    images = random_images(5, backbone.image_size)
    whole = attention_rollout(backbone, images)
    assert attention_rollout(backbone, images[:0]).shape == (0, 4, 4)
    monkeypatch.setattr("vitlr.vit.views.rollout._LARGEST", 2 * backbone.heads * backbone.tokens**2)
    assert torch.allclose(attention_rollout(backbone, images), whole, atol=1e-7)


def test_nothing_is_changed_and_no_gradient_is_kept(directories: dict[str, Path]) -> None:
    backbone = load_backbone(directories["vit"])
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    _, head = split(backbone, 2)
    assert not attention_rollout(backbone, random_images(1, 32), head).requires_grad
    assert all(torch.equal(before[name], value) for name, value in backbone.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in head.parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fuse": "median"}, "fuse must be one of mean, max, min"),
        ({"discard": 1.0}, "discard"),
        ({"discard": -0.1}, "discard"),
        ({"discard": float("nan")}, "discard"),
    ],
)
def test_an_option_that_is_none_is_named(directories: dict[str, Path], options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        attention_rollout(load_backbone(directories["vit"]), random_images(1, 32), **options)


def test_images_and_heads_of_another_network_are_refused(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    backbone = load_backbone(directories["vit"])
    with pytest.raises(DataError, match="reads uint8 images"):
        attention_rollout(backbone, random_images(1, 40))
    _, head = split(load_backbone(directories["vit"], blocks=2), 1)
    with pytest.raises(BackboneError, match="head was not cut from"):
        attention_rollout(backbone, random_images(1, 32), head)
    wide = make_directory(tmp_path / "wide", "vit", hidden_size=64)
    with pytest.raises(BackboneError, match="head was not cut from"):
        attention_rollout(backbone, random_images(1, 32), split(load_backbone(wide), 1)[1])
