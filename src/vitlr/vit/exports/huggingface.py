"""A trained network as an image classifier that transformers opens without this package.

    transformers.pipeline("image-classification", model=DIRECTORY)

The directory holds ``config.json`` (with the class names), ``model.safetensors`` and
``preprocessor_config.json``. Its logits are ours, ``features_ND @ weight_CD.T + bias_C``: the class token goes
through the trunk's and head's blocks, the final norm and a linear classifier.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vitlr.errors import ConfigError, RunError
from vitlr.storage.files import new_directory
from vitlr.vit.backbone import Backbone, quiet_transformers
from vitlr.vit.compute.cut import Head
from vitlr.vit.compute.images import ImageHead

__all__ = ["save_image_classifier"]


def save_image_classifier(
    directory: str | Path,
    backbone: Backbone,
    head: Head | ImageHead,
    weight_CD: Tensor,
    class_names: Sequence[str],
    *,
    bias_C: Tensor | None = None,
    overwrite: bool = False,
    card: str | None = None,
) -> Path:
    """Write backbone, trained head and classifier as one Hugging Face model; returns its directory.

    The directory appears whole or not at all: it is written under a temporary name and then renamed. An earlier
    model in that place is replaced; a directory with other contents only if ``overwrite`` is set.

    Args:
        backbone: the network that the head was cut from; embedding and blocks below the cut are taken from it.
        weight_CD: the classifier, one row per class; the caller leaves out classes never seen.
        class_names: the names of these rows.
        bias_C: of the classifier; 0 by default.
        card: text of the model card, README.md in the directory.

    Raises:
        ConfigError: weight and class names do not match each other or the network.
        RunError: the directory holds something else, or cannot be written.
    """
    directory = Path(directory).absolute()
    if len(class_names) == 0 or weight_CD.shape != (len(class_names), backbone.width):
        raise ConfigError(
            f"the classifier has shape {tuple(weight_CD.shape)}, but {len(class_names)} classes of width "
            f"{backbone.width} need ({len(class_names)}, {backbone.width}), with at least one class"
        )
    if len(set(class_names)) != len(class_names):
        raise ConfigError("two classes have the same name: a classifier is saved by its class names")
    _check_place(directory, overwrite)
    model = _classifier_model(backbone, head, weight_CD, bias_C, class_names)
    try:
        with new_directory(directory) as new:
            with quiet_transformers():
                model.save_pretrained(new)
            _write_preprocessor(new / "preprocessor_config.json", backbone)
            if card is not None:
                (new / "README.md").write_text(card, encoding="utf-8")
    except SafetensorError as error:  # safetensors' own error for a full disk
        raise RunError(f"{directory} cannot be written: {error}; free space or choose another") from error
    return directory


def _check_place(directory: Path, overwrite: bool) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise RunError(f"{directory} is a file: choose another directory for the model")
    if not overwrite and any(directory.iterdir()) and not _is_model(directory):
        raise RunError(f"{directory} is not empty and holds no model: choose another directory")


def _is_model(directory: Path) -> bool:
    """Whether the directory contains nothing but the files of an exported model."""
    names = {path.name for path in directory.iterdir()}
    ours = {"config.json", "preprocessor_config.json"}
    return ours <= names and all(
        name in ours or name == "README.md" or name.startswith("model") for name in names
    )


def _classifier_model(
    backbone: Backbone,
    head: Head | ImageHead,
    weight_CD: Tensor,
    bias_C: Tensor | None,
    class_names: Sequence[str],
) -> Any:
    """The *ForImageClassification model of the backbone's family, with these weights."""
    import transformers

    family = backbone.family
    config = deepcopy(backbone.config)
    config.architectures = [family.classifier_class]
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: index for index, name in enumerate(class_names)}
    with torch.device("meta"):  # draw no weights: all of them are set below
        model = getattr(transformers, family.classifier_class)(config)

    base = deepcopy(backbone.model).cpu()
    if isinstance(head, ImageHead):
        if head.embeddings is not None:
            family.embeddings(base).load_state_dict(head.embeddings.state_dict())
        head = head.head
    blocks = family.blocks(base)
    for number, block in head.blocks.items():
        blocks[int(number)].load_state_dict(block.state_dict())
    family.final_norm(base).load_state_dict(head.norm.state_dict())

    # If the stored classifier also reads the mean of the patch tokens, those weights are zero.
    classifier = nn.Linear(family.classifier_inputs * backbone.width, len(class_names))
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.weight[:, : backbone.width] = weight_CD
        classifier.bias.zero_()
        if bias_C is not None:
            classifier.bias.copy_(bias_C)
    setattr(model, family.classifier_prefix, base)
    model.classifier = classifier
    return model.eval()


def _write_preprocessor(path: Path, backbone: Backbone) -> None:
    """The normalisation as settings of ViT's image processor, which the models of every family accept."""
    side = backbone.image_size
    content = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": backbone.resample,
        "do_rescale": True,
        "rescale_factor": backbone.rescale_factor,
        "do_normalize": True,
        "image_mean": list(backbone.mean),
        "image_std": list(backbone.std),
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
