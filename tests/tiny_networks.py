"""Tiny networks of every family with random weights, written as Hugging Face directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "patch_size": 8,
    "image_size": 32,
}

# kind: (configuration class, base model class, settings)
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViTConfig", "ViTModel", {"intermediate_size": 48}),
    "vit_without_biases": ("ViTConfig", "ViTModel", {"intermediate_size": 48, "qkv_bias": False}),
    "deit": ("DeiTConfig", "DeiTModel", {"intermediate_size": 48}),
    "dinov2": ("Dinov2Config", "Dinov2Model", {"mlp_ratio": 2}),
    "dinov2_swiglu": ("Dinov2Config", "Dinov2Model", {"mlp_ratio": 2, "use_swiglu_ffn": True}),
    "dinov2_with_registers": (
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        {"mlp_ratio": 2, "num_register_tokens": 3},
    ),
}


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Every parameter random, nothing at a special value such as a bias of 0 or a layer scale of 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.2, generator=generator)
            if ("norm" in name and name.endswith("weight")) or "lambda" in name:
                parameter.add_(1.0)


def make_directory(directory: Path, kind: str, **settings: Any) -> Path:
    """A tiny base model of that kind in Hugging Face format, with its preprocessor file."""
    import transformers

    config_class, model_class, own = KINDS[kind]
    model = getattr(transformers, model_class)(
        getattr(transformers, config_class)(**(COMMON | own | settings))
    )
    randomise(model)
    model.save_pretrained(directory)
    content = {"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255, "resample": 3}
    (directory / "preprocessor_config.json").write_text(json.dumps(content))
    return directory


def transformers_features(
    directory: Path,
    kind: str,
    images_NHWC: torch.Tensor,
    *,
    blocks: int | None = None,
    dtype: torch.dtype = torch.float32,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
) -> torch.Tensor:
    """What transformers alone makes of the class token: the independent side of the comparisons."""
    import transformers

    model_class = getattr(transformers, KINDS[kind][1])
    model = model_class.from_pretrained(directory).eval().to(dtype)
    layers = model.layers if hasattr(model, "layers") else model.encoder.layer
    del layers[blocks if blocks is not None else len(layers) :]
    centre, spread = torch.tensor([mean, std], dtype=torch.float64)
    pixels = (images_NHWC.to(torch.float64) / 255 - centre) / spread
    # DINOv2's models always fit their positions to the image, the others when asked.
    options = {} if kind.startswith("dinov2") else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        output = model(pixels.permute(0, 3, 1, 2).to(dtype), **options)
    return output.last_hidden_state[:, 0]


def random_images(num: int, side: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num, side, side, 3), dtype=torch.uint8, generator=generator)
