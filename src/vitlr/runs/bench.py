"""Seconds to learn one experience on a setting and machine, part by part."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitlr.data.core50 import parse_frame
from vitlr.data.images import read_image
from vitlr.data.names import counted
from vitlr.device import device_named, has_bfloat16
from vitlr.errors import ConfigError
from vitlr.latents.encoder import Encoder
from vitlr.latents.network import Network
from vitlr.latents.record import Latents
from vitlr.latents.views import ViewPlan
from vitlr.learning import GradientLearner, Learner, needs_of
from vitlr.learning.methods.complementary import Complementary
from vitlr.learning.minibatch import epoch_minibatches
from vitlr.rendered.dataset import render_dataset
from vitlr.runs.materials import build_learner, open_network
from vitlr.runs.settings import RunConfig
from vitlr.runs.tracking import machine
from vitlr.vit import PRECISIONS
from vitlr.vit.compute.int8 import int8_is_fast

__all__ = ["advise", "alternatives", "bench_text", "time_experience"]

CLASSES = 50
FRAME_RATE = 20  # of CORe50's camera


def time_experience(
    config: RunConfig,
    *,
    images: int = 300,
    repeats: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Learn an experience of rendered frames with a full memory, several times; medians in seconds.

    The memory is filled with random latents of random classes; neither they nor the weights change the time.
    ``memory`` is part of learning (drawing and decoding rows) and is measured once more on its own; random views
    are part of ``trunk``.
    """
    network = open_network(config)
    learner = build_learner(config, network)
    trained = _trained(config, learner)
    rng = np.random.default_rng(config.seed)
    tell = progress or (lambda done, total: None)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "frames"
        per_video = min(images, 300)
        render_dataset(
            root,
            per_video,
            seed=0,
            sessions=[1],
            objects=range(1, 2 + (images - 1) // per_video),
            processes=1,
        )
        paths = sorted((p.relative_to(root).as_posix() for p in root.rglob("*.png")), key=parse_frame)[
            :images
        ]
        tell(1, repeats + 2)
        capacity = trained.memory.capacity_for(*network.latent_shape)
        trained = _fill(config, learner, network, capacity, rng)
        runs = []
        for repeat in range(repeats + 1):  # the first one warms up
            runs.append(_one(config, network, learner, paths, root, repeat + 1, rng))
            tell(repeat + 2, repeats + 2)
    seconds = {part: statistics.median(run[part] for run in runs[1:]) for part in runs[0]}
    total = seconds["decode"] + seconds["trunk"] + seconds["learn"]
    return {
        "backbone": config.backbone.name,
        "cut": network.cut,
        "blocks": network.backbone.num_blocks,
        "precision": network.precision,
        "train_precision": trained.train_precision,
        "images": images,
        "memory": {
            "capacity": capacity,
            "bytes": trained.memory.num_bytes,
            "codec": trained.memory.codec_name,
        },
        "method": config.learner.method,
        "epochs": config.learner.epochs,
        "batch_size": config.learner.batch_size,
        "seconds": {**seconds, "total": total},
        "images_per_second": images / total,
        "video_seconds": images / FRAME_RATE,
        "repeats": repeats,
        "machine": machine(),
    }


def _trained(config: RunConfig, learner: Learner) -> GradientLearner:
    """The part of a learner that runs training loops, as it stands; ConfigError if there is none."""
    part = learner.replay if isinstance(learner, Complementary) else learner
    if not isinstance(part, GradientLearner):
        raise ConfigError(
            f"bench times training loops, not {config.learner.method}; choose complementary or latent_replay"
        )
    return part


def _fill(
    config: RunConfig, learner: Learner, network: Network, capacity: int, rng: np.random.Generator
) -> GradientLearner:
    """Teach a latent of every class, as most experiences of a stream are of known ones, and fill the memory."""
    generator = torch.Generator().manual_seed(0)

    def latents(num: int) -> torch.Tensor:
        shape = (num, *network.latent_shape)
        if network.images:
            return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return torch.randn(shape, generator=generator)

    class_tokens = torch.randn(
        CLASSES, len(network.class_blocks), network.latent_shape[1], generator=generator
    )
    learner.learn(Latents(latents(CLASSES), class_tokens), np.arange(CLASSES), 0)
    trained = _trained(config, learner)
    if trained.method.replay != "none" and capacity:
        logits_NC = torch.zeros(capacity, CLASSES) if trained.method.keep_logits else None
        labels_N = rng.integers(0, CLASSES, capacity)
        trained.memory.offer(Latents(latents(capacity)), labels_N, 0, rng, logits_NC)
    return trained


def _one(
    config: RunConfig,
    network: Network,
    learner: Learner,
    paths: list[str],
    root: Path,
    experience: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    side, resample = network.backbone.image_size, network.backbone.resample
    network.trunk  # noqa: B018  # loaded before the clock starts
    labels, needs = np.full(len(paths), experience % CLASSES), needs_of(config.learner)
    views = ViewPlan(views=needs.views, budget=needs.view_budget, seed=experience)
    start = time.perf_counter()
    with ThreadPoolExecutor(config.data.workers) as pool:
        images = list(pool.map(lambda path: read_image(root / path, side, resample), paths))
    decoded = time.perf_counter()
    encoder = Encoder(network, batch_size=config.backbone.batch_size, views=views)
    latents = encoder(images, views_by=labels).latents
    encoded = time.perf_counter()
    steps = learner.learn(latents, labels, experience).steps
    learned = time.perf_counter()
    trained, drawn_steps = _trained(config, learner), 0
    while trained.method.replay == "memory" and drawn_steps < steps:
        for _, rows in epoch_minibatches(len(paths), len(trained.memory), config.learner.batch_size, rng):
            trained.memory.draw(rows)
            drawn_steps += 1
    drawn = time.perf_counter()
    return {
        "decode": decoded - start,
        "trunk": encoded - decoded,
        "learn": learned - encoded,
        "memory": drawn - learned,
    }


def alternatives(config: RunConfig, report: dict[str, Any]) -> dict[str, RunConfig]:
    """Settings that may learn faster than those of ``report``, one change each, by the flag that makes it."""
    backbone, learner = config.backbone, config.learner
    changes: dict[str, RunConfig] = {}
    for precision in PRECISIONS:
        if precision != report["precision"] and (precision != "int8" or int8_is_fast()):
            changes[f"--backbone.precision {precision}"] = replace(
                config, backbone=replace(backbone, precision=precision)
            )
    if report["train_precision"] == "float32" and has_bfloat16(device_named(backbone.device)):
        changes["--learner.train_precision bfloat16"] = replace(
            config, learner=replace(learner, train_precision="bfloat16")
        )
    if report["cut"] < report["blocks"]:
        deeper = report["cut"] + 1
        changes[f"--backbone.cut {deeper}"] = replace(config, backbone=replace(backbone, cut=deeper))
    for size in (learner.batch_size // 2, learner.batch_size * 2):
        if size:
            changes[f"--learner.batch_size {size}"] = replace(
                config, learner=replace(learner, batch_size=size)
            )
    if learner.epochs > 1:
        fewer = learner.epochs // 2
        changes[f"--learner.epochs {fewer}"] = replace(config, learner=replace(learner, epochs=fewer))
    return changes


def advise(
    config: RunConfig,
    report: dict[str, Any],
    *,
    images: int = 300,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """What the same experience takes with each alternative, measured once each: fastest first.

    ``ratio`` is the time of ``report`` over the alternative's. What a setting does to accuracy is not measured.
    """
    choices = alternatives(config, report)
    rows = []
    for number, (flag, choice) in enumerate(choices.items()):
        found = time_experience(choice, images=images, repeats=1)
        total = found["seconds"]["total"]
        rows.append({"flag": flag, "seconds": total, "ratio": report["seconds"]["total"] / total})
        if progress is not None:
            progress(number + 1, len(choices))
    return sorted(rows, key=lambda row: row["seconds"])


def bench_text(report: dict[str, Any]) -> str:
    """The same for people."""
    seconds, memory = report["seconds"], report["memory"]
    lines = [
        f"{report['backbone']}, cut {report['cut']}, trunk {report['precision']}, training"
        f" {report['train_precision']}; {report['images']} images,"
        f" {memory['capacity']:,} latents in memory ({memory['bytes'] / 1e6:.1f} MB {memory['codec']}),"
        f" mini-batch {report['batch_size']}, {counted(report['epochs'], 'epoch')}, {report['method']}",
        "{processor}, {threads} threads, torch {torch}".format(**report["machine"]),
        "",
        f"decode  {seconds['decode']:8.3f} s",
        f"trunk   {seconds['trunk']:8.3f} s",
        f"learn   {seconds['learn']:8.3f} s   of which drawing from memory {seconds['memory']:.3f} s",
        f"total   {seconds['total']:8.3f} s   median of {report['repeats']}",
        "",
        f"{report['images_per_second']:.0f} images a second; a camera takes {report['video_seconds']:.1f} s"
        " to record them"
        f" ({report['video_seconds'] / seconds['total']:.1f} times as long)",
    ]
    if report.get("alternatives"):
        lines += ["", "the same with one setting changed, measured once each:"]
        lines += [
            f"{row['seconds']:8.3f} s  {row['ratio']:5.2f}x as fast  {row['flag']}"
            for row in report["alternatives"]
        ]
        lines += ["a later cut and fewer epochs cost accuracy: compare before choosing them"]
    return "\n".join(lines)
