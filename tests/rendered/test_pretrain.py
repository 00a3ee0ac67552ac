"""Pretraining's parts against hand-made cases, and the bundled network against itself untrained."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from vitlr.data.core50 import protocols
from vitlr.errors import ConfigError, RunError
from vitlr.rendered.dataset import PretrainingViews, render_frame
from vitlr.rendered.pretrain import (
    PretrainConfig,
    draw_batch,
    features,
    nearest_class_mean_accuracy,
    new_network,
    pretrain,
    tokens,
    train,
)
from vitlr.vit import load_backbone, split


@pytest.fixture(scope="module")
def views() -> PretrainingViews:
    """Two objects, a bright square on the left and a dark one on the right, eight views each."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 110, (16, 128, 128, 3)).astype(np.uint8)
    coverage = np.zeros((16, 8, 8), dtype=np.uint8)
    images[:8, 32:96, :64], images[8:, 32:96, 64:] = 255, 0
    coverage[:8, 2:6, :4], coverage[8:, 2:6, 4:] = 255, 255
    return PretrainingViews(
        images=images,
        labels=np.repeat([0, 1], 8),
        coverage=coverage,
        colours=np.eye(2, 64),
        shapes=np.full((2, 16), 1 / 16),
    )


def test_nearest_class_mean_matches_a_case_worked_out_by_hand() -> None:
    train_features, labels = (
        np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 4.0]]),
        np.array([0, 0, 1, 1]),
    )
    test_features = np.array([[5.0, 1.0], [0.5, 3.0], [0.9, 1.9], [2.0, 1.0]])
    # Centre (1, 1.5); means minus centre (1, -1.5) and (-1, 1.5): the last two lie on either side.
    accuracy = nearest_class_mean_accuracy(train_features, labels, test_features, np.array([0, 1, 0, 0]))
    assert accuracy == 0.75


def test_a_mirrored_picture_has_its_coverage_mirrored_too(views: PretrainingViews) -> None:
    images, _, coverage, keep = draw_batch(views, np.arange(16), 1.0, np.random.default_rng(0))
    assert keep is None
    sides = []
    for image, cells in zip(images.numpy(), coverage.numpy().reshape(-1, 8, 8), strict=True):
        extreme = np.abs(image.astype(int) - 100).mean(axis=(0, 2)) > 20  # columns with the square
        assert np.array_equal(extreme.reshape(8, 16).all(axis=1), cells.any(axis=0))
        sides.append(bool(extreme[0]))
    assert 0 < sum(sides) < 16
    assert sides[:8] != [True] * 8


def test_shown_patches_are_distinct_and_come_with_their_own_coverage(views: PretrainingViews) -> None:
    rng = np.random.default_rng(0)
    _, _, coverage, keep = draw_batch(views, np.arange(16), 0.5, rng)
    assert keep is not None and keep.shape == coverage.shape == (16, 32)
    assert all(len(set(row.tolist())) == 32 for row in keep)


def test_tokens_equal_transformers_own_forward_pass() -> None:
    model = new_network(PretrainConfig(width=32, heads=2, blocks=2)).eval()
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        expected = model(pixels).last_hidden_state
        assert torch.allclose(tokens(model, torch.from_numpy(images)), expected, atol=1e-5)


def test_training_learns_and_the_same_seed_gives_the_same_weights(views: PretrainingViews) -> None:
    config = PretrainConfig(
        objects=2, width=16, heads=2, blocks=1, epochs=6, batch_size=8, lr=3e-3, warmup_steps=2
    )
    models, losses = [], []
    for _ in range(2):
        model = new_network(config)
        losses.append([epoch["loss"] for epoch in train(model, views, config)])
        models.append(model.state_dict())
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_pretraining_refuses_a_directory_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        pretrain(PretrainConfig(), tmp_path)


def test_a_place_that_cannot_be_written_is_known_before_anything_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("vitlr.rendered.pretrain.pretraining_views", lambda *_, **__: pytest.fail("rendered"))
    with pytest.raises(RunError, match="cannot be written"):
        pretrain(PretrainConfig(), tmp_path / "file" / "network")


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="objects"):
        PretrainConfig(objects=0)
    with pytest.raises(ConfigError, match="multiple"):
        PretrainConfig(width=100, heads=3)


def test_bundled_features_are_at_least_three_times_as_good_as_untrained_ones() -> None:
    """A quick version, on five sessions, of what the recipe records for all of them."""
    directory = Path(str(resources.files("vitlr") / "assets" / "vitlr-small"))
    recipe = json.loads((directory / "recipe.json").read_text(encoding="utf-8"))
    trained, untrained = (recipe[f"nearest_class_mean_accuracy{end}"] for end in ("", "_untrained"))
    assert trained >= 3 * untrained
    assert (directory / "model.safetensors").stat().st_size <= 8 * 2**20
    assert set(protocols()["sessions"]["test"]) == {3, 7, 10}
    sets = []
    for sessions in ((1, 4, 8, 11), (3,)):
        keys = [(session, object_) for session in sessions for object_ in range(1, 51)]
        images = np.stack([render_frame(session, object_, 150) for session, object_ in keys])
        sets.append((images, np.array([object_ for _, object_ in keys])))
    (train_images, train_labels), (test_images, test_labels) = sets
    trunk, head = split(load_backbone("bundled"), 6)

    def bundled(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return head(trunk(torch.from_numpy(images))).numpy()

    network = new_network(PretrainConfig(**recipe["config"])).eval()
    scores = [
        nearest_class_mean_accuracy(see(train_images), train_labels, see(test_images), test_labels)
        for see in (bundled, lambda images: features(network, images))
    ]
    assert scores[0] >= 3 * scores[1], scores
