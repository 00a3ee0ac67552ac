"""The two halves together are the whole network, at every cut; and only one of them learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tiny_networks import make_directory, random_images, transformers_features

from vitlr.errors import BackboneError, ConfigError, DataError
from vitlr.vit import load_backbone, split


@pytest.mark.parametrize("image_size", [32, 48])
def test_head_of_trunk_is_transformers_class_token_at_every_cut(
    directory: Path, kind: str, image_size: int
) -> None:
    images = random_images(2, image_size)
    backbone = load_backbone(directory, image_size=image_size)
    expected = transformers_features(directory, kind, images)
    for cut in range(backbone.num_blocks + 1):
        trunk, head = split(backbone, cut)
        latents = trunk(images)
        assert latents.shape == (2, *trunk.latent_shape) == (2, *head.latent_shape)
        torch.testing.assert_close(head(latents), expected, rtol=1e-5, atol=1e-5)


def test_head_of_trunk_is_exact_in_float64(directory: Path, kind: str) -> None:
    images = random_images(2, 32)
    backbone = load_backbone(directory)
    backbone.model.double()
    expected = transformers_features(directory, kind, images, dtype=torch.float64)
    for cut in range(backbone.num_blocks + 1):
        trunk, head = split(backbone, cut, out_dtype=torch.float64)
        torch.testing.assert_close(head(trunk(images)), expected, rtol=0, atol=1e-12)


def test_kept_blocks_are_the_first_ones_under_the_same_final_norm(directory: Path, kind: str) -> None:
    images = random_images(2, 32)
    backbone = load_backbone(directory, blocks=2)
    expected = transformers_features(directory, kind, images, blocks=2)
    for cut in range(3):
        trunk, head = split(backbone, cut)
        torch.testing.assert_close(head(trunk(images)), expected, rtol=1e-5, atol=1e-5)


def test_latent_at_the_last_cut_is_the_class_token_alone(directory: Path) -> None:
    backbone = load_backbone(directory)
    assert split(backbone, 3)[0](random_images(2, 32)).shape == (2, 1, 32)
    assert split(backbone, 2)[0](random_images(2, 32)).shape == (2, backbone.tokens, 32)


def test_pretrained_class_token_is_used(directory: Path) -> None:
    """At cut 0 token 0 of every image is class token plus position 0, whatever the image."""
    backbone = load_backbone(directory)
    latents = split(backbone, 0)[0](random_images(3, 32))
    embeddings = backbone.model.embeddings
    expected = embeddings.cls_token[0, 0] + embeddings.position_embeddings[0, 0]
    assert embeddings.cls_token.abs().max() > 0.1
    torch.testing.assert_close(latents[:, 0], expected.expand(3, -1))


def test_normalisation_is_the_checkpoints_own(directory: Path, kind: str) -> None:
    images = random_images(2, 32)
    other = load_backbone(directory, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    trunk, head = split(other, 1)
    expected = transformers_features(directory, kind, images, mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.testing.assert_close(head(trunk(images)), expected, rtol=1e-5, atol=1e-5)
    own = transformers_features(directory, kind, images)
    assert (own - expected).abs().max() > 1e-2  # so the comparisons above can tell one from the other


def test_dropout_is_never_active(tmp_path: Path) -> None:
    dropout = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    backbone = load_backbone(make_directory(tmp_path / "vit", "vit", **dropout))
    trunk, head = split(backbone, 1)
    trunk.train(), head.train()
    images = random_images(2, 32)
    assert not any(module.training for module in (*trunk.modules(), *head.modules()))
    assert torch.equal(trunk(images), trunk(images))
    assert torch.equal(head(trunk(images)), head(trunk(images)))


def test_trained_parameters_are_exactly_the_heads(directory: Path) -> None:
    """A freeze that matches nothing, or too much, would show here."""
    backbone = load_backbone(directory)
    trunk, head = split(backbone, 1)
    head(trunk(random_images(2, 32))).square().sum().backward()
    assert [name for name, parameter in head.named_parameters() if parameter.grad is None] == []
    assert all(parameter.requires_grad for parameter in head.parameters())
    for parameter in (*trunk.parameters(), *backbone.model.parameters()):
        assert not parameter.requires_grad and parameter.grad is None
    assert {name.split(".")[0] for name, _ in head.named_parameters()} == {"blocks", "norm"}
    assert {name.split(".")[1] for name, _ in head.blocks.named_parameters(prefix="blocks")} == {"1", "2"}
    block = sum(parameter.numel() for parameter in backbone.family.blocks(backbone.model)[1].parameters())
    assert sum(parameter.numel() for parameter in head.parameters()) == 2 * block + 2 * 32


@pytest.mark.parametrize("cut", [0, 2, 3])
def test_trunk_and_backbone_are_bitwise_unchanged_by_training_the_head(directory: Path, cut: int) -> None:
    backbone = load_backbone(directory)
    trunk, head = split(backbone, cut)
    images = random_images(4, 32)
    weights = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    latents = trunk(images)
    before = head(latents).detach()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        head(latents).square().sum().backward()
        optimizer.step()
    assert not torch.equal(head(latents), before)
    assert torch.equal(trunk(images), latents)
    assert all(torch.equal(value, weights[name]) for name, value in backbone.model.state_dict().items())
    assert torch.equal(split(backbone, cut)[1](latents), before)


def test_latents_carry_no_gradient_and_can_be_trained_on(directory: Path) -> None:
    trunk, head = split(load_backbone(directory), 2)
    latents = trunk(random_images(2, 32))
    assert not latents.requires_grad and not latents.is_inference()
    head(latents).sum().backward()


def test_bfloat16_trunk_is_a_cast_copy_near_float32(directory: Path) -> None:
    backbone = load_backbone(directory)
    images = random_images(4, 32)
    for cut in (1, 3):
        exact = split(backbone, cut)[0](images)
        trunk = split(backbone, cut, precision="bfloat16")[0]
        assert trunk.precision == "bfloat16" and trunk(images).dtype == torch.float32
        assert torch.cosine_similarity(trunk(images).flatten(1), exact.flatten(1)).min() > 0.999
        half = split(backbone, cut, precision="bfloat16", out_dtype=torch.bfloat16)[0](images)
        assert half.dtype == torch.bfloat16 and torch.equal(half.float(), trunk(images))
    assert {value.dtype for value in backbone.model.state_dict().values()} == {torch.float32}


def test_no_images_give_no_latents(directory: Path) -> None:
    for cut in (0, 2, 3):
        trunk, head = split(load_backbone(directory), cut)
        latents = trunk(random_images(0, 32))
        assert latents.shape == (0, *trunk.latent_shape)
        assert head(latents).shape == (0, 32)


def test_heads_weights_are_refused_by_another_cut(directories: dict[str, Path]) -> None:
    backbone = load_backbone(directories["vit"])
    state = split(backbone, 2)[1].state_dict()
    split(backbone, 2)[1].load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"blocks\.1\."):
        split(backbone, 1)[1].load_state_dict(state)


def test_what_cannot_be_cut_or_read_is_refused_in_a_sentence(directories: dict[str, Path]) -> None:
    backbone = load_backbone(directories["vit"])
    for cut in (-1, 4):
        with pytest.raises(BackboneError, match=f"cut {cut} of 3 is out of range"):
            split(backbone, cut)
    with pytest.raises(ConfigError, match="precision must be one of float32, bfloat16, int8, got 'int4'"):
        split(backbone, 2, precision="int4")  # type: ignore[arg-type]
    trunk, head = split(backbone, 3)
    with pytest.raises(DataError, match="uint8 images of shape"):
        trunk(random_images(1, 40))
    with pytest.raises(DataError, match=r"torch\.float32"):
        trunk(random_images(1, 32).float())
    with pytest.raises(ConfigError, match=r"\(N, 1, 32\), got \(2, 17, 32\)"):
        head(torch.zeros(2, 17, 32))
