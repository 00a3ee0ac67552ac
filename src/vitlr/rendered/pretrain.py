"""Pretraining of the small network in the package, on rendered objects that no benchmark stream contains.

The targets are what the renderer knows, whatever the background, light, pose and covering hand. From the class
token: which of several hundred objects it is, its colours (histogram) and its shape (distribution of distances,
D2 of Osada et al. 2002). From each patch token: how much of the object it shows. With these dense and continuous
targets a small transformer learns in minutes what would take hours from labels alone.

For most of the training each image shows a random half of its patches (PatchDropout, Liu et al. 2022,
arXiv 2208.07220), which halves the cost of a step and teaches the network to cope with covered parts. The last
steps use whole images. AdamW with a cosine schedule; no other data, no other weights.

Evaluated by nearest-class-mean accuracy of frozen class-token features on the 50 objects, next to the same
network untrained.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from vitlr.data.core50 import protocols
from vitlr.errors import ConfigError, RunError
from vitlr.rendered.dataset import FRAME, PretrainingViews, frame_numbers, pretraining_views, render_frame
from vitlr.storage.files import new_directory

__all__ = ["PretrainConfig", "nearest_class_mean_accuracy", "pretrain"]

MEAN = STD = 0.5


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Network, data and schedule of the pretraining.

    Attributes:
        objects: rendered objects to distinguish; views: frames rendered of each.
        width, blocks, heads, patch_size, image_size: of the ViT.
        epochs: passes over all views; whole_share: share of the steps, at the end, on whole images.
        keep: share of the patches shown in the steps before.
        batch_size, lr, weight_decay, warmup_steps, label_smoothing: of AdamW and the loss.
        seed: of the objects, the initial weights and the order.
    """

    objects: int = 300
    views: int = 70
    width: int = 192
    blocks: int = 6
    heads: int = 3
    patch_size: int = 16
    image_size: int = 128
    epochs: int = 7
    whole_share: float = 0.2
    keep: float = 0.5
    batch_size: int = 64
    lr: float = 7e-4
    weight_decay: float = 0.05
    warmup_steps: int = 200
    label_smoothing: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "objects",
            "views",
            "width",
            "blocks",
            "heads",
            "patch_size",
            "image_size",
            "epochs",
            "batch_size",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ConfigError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size must be a multiple of patch_size, got {self.image_size} and {self.patch_size}"
            )
        if not 0 < self.lr < 1e3:  # false for NaN as well
            raise ConfigError(f"lr must be above 0 and below 1000, got {self.lr}")
        if self.objects * self.views < self.batch_size:
            raise ConfigError(
                f"{self.objects} objects with {self.views} views each do not fill a batch of {self.batch_size};"
                " lower batch_size or render more"
            )
        if self.image_size != FRAME:
            raise ConfigError(
                f"image_size must be {FRAME}, the size of rendered frames, got {self.image_size}"
            )
        for name in ("whole_share", "keep"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in (0, 1], got {getattr(self, name)}")


def new_network(config: PretrainConfig) -> nn.Module:
    """A transformers ViTModel with initial weights drawn from the seed."""
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
            ),
            add_pooling_layer=False,
        )


