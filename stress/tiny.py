"""A network and a data set so small that a whole run takes a second, for tests of faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIDE = 32


def save_network(directory: Path, *, seed: int = 0) -> Path:
    """A ViT of 3 blocks of width 16 for 32 px images, in Hugging Face format, with random weights."""
    from transformers import ViTConfig, ViTModel

    with torch.random.fork_rng(devices=[]):  # transformers draws from the global generator
        torch.manual_seed(seed)
        config = ViTConfig(
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=SIDE,
            patch_size=8,
        )
        ViTModel(config, add_pooling_layer=False).save_pretrained(directory)
    content = {
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "rescale_factor": 1 / 255,
        "resample": 2,
        "size": {"height": SIDE, "width": SIDE},
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(content))
    return directory


def picture(class_: int, number: int) -> np.ndarray:
    """uint8 (32, 32, 3): a colour that depends on the class, and noise that depends on the picture."""
    colour = np.random.default_rng([class_, 17]).integers(0, 200, 3)
    noise = np.random.default_rng([class_, number]).integers(0, 55, (SIDE, SIDE, 3))
    return (colour + noise).astype(np.uint8)


def save_core50(root: Path, sessions: tuple[int, ...], objects: tuple[int, ...]) -> Path:
    """A tree in CORe50's layout with two frames a video."""
    for session in sessions:
        for object_ in objects:
            folder = root / f"s{session}" / f"o{object_}"
            folder.mkdir(parents=True)
            for index in (20, 120):
                name = f"C_{session:02d}_{object_:02d}_{index:03d}.png"
                Image.fromarray(picture(object_, 1000 * session + index)).save(folder / name)
    return root
