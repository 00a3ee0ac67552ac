"""Pretraining of the small network in the package, on rendered objects that no benchmark stream contains.

Supervised: which of several hundred objects is it, whatever the background, light, pose and covering hand.
For most of the way each image shows a random half of its patches (PatchDropout, Liu et al. 2022,
arXiv 2208.07220), which halves the cost of a step and teaches the network to do without covered parts; the
end is trained on whole images. AdamW with a cosine schedule; no other data, no other weights.

Judged by nearest-class-mean accuracy of frozen class-token features on the 50 objects, beside the same
network untrained.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vitlr.errors import ConfigError, RunError

__all__ = ["PretrainConfig", "nearest_class_mean_accuracy", "pretrain"]

MEAN = STD = 0.5


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Network, data and schedule of the pretraining.

    Attributes:
        objects: rendered objects to tell apart; views: frames rendered of each.
        width, blocks, heads, patch_size, image_size: of the ViT.
        epochs: passes over all views; whole_share: share of the steps, at the end, on whole images.
        keep: share of the patches shown before that.
        batch_size, lr, weight_decay, warmup_steps, label_smoothing: of AdamW and the loss.
        seed: of the objects, the initial weights and the order.
    """

    objects: int = 500
    views: int = 60
    width: int = 192
    blocks: int = 6
    heads: int = 3
    patch_size: int = 16
    image_size: int = 128
    epochs: int = 4
    whole_share: float = 0.2
    keep: float = 0.5
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 200
    label_smoothing: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("objects", "views", "width", "blocks", "heads", "patch_size", "image_size", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.image_size % self.patch_size or self.width % self.heads:
            raise ConfigError("image_size must be a multiple of patch_size, and width of heads")
        for name in ("whole_share", "keep"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in (0, 1], got {getattr(self, name)}")


def new_network(config: PretrainConfig) -> nn.Module:
    """A transformers ViTModel with the initial weights that the seed gives."""
    from transformers import ViTConfig, ViTModel

    with torch.random.fork_rng(devices=[]):  # transformers draws from torch's global generator
        torch.manual_seed(config.seed)
        return ViTModel(
            ViTConfig(
                hidden_size=config.width,
                num_hidden_layers=config.blocks,
                num_attention_heads=config.heads,
                intermediate_size=4 * config.width,
                image_size=config.image_size,
                patch_size=config.patch_size,
                attn_implementation="sdpa",
            ),
            add_pooling_layer=False,
        )


def class_token(model: nn.Module, images_NHWC: Tensor, keep_NK: Tensor | None = None) -> Tensor:
    """Class token after the final norm (N, D); only the patches listed in ``keep_NK`` are shown if given."""
    pixels = (images_NHWC.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    tokens_NTD = model.embeddings(pixels)
    if keep_NK is not None:
        patches = tokens_NTD[:, 1:].gather(1, keep_NK.unsqueeze(-1).expand(-1, -1, tokens_NTD.shape[-1]))
        tokens_NTD = torch.cat([tokens_NTD[:, :1], patches], dim=1)
    for block in model.layers:
        tokens_NTD = block(tokens_NTD, None)
    return model.layernorm(tokens_NTD[:, 0])


def nearest_class_mean_accuracy(
    train_ND: np.ndarray, train_labels: np.ndarray, test_ND: np.ndarray, test_labels: np.ndarray
) -> float:
    """Share of test features whose nearest class mean (cosine, after centring on the training mean) is right."""
    centre = train_ND.mean(axis=0)
    classes = np.unique(train_labels)
    means = np.stack([train_ND[train_labels == c].mean(axis=0) - centre for c in classes])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return float((classes[((test_ND - centre) @ means.T).argmax(axis=1)] == test_labels).mean())


def augment(images_NHWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift each image by up to an eighth of its side (edges repeated) and mirror half of them."""
    side = images_NHWC.shape[1]
    margin = side // 8
    padded = np.pad(images_NHWC, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge")
    out = np.empty_like(images_NHWC)
    for i, (y, x) in enumerate(rng.integers(0, 2 * margin + 1, size=(len(out), 2))):
        view = padded[i, y : y + side, x : x + side]
        out[i] = view[:, ::-1] if rng.random() < 0.5 else view
    return out


def train(
    model: nn.Module,
    images_NHWC: np.ndarray,
    labels_N: np.ndarray,
    config: PretrainConfig,
    progress: Callable[[int, int, float], None] | None = None,
) -> list[dict[str, float]]:
    """Train in place; returns loss and accuracy of each epoch."""
    rng = np.random.default_rng([config.seed, 1])
    generator = torch.Generator().manual_seed(config.seed)
    classifier = nn.Linear(config.width, config.objects, bias=False)
    nn.init.zeros_(classifier.weight)
    parameters = [*model.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    steps_per_epoch = len(labels_N) // config.batch_size
    total = steps_per_epoch * config.epochs
    warmup = min(config.warmup_steps, max(1, total // 10))
    patches = (config.image_size // config.patch_size) ** 2
    history, step = [], 0
    for epoch in range(config.epochs):
        order, losses, hits = rng.permutation(len(labels_N)), 0.0, 0
        for rows in np.split(order[: steps_per_epoch * config.batch_size], steps_per_epoch):
            scale = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / total))
            for group in optimizer.param_groups:
                group["lr"] = config.lr * scale
            keep = None
            if step < total * (1 - config.whole_share) and config.keep < 1:
                noise = torch.rand(len(rows), patches, generator=generator)
                keep = noise.argsort(dim=1)[:, : max(1, round(config.keep * patches))]
            batch = torch.from_numpy(augment(images_NHWC[np.sort(rows)], rng))
            labels = torch.from_numpy(labels_N[np.sort(rows)])
            logits = classifier(class_token(model, batch, keep))
            loss = functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            losses += loss.item()
            hits += int((logits.argmax(dim=1) == labels).sum())
            if progress is not None:
                progress(step, total, loss.item())
        history.append(
            {
                "epoch": epoch,
                "loss": losses / steps_per_epoch,
                "accuracy": hits / (steps_per_epoch * config.batch_size),
            }
        )
    return history


@torch.no_grad()
def features(model: nn.Module, images_NHWC: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Class-token features (N, D) of a frozen network."""
    batches = range(0, len(images_NHWC), batch_size)
    return np.concatenate(
        [class_token(model, torch.from_numpy(images_NHWC[i : i + batch_size])).numpy() for i in batches]
    )


def judge(model: nn.Module, seed: int = 0, frames: int = 4) -> float:
    """Nearest-class-mean accuracy on the 50 objects: training sessions against sessions 3, 7 and 10."""
    from vitlr.data.core50 import protocols
    from vitlr.data.synthetic import frame_numbers, render_frame

    numbers, sessions = frame_numbers(frames), protocols()["sessions"]
    sets = []
    for split in ("train", "test"):
        keys = [(s, o, f) for s in sessions[split] for o in range(1, 51) for f in numbers]
        images = np.stack([render_frame(s, o, f, seed) for s, o, f in keys])
        sets += [features(model, images), np.array([o for _, o, _ in keys])]
    return nearest_class_mean_accuracy(*sets)


def pretrain(
    config: PretrainConfig,
    out: str | Path,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Render, train, judge and save a Hugging Face directory; returns what is also written to its recipe.json.

    The weights are stored as float16: their rounding changes features by about one part in a thousand and
    halves the package. The directory appears whole or not at all.

    Raises:
        RunError: ``out`` exists and is not empty.
    """
    from vitlr.data.synthetic import pretraining_pool

    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists and is not empty; choose another directory")
    tell = progress or (lambda stage, done, total: None)
    start = time.perf_counter()
    images, labels = pretraining_pool(
        config.objects, config.views, seed=1000 + config.seed, progress=lambda done, total: tell("rendering", done, total)
    )
    rendered = time.perf_counter()
    model = new_network(config)
    untrained = judge(model)
    model.train()
    history = train(model, images, labels, config, lambda step, total, loss: tell(f"training, loss {loss:.2f}", step, total))
    model.eval()
    trained = time.perf_counter()
    model.half()
    model.float()  # judged as it will be loaded, after rounding
    report = {
        "config": asdict(config),
        "nearest_class_mean_accuracy": judge(model),
        "nearest_class_mean_accuracy_untrained": untrained,
        "history": history,
        "seconds": {"rendering": rendered - start, "training": trained - rendered},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    _save(model, report, config, out)
    return report


def _save(model: nn.Module, report: dict[str, Any], config: PretrainConfig, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        model.half().save_pretrained(building)
        preprocessor = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": config.image_size, "width": config.image_size},
            "resample": 3,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [MEAN] * 3,
            "image_std": [STD] * 3,
        }
        for name, content in (("preprocessor_config.json", preprocessor), ("recipe.json", report)):
            (building / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        building.chmod(0o755)
        os.replace(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
