"""Every image goes through the trunk once, in order, and its latent depends on nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny_networks import random_images

from vitlr.errors import ConfigError, DataError
from vitlr.vit import Trunk, encode, load_backbone


@pytest.fixture
def trunk(directories: dict[str, Path]) -> Trunk:
    return Trunk(load_backbone(directories["vit"]), 2)


IMAGES = random_images(11, 32)


def test_latents_are_the_trunks_in_order(trunk: Trunk) -> None:
    latents = encode(trunk, [IMAGES.numpy()], num=11, batch_size=4)
    assert latents.dtype == torch.float32 and not latents.requires_grad
    torch.testing.assert_close(latents, trunk(IMAGES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("groups", [[11], [1] * 11, [3, 5, 3], [0, 11, 0], [4, 4, 3], [2, 9]])
def test_how_images_are_grouped_changes_no_bit(trunk: Trunk, groups: list[int]) -> None:
    expected = encode(trunk, [IMAGES], num=11, batch_size=4)
    batches = (batch.numpy() for batch in IMAGES.split(groups))
    assert torch.equal(encode(trunk, batches, num=11, batch_size=4), expected)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_the_batch_size_changes_rounding_only(trunk: Trunk, batch_size: int) -> None:
    expected = encode(trunk, [IMAGES], num=11, batch_size=4)
    latents = encode(trunk, [IMAGES], num=11, batch_size=batch_size)
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)


def test_each_image_is_encoded_exactly_once(trunk: Trunk) -> None:
    seen = []
    trunk.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    encode(trunk, IMAGES.split(3), num=11, batch_size=4)
    assert torch.equal(torch.stack(seen), IMAGES)


def test_progress_counts_images(trunk: Trunk) -> None:
    counts: list[int] = []
    encode(trunk, IMAGES.split(3), num=11, batch_size=4, progress=counts.append)
    assert counts == [4, 8, 11]


def test_bfloat16_latents_are_the_rounded_ones(trunk: Trunk) -> None:
    latents = encode(trunk, [IMAGES], num=11, dtype=torch.bfloat16)
    assert torch.equal(latents, encode(trunk, [IMAGES], num=11).bfloat16())


def test_latents_go_where_they_are_asked(trunk: Trunk) -> None:
    out = torch.full((11, *trunk.latent_shape), float("nan"))
    assert encode(trunk, [IMAGES], num=11, out=out) is out
    assert torch.equal(out, encode(trunk, [IMAGES], num=11))
    with pytest.raises(ConfigError, match="out must have the shape"):
        encode(trunk, [IMAGES], num=11, out=torch.empty(10, *trunk.latent_shape))


def test_no_images_are_no_latents(trunk: Trunk) -> None:
    assert encode(trunk, [], num=0).shape == (0, *trunk.latent_shape)


def test_wrong_counts_and_images_are_refused(trunk: Trunk) -> None:
    with pytest.raises(DataError, match="12 images were announced, but 11 came"):
        encode(trunk, [IMAGES], num=12)
    with pytest.raises(DataError, match="more images than the 10 announced"):
        encode(trunk, [IMAGES], num=10)
    with pytest.raises(DataError, match="uint8 images"):
        encode(trunk, [np.zeros((2, 32, 32, 3))], num=2)
    with pytest.raises(ConfigError, match="batch_size must be >= 1"):
        encode(trunk, [IMAGES], num=11, batch_size=0)
