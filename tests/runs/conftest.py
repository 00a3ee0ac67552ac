"""A tiny network and a tiny tree for runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


def save_tiny_vit(directory: Path, *, seed: int = 0) -> Path:
    """A ViT of 3 blocks of width 16 for 32 px images, in Hugging Face format, with random weights."""
    from transformers import ViTConfig, ViTModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = ViTConfig(
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=32,
            patch_size=8,
        )
        ViTModel(config, add_pooling_layer=False).save_pretrained(directory)
    preprocessor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 2,
        "size": {"height": 32, "width": 32},
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return directory


def frame(session: int, object_: int, index: int) -> np.ndarray:
    """A picture whose colour says the object and whose noise differs with session and frame."""
    rng = np.random.default_rng([session, object_, index])
    colour = np.random.default_rng([object_, 17]).integers(0, 200, 3)
    return (colour + rng.integers(0, 55, (32, 32, 3))).astype(np.uint8)


def save_tree(
    root: Path, sessions: tuple[int, ...] = (1, 2, 3), objects: tuple[int, ...] = (1, 2, 6, 7)
) -> Path:
    """A CORe50 tree with two frames a video."""
    for session in sessions:
        for object_ in objects:
            folder = root / f"s{session}" / f"o{object_}"
            folder.mkdir(parents=True)
            for index in (20, 120):
                name = f"C_{session:02d}_{object_:02d}_{index:03d}.png"
                Image.fromarray(frame(session, object_, index)).save(folder / name)
    return root


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny ViT with random weights."""
    return save_tiny_vit(tmp_path_factory.mktemp("network") / "tiny-vit")


@pytest.fixture(scope="session")
def tiny_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CORe50 tree of 24 small frames: objects 1, 2, 6, 7 in sessions 1, 2 and 3."""
    return save_tree(tmp_path_factory.mktemp("tree") / "core50")


@pytest.fixture
def flags(tiny_vit: Path, tiny_tree: Path) -> list[str]:
    """Flags of a run that takes a moment."""
    return [
        "--data.dataset=core50",
        f"--data.root={tiny_tree}",
        "--data.scenario=nicv2_391",
        f"--backbone.name={tiny_vit}",
        "--memory.capacity=8",
        "--learner.batch_size=8",
    ]
