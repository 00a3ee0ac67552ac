"""Merged tokens: averages over squares, with the weight of the tokens they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tiny_networks import random_images

from vitlr.errors import ConfigError
from vitlr.vit import Head, Trunk, load_backbone
from vitlr.vit.compute.merge import merged_sizes, merged_tokens


def test_patches_are_averaged_over_squares_and_prefix_tokens_are_left_alone() -> None:
    tokens = torch.arange(2 * 18 * 3, dtype=torch.float32).reshape(2, 18, 3)
    merged = merged_tokens(tokens, 2, 2)
    assert merged.shape == (2, 6, 3) and torch.equal(merged[:, :2], tokens[:, :2])
    grid = tokens[:, 2:].reshape(2, 4, 4, 3)
    torch.testing.assert_close(merged[:, 2], grid[:, :2, :2].mean(dim=(1, 2)))
    torch.testing.assert_close(merged[:, 5], grid[:, 2:, 2:].mean(dim=(1, 2)))
    assert merged_sizes(4, 2, 2).tolist() == [1, 1, 4, 4, 4, 4]
    assert merged_sizes(7, 1, 3).sum() >= 1 + 49  # squares overlap where the side does not divide
    assert merged_tokens(tokens, 2, 4) is tokens


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_merging_tokens_that_are_alike_changes_nothing(directory: Path, cut: int) -> None:
    """Images of one colour in squares of 2 x 2 patches, and positions that are equal within them."""
    backbone = load_backbone(directory)
    prefix = backbone.family.prefix_tokens(backbone.config)
    whole, merged = Head(backbone, cut), Head(backbone, cut, 2)
    tokens = torch.randn(3, prefix + 4, backbone.width, generator=torch.Generator().manual_seed(0))
    side = backbone.image_size // backbone.patch_size
    square = (
        tokens[:, prefix:]
        .reshape(3, 2, 2, -1)
        .repeat_interleave(side // 2, 1)
        .repeat_interleave(side // 2, 2)
    )
    full = torch.cat([tokens[:, :prefix], square.flatten(1, 2)], dim=1)
    torch.testing.assert_close(merged(tokens), whole(full), rtol=1e-4, atol=1e-4)


def test_trunk_and_head_agree_on_the_number_of_tokens_and_the_last_cut_has_none_to_merge(
    directory: Path,
) -> None:
    backbone, images = load_backbone(directory), None
    images = random_images(3, backbone.image_size)
    for cut in range(backbone.num_blocks + 1):
        trunk, head = Trunk(backbone, cut, grid=2), Head(backbone, cut, 2)
        latents = trunk(images)
        assert latents.shape[1:] == trunk.latent_shape == head.latent_shape
        assert torch.isfinite(head(latents)).all()
    assert Trunk(backbone, backbone.num_blocks, grid=2).tokens == 1


def test_a_grid_that_is_not_there_is_refused(directory: Path) -> None:
    with pytest.raises(ConfigError, match="grids of 1 to"):
        Trunk(load_backbone(directory), 1, grid=99)
