"""Latents as one record: what belongs to an image stays together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitlr.latents.record import Encoded, Latents


def numbered(first: int, num: int, blocks: int = 2, views: int = 0) -> Latents:
    """Latents of ``num`` images, with that many views of each, in which every number says which image it is of."""
    images = torch.arange(first, first + num, dtype=torch.float32)
    rows = np.repeat(np.arange(num), views)
    return Latents(
        images[:, None, None].expand(num, 3, 4).clone(),
        images[:, None, None].expand(num, blocks, 4).clone(),
        images[torch.from_numpy(rows)][:, None, None].expand(num * views, blocks, 4).clone(),
        rows,
    )


def images_of(latents: Latents) -> list[int]:
    """Which images these are, as every part says."""
    images = latents.tokens_NTD[:, 0, 0]
    assert bool((latents.tokens_NTD == images[:, None, None]).all())
    assert bool((latents.class_tokens_NKD == images[:, None, None]).all())
    assert bool((latents.views_MKD == images[torch.from_numpy(latents.view_rows_M)][:, None, None]).all())
    return images.int().tolist()


def test_class_tokens_and_views_are_none_unless_given() -> None:
    latents = Latents(torch.zeros(5, 3, 4, dtype=torch.bfloat16))
    assert latents.class_tokens_NKD.shape == (5, 0, 4) and latents.views_MKD.shape == (0, 0, 4)
    assert latents.class_tokens_NKD.dtype == torch.bfloat16
    assert len(latents) == 5 and latents.nbytes == 5 * 3 * 4 * 2


@pytest.mark.parametrize("rows", [[2, 0], [1], [], [3, 2, 1, 0]])
def test_all_parts_of_the_images_asked_for_come_in_that_order(rows: list[int]) -> None:
    latents = numbered(10, 4, views=3)[np.array(rows, dtype=np.int64)]
    assert images_of(latents) == [10 + row for row in rows]
    assert latents.views_MKD.shape == (3 * len(rows), 2, 4)


def test_groups_are_joined_in_order() -> None:
    parts = [numbered(0, 2, views=1), numbered(7, 0, views=1), numbered(5, 3, views=1)]
    assert images_of(Latents.joined(parts)) == [0, 1, 5, 6, 7]
    assert parts == []  # so that they are held once


def test_bytes_are_those_of_all_parts() -> None:
    assert numbered(0, 6, blocks=2, views=5).nbytes == 6 * 4 * (3 * 4 + 2 * 4 + 5 * 2 * 4)


def test_all_parts_go_to_a_device_together() -> None:
    moved = numbered(0, 3, views=2).to(torch.device("meta"))
    parts = (moved.tokens_NTD, moved.class_tokens_NKD, moved.views_MKD)
    assert {part.device.type for part in parts} == {"meta"}
    assert moved[np.array([1, 0])].tokens_NTD.shape == (2, 3, 4)


def test_parts_of_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match="of the same images"):
        Latents(torch.zeros(5, 3, 4), torch.zeros(4, 2, 4))
    with pytest.raises(ValueError, match="of the same images"):
        Latents(torch.zeros(5, 3, 4), torch.zeros(5, 2, 4), torch.zeros(6, 2, 4))


def test_as_many_were_encoded_as_there_are_rows() -> None:
    assert len(Encoded(np.array([3, 3, 8]), numbered(0, 3))) == 3
