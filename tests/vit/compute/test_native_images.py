"""The network without a cut, against transformers alone and against the network with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny_networks import (
    COMMON,
    KINDS,
    MEAN,
    STD,
    make_directory,
    random_images,
    transformers_features,
)

from vitlr.errors import BackboneError, ConfigError, DataError
from vitlr.latents.record import Latents
from vitlr.learning import LearnerConfig, new_learner
from vitlr.replay import MemoryConfig
from vitlr.vit import Backbone, ImageHead, ImageTrunk, load_backbone, save_image_classifier, split

SIDE = COMMON["image_size"]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


@EVERY_KIND
@pytest.mark.parametrize("frozen", [None, 0, 2, 3])
def test_features_are_those_of_transformers_alone(tmp_path: Path, kind: str, frozen: int | None) -> None:
    backbone = load_backbone(make_directory(tmp_path, kind))
    images = random_images(3, SIDE)
    pixels = ImageTrunk(backbone)(images)
    assert pixels.shape == (3, SIDE, 3 * SIDE) and pixels.dtype == torch.uint8
    with torch.no_grad():
        features = ImageHead(backbone, frozen)(pixels.float())
    torch.testing.assert_close(features, transformers_features(tmp_path, kind, images), rtol=1e-4, atol=1e-4)


def test_pixels_are_the_images_and_nothing_else(tmp_path: Path) -> None:
    trunk = ImageTrunk(load_backbone(make_directory(tmp_path, "vit")))
    images = random_images(2, SIDE)
    assert torch.equal(trunk(images).reshape(2, SIDE, SIDE, 3), images)
    assert not trunk.state_dict()


def trained_names(head: ImageHead) -> set[str]:
    return {name for name, weight in head.named_parameters() if weight.requires_grad}


@EVERY_KIND
def test_native_rehearsal_trains_every_weight_that_the_class_token_depends_on(
    tmp_path: Path, kind: str
) -> None:
    backbone = load_backbone(make_directory(tmp_path, kind))
    head = ImageHead(backbone)
    head(ImageTrunk(backbone)(random_images(2, SIDE)).float()).square().sum().backward()
    without = {name for name, weight in head.named_parameters() if weight.grad is None}
    assert trained_names(head).isdisjoint(without)
    assert all("mask_token" in name for name in without)
    assert any("position_embeddings" in name for name in trained_names(head))


@pytest.mark.parametrize("frozen", [0, 2, 3])
def test_frozen_blocks_stay_bitwise_as_they_were_and_the_backbone_always_does(
    tmp_path: Path, frozen: int
) -> None:
    backbone = load_backbone(make_directory(tmp_path, "vit"))
    whole = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
    for choice in (frozen, None):
        model = learner(ImageHead(backbone, choice), "native")
        before = {name: weight.clone() for name, weight in model.head.state_dict().items()}
        model.learn(pixels_of(backbone, random_images(6, SIDE)), np.array([0, 1, 2, 0, 1, 2]), 0)
        after, trained = model.head.state_dict(), trained_names(model.head)
        assert {name for name in before if not torch.equal(before[name], after[name])} == trained
        saved = {name for name in model.state()[0] if name.startswith("head.")}
        assert saved == {f"head.{name}" for name in trained}
    assert all(torch.equal(whole[name], weight) for name, weight in backbone.model.state_dict().items())


def pixels_of(backbone: Backbone, images_NHWC: torch.Tensor) -> Latents:
    return Latents(*ImageTrunk(backbone).latents(images_NHWC))


def learner(head, method: str):
    config = LearnerConfig(
        method=method, batch_size=8, epochs=2, first_lr=1e-2, lr=1e-2, train_precision="float32"
    )
    memory = MemoryConfig(capacity=9, codec="float32")
    return new_learner(head, config, memory, np.random.default_rng(0))


@pytest.mark.parametrize("cut", [0, 2, 3])
def test_with_a_frozen_trunk_native_replay_computes_what_latent_replay_does(tmp_path: Path, cut: int) -> None:
    backbone = load_backbone(make_directory(tmp_path, "vit"))
    trunk, head = split(backbone, cut)
    latent, native = learner(head, "latent_replay"), learner(ImageHead(backbone, cut), "native")
    for experience in range(4):
        images = random_images(6, SIDE, seed=experience)
        labels = np.array([experience, experience + 1] * 3)
        latent.learn(Latents(trunk(images)), labels, experience)
        native.learn(pixels_of(backbone, images), labels, experience)
    probe = random_images(5, SIDE, seed=99)
    torch.testing.assert_close(
        native.logits(pixels_of(backbone, probe)), latent.logits(Latents(trunk(probe))), rtol=1e-3, atol=1e-4
    )
    assert native.memory.num_bytes == 9 * 3 * SIDE * SIDE
    assert np.array_equal(native.memory.labels, latent.memory.labels)


def test_native_rehearsal_is_torchs_sgd_on_the_whole_network_of_transformers(tmp_path: Path) -> None:
    from transformers import ViTModel

    backbone = load_backbone(make_directory(tmp_path, "vit"))
    config = LearnerConfig(method="native", batch_size=64, epochs=3, first_lr=0.05, train_precision="float32")
    model = new_learner(ImageHead(backbone), config, MemoryConfig(capacity=0), np.random.default_rng(0))
    images, labels = random_images(6, SIDE), np.array([0, 1, 2, 0, 1, 2])
    model.learn(pixels_of(backbone, images), labels, 0)

    network = ViTModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    classifier = torch.nn.Linear(COMMON["hidden_size"], 3, bias=False)
    torch.nn.init.zeros_(classifier.weight)
    weights = [*network.parameters(), *classifier.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=5e-4)
    pixels = (images / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    for _ in range(3):  # the first step moves the classifier only: it starts at zero
        features = network(pixels.permute(0, 3, 1, 2)).last_hidden_state[:, 0]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(classifier(features), torch.from_numpy(labels)).backward()
        optimizer.step()

    trained = ImageHead(backbone)
    trained.load_state_dict(model.head.state_dict())
    probe = random_images(4, SIDE, seed=5)
    with torch.no_grad():
        pixels = (probe / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        expected = network(pixels.permute(0, 3, 1, 2)).last_hidden_state[:, 0]
        torch.testing.assert_close(trained(ImageTrunk(backbone)(probe)), expected, rtol=1e-3, atol=1e-4)
        untrained = ImageHead(backbone)(ImageTrunk(backbone)(probe))
    assert (untrained - expected).abs().max() > 0.05


@pytest.mark.parametrize("frozen", [None, 2])
def test_a_saved_classifier_has_the_trained_embedding_and_agrees_with_the_learner(
    tmp_path: Path, frozen: int | None
) -> None:
    from transformers import ViTForImageClassification

    backbone = load_backbone(make_directory(tmp_path / "network", "vit"))
    model = learner(ImageHead(backbone, frozen), "native")
    model.learn(pixels_of(backbone, random_images(6, SIDE)), np.array([0, 1, 2, 0, 1, 2]), 0)
    save_image_classifier(tmp_path / "saved", backbone, model.head, model.classifier_CD, ["a", "b", "c"])
    saved = ViTForImageClassification.from_pretrained(tmp_path / "saved").eval()
    probe = random_images(4, SIDE, seed=5)
    pixels = (probe / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        logits = saved(pixels.permute(0, 3, 1, 2)).logits
    torch.testing.assert_close(model.logits(pixels_of(backbone, probe)), logits, rtol=1e-3, atol=1e-4)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    backbone = load_backbone(make_directory(tmp_path, "vit"))
    with pytest.raises(DataError, match=r"uint8 images of shape \(N, 32, 32, 3\)"):
        ImageTrunk(backbone)(torch.zeros(1, 32, 32, 3))
    with pytest.raises(DataError, match="resize them"):
        ImageTrunk(backbone)(random_images(1, 16))
    with pytest.raises(ConfigError, match="native replay reads images"):
        ImageHead(backbone)(torch.zeros(1, 17, 32))
    with pytest.raises(BackboneError, match="choose 0 to 3"):
        ImageHead(backbone, 4)
    assert ImageHead(backbone)(torch.zeros(0, SIDE, 3 * SIDE)).shape == (0, 32)