def normalised(images_NHWC: Tensor) -> Tensor:
    """Normalised pixels (N, 3, H, W)."""
    return (images_NHWC.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def tokens(model: Any, images_NHWC: Tensor, keep_NK: Tensor | None = None) -> Tensor:
    """Tokens after the final norm (N, 1 + K, D); only the patches listed in ``keep_NK`` are shown if given."""
    tokens_NTD = model.embeddings(normalised(images_NHWC))
    if keep_NK is not None:
        patches = tokens_NTD[:, 1:].gather(1, keep_NK.unsqueeze(-1).expand(-1, -1, tokens_NTD.shape[-1]))
        tokens_NTD = torch.cat([tokens_NTD[:, :1], patches], dim=1)
    for block in model.layers:
        tokens_NTD = block(tokens_NTD, None)
    return model.layernorm(tokens_NTD)


class Targets(nn.Module):
    """The linear maps from tokens to the targets, and their losses. Discarded after pretraining."""

    def __init__(self, config: PretrainConfig, views: PretrainingViews) -> None:
        super().__init__()
        self.smoothing = config.label_smoothing
        self.which = nn.Linear(config.width, config.objects)
        self.colours = nn.Linear(config.width, views.colours.shape[1])
        self.shape = nn.Linear(config.width, views.shapes.shape[1])
        self.shown = nn.Linear(config.width, 1)
        for layer in self.children():
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
        self.colours_of = torch.from_numpy(views.colours).float()
        self.shape_of = torch.from_numpy(views.shapes).float()

    def forward(self, tokens_NTD: Tensor, labels: Tensor, coverage_NK: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the losses, and the logits (N, objects)."""
        token_ND = tokens_NTD[:, 0]
        logits = self.which(token_ND)
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        loss = loss + functional.cross_entropy(self.colours(token_ND), self.colours_of[labels])
        loss = loss + functional.cross_entropy(self.shape(token_ND), self.shape_of[labels])
        shown = self.shown(tokens_NTD[:, 1:]).squeeze(-1)
        return loss + 2 * functional.binary_cross_entropy_with_logits(shown, coverage_NK), logits


def nearest_class_mean_accuracy(
    train_ND: np.ndarray, train_labels: np.ndarray, test_ND: np.ndarray, test_labels: np.ndarray
) -> float:
    """Accuracy of the nearest class mean (cosine, after centring on the training mean) on test features."""
    centre = train_ND.mean(axis=0)
    classes = np.unique(train_labels)
    means = np.stack([train_ND[train_labels == c].mean(axis=0) - centre for c in classes])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return float((classes[((test_ND - centre) @ means.T).argmax(axis=1)] == test_labels).mean())


def train(
    model: nn.Module,
    views: PretrainingViews,
    config: PretrainConfig,
    progress: Callable[[int, int, float], None] | None = None,
) -> list[dict[str, float]]:
    """Train in place; returns mean loss and share of recognised objects of each epoch."""
    rng = np.random.default_rng([config.seed, 1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        targets = Targets(config, views)
    parameters = [*model.parameters(), *targets.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    num = len(views.labels)
    steps_per_epoch = num // config.batch_size
    total = steps_per_epoch * config.epochs
    warmup = min(config.warmup_steps, max(1, total // 10))
    history, step = [], 0
    for epoch in range(config.epochs):
        order, losses, hits = rng.permutation(num), 0.0, 0
        for rows in np.split(order[: steps_per_epoch * config.batch_size], steps_per_epoch):
            scale = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / total))
            for group in optimizer.param_groups:
                group["lr"] = config.lr * scale
            whole = step >= total * (1 - config.whole_share)
            batch, labels, coverage, keep = draw_batch(
                views, np.sort(rows), 1.0 if whole else config.keep, rng
            )
            loss, logits = targets(tokens(model, batch, keep), labels, coverage)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            losses += loss.item()
            hits += int((logits.argmax(dim=1) == labels).sum())
            if progress is not None:
                progress(step, total, loss.item())
        count = steps_per_epoch * config.batch_size
        history.append({"epoch": epoch, "loss": losses / steps_per_epoch, "accuracy": hits / count})
    return history


def draw_batch(
    views: PretrainingViews, rows: np.ndarray, keep: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Images (half of them mirrored), labels, coverage of the patches shown, and which these are."""
    images, coverage = views.images[rows], views.coverage[rows]
    mirrored = rng.random(len(rows)) < 0.5
    images[mirrored], coverage[mirrored] = images[mirrored, :, ::-1], coverage[mirrored, :, ::-1]
    coverage_NP = torch.from_numpy(coverage.reshape(len(rows), -1)).float() / 255
    labels = torch.from_numpy(views.labels[rows])
    if keep == 1.0:
        return torch.from_numpy(images), labels, coverage_NP, None
    patches = coverage_NP.shape[1]
    chosen = torch.from_numpy(
        rng.random((len(rows), patches)).argsort(axis=1)[:, : max(1, round(keep * patches))]
    )
    return torch.from_numpy(images), labels, coverage_NP.gather(1, chosen), chosen


@torch.no_grad()
def features(model: nn.Module, images_NHWC: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Class-token features (N, D) of a frozen network."""
    batches = range(0, len(images_NHWC), batch_size)
    return np.concatenate(
        [tokens(model, torch.from_numpy(images_NHWC[i : i + batch_size]))[:, 0].numpy() for i in batches]
    )


def judge(model: nn.Module, seed: int = 0, frames: int = 4) -> float:
    """Nearest-class-mean accuracy on the 50 objects: training sessions against sessions 3, 7 and 10."""
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
    """Render, train, evaluate and save a Hugging Face directory; returns what is also written to its recipe.json.

    The weights are stored as float16. This rounding changes features by about one part in a thousand and
    halves the size of the package. The directory appears whole or not at all.

    Raises:
        RunError: ``out`` exists and is not empty, or cannot be written; checked before the work begins.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists and is not empty; choose another directory")
    try:
        with new_directory(out, replace=False) as building:
            model, report = _pretrained(config, progress or (lambda stage, done, total: None))
            _save(model, report, config, building)
    except SafetensorError as error:  # safetensors' own error for a full disk
        raise RunError(f"{out} cannot be written: {error}; free space or choose another directory") from error
    return report


def _pretrained(
    config: PretrainConfig, tell: Callable[[str, int, int], None]
) -> tuple[nn.Module, dict[str, Any]]:
    """The trained network and its report."""
    start = time.perf_counter()
    views = pretraining_views(
        config.objects,
        config.views,
        seed=1000 + config.seed,
        cells=config.image_size // config.patch_size,
        progress=lambda done, total: tell("rendering", done, total),
    )
    rendered = time.perf_counter()
    model = new_network(config)
    untrained = judge(model)
    model.train()
    history = train(
        model, views, config, lambda step, total, loss: tell(f"training, loss {loss:.2f}", step, total)
    )
    model.eval()
    trained = time.perf_counter()
    model.half()
    model.float()  # evaluated as it will be loaded, after rounding
    report = {
        "config": asdict(config),
        "nearest_class_mean_accuracy": judge(model),
        "nearest_class_mean_accuracy_untrained": untrained,
        "history": history,
        "seconds": {"rendering": rendered - start, "training": trained - rendered},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return model, report


def _save(model: Any, report: dict[str, Any], config: PretrainConfig, directory: Path) -> None:
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
    model.half().save_pretrained(directory)
    for name, content in (("preprocessor_config.json", preprocessor), ("recipe.json", report)):
        (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
