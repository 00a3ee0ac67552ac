"""A saved network is an ordinary transformers model with our logits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny_networks import MEAN, STD, random_images

from vitlr.errors import ConfigError, RunError
from vitlr.vit import Backbone, Head, Trunk, load_backbone, save_image_classifier, split

NAMES = ["cup", "käse", "dog"]


def trained(directory: Path, cut: int = 2) -> tuple[Backbone, Trunk, Head, torch.Tensor]:
    """A network whose head has moved away from the pretrained weights, and a classifier."""
    backbone = load_backbone(directory, image_size=48)
    trunk, head = split(backbone, cut)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return backbone, trunk, head, torch.randn(3, 32, generator=generator)


@pytest.mark.parametrize("cut", [0, 2, 3])
def test_transformers_opens_it_with_our_logits(directory: Path, cut: int, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    backbone, trunk, head, weight = trained(directory, cut)
    images = random_images(3, 48)
    ours = head(trunk(images)) @ weight.T
    saved = save_image_classifier(tmp_path / "model", backbone, head, weight, NAMES)
    model = AutoModelForImageClassification.from_pretrained(saved).eval()
    processor = AutoImageProcessor.from_pretrained(saved)
    pixels = processor([Image.fromarray(image) for image in images.numpy()], return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(model(**pixels).logits, ours, rtol=1e-4, atol=1e-4)
    assert [model.config.id2label[index] for index in range(3)] == NAMES


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_the_image_classification_pipeline_gives_our_probabilities(
    directories: dict[str, Path], name: str, tmp_path: Path
) -> None:
    from transformers import pipeline

    backbone, trunk, head, weight = trained(directories[name])
    images = random_images(1, 48)
    saved = save_image_classifier(tmp_path / "model", backbone, head, weight, NAMES)
    ours = (head(trunk(images)) @ weight.T).softmax(-1)[0]
    classify = pipeline("image-classification", model=str(saved), device="cpu")
    found = {answer["label"]: answer["score"] for answer in classify(Image.fromarray(images[0].numpy()))}
    assert np.allclose([found[name] for name in NAMES], ours.detach(), atol=1e-4)


def test_it_can_be_the_backbone_of_another_run(directory: Path, tmp_path: Path) -> None:
    backbone, trunk, head, weight = trained(directory)
    again = load_backbone(save_image_classifier(tmp_path / "model", backbone, head, weight, NAMES))
    images = random_images(2, 48)
    assert (again.image_size, again.mean, again.std) == (48, MEAN, STD)
    trunk2, head2 = split(again, 3)
    torch.testing.assert_close(head2(trunk2(images)), head(trunk(images)), rtol=1e-5, atol=1e-5)


def test_saving_changes_neither_backbone_nor_head(directories: dict[str, Path], tmp_path: Path) -> None:
    backbone, _, head, weight = trained(directories["vit"])
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    config = backbone.config.to_dict()
    save_image_classifier(tmp_path / "model", backbone, head, weight, NAMES)
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())
    assert backbone.config.to_dict() == config


def test_files_are_safetensors_and_json_without_local_paths(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    backbone, _, head, weight = trained(directories["dinov2"])
    saved = save_image_classifier(tmp_path / "model", backbone, head, weight, NAMES)
    files = {path.name for path in saved.iterdir()}
    assert files == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert str(directories["dinov2"].parent) not in (saved / "config.json").read_text()
    assert json.loads((saved / "config.json").read_text())["architectures"] == [
        "Dinov2ForImageClassification"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_earlier_model_is_replaced_and_anything_else_is_not(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    backbone, _, head, weight = trained(directories["vit"])
    place = tmp_path / "model"
    for names in (NAMES, ["a", "b", "c"]):
        save_image_classifier(place, backbone, head, weight, names)
    assert json.loads((place / "config.json").read_text())["label2id"] == {"a": 0, "b": 1, "c": 2}
    (place / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and holds no model"):
        save_image_classifier(place, backbone, head, weight, NAMES)
    assert (place / "notes.txt").read_text() == "mine"
    save_image_classifier(place, backbone, head, weight, NAMES, overwrite=True)
    assert not (place / "notes.txt").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        save_image_classifier(tmp_path / "file", backbone, head, weight, NAMES)


def test_a_failure_leaves_the_earlier_model_whole(
    directories: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, _, head, weight = trained(directories["vit"])
    place = save_image_classifier(tmp_path / "model", backbone, head, weight, NAMES)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    from vitlr.vit.exports import huggingface as export

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(export, "_write_preprocessor", full)
    with pytest.raises(RunError, match=r"cannot be written: no space left"):
        save_image_classifier(place, backbone, head, -weight, NAMES)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_classifiers_that_do_not_fit_are_refused(directories: dict[str, Path], tmp_path: Path) -> None:
    backbone, _, head, weight = trained(directories["vit"])
    for rows, names in ((weight, NAMES[:2]), (weight[:, :31], NAMES), (weight[:0], [])):
        with pytest.raises(ConfigError, match="the classifier has shape"):
            save_image_classifier(tmp_path / "model", backbone, head, rows, names)
    with pytest.raises(ConfigError, match="same name"):
        save_image_classifier(tmp_path / "model", backbone, head, weight, ["cup", "cup", "dog"])
    assert not (tmp_path / "model").exists()
