"""A run from configuration to results: the main job, for the command line, for comparisons and for programs."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from vitlr.data import load_stream
from vitlr.data.experience import Experience, Stream
from vitlr.errors import RunError
from vitlr.evaluation.run import Record, iter_run
from vitlr.learning import GradientLearner, Learner
from vitlr.runs.build import Encoder, Network, build_learner, check_images_left, open_network
from vitlr.runs.checkpoint import load_checkpoint, save_checkpoint, truncate_metrics
from vitlr.runs.config import RunConfig, to_dict, to_yaml
from vitlr.runs.files import locked, write_atomically
from vitlr.runs.network import keep
from vitlr.runs.tracking import EventWriter, MetricsWriter, machine, read_metrics, record_to_json, write_json
from vitlr.vit import save_image_classifier
from vitlr.vit.card import model_card

__all__ = ["Materials", "Result", "prepare", "read_config", "train"]

Encode = Callable[[Experience], tuple[Tensor, np.ndarray]]
PREDICTIONS = "predictions.json"


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What a run needs before it starts, checked: it may be shared by runs over the same data and trunk."""

    stream: Stream
    network: Network
    encode: Encode
    test: tuple[Tensor, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Where a run was written and what its summary says."""

    run_dir: Path
    summary: dict[str, Any]


def prepare(
    config: RunConfig,
    *,
    on_render: Callable[[int, int], None] | None = None,
    on_test: Callable[[int, int], None] | None = None,
) -> Materials:
    """Open data and network and encode the test set: everything that can be refused is refused here."""
    network = open_network(config.backbone, cached=True)
    stream = load_stream(config.data, on_render)
    encoder = Encoder(network, stream, config)
    try:
        test = encoder(stream.test, on_test)
    finally:
        keep(network)
    check_images_left(test[0], stream)
    return Materials(stream=stream, network=network, encode=encoder, test=test)


def train(
    config: RunConfig,
    materials: Materials | None = None,
    *,
    on_start: Callable[[Materials, int], None] | None = None,
    on_record: Callable[[Record], None] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Result:
    """Run the main job and write its run directory.

    Args:
        materials: as :func:`prepare` gives them, where the caller has them already.
        on_start: called with them and the number of experiences already done.
        on_record: called after each experience.
        resume: go on from the last checkpoint in the run directory.
        overwrite: remove what is in the run directory first.

    Raises:
        VitLRError: bad input, named; nothing has been written then.
        RunError: the run directory exists (neither ``resume`` nor ``overwrite``), cannot be written or
            resumed, or the loss is no longer finite.
    """
    run_dir = config.run_dir
    check_run_dir(run_dir, resume=resume, overwrite=overwrite)
    if materials is None:
        materials = prepare(config)
    learner = build_learner(config, materials.network)
    if overwrite and run_dir.exists():
        shutil.rmtree(run_dir)
    with locked(run_dir):
        identity = _identity(config, materials.stream)
        start = 0
        if resume:
            start = load_checkpoint(run_dir, learner, identity)
            truncate_metrics(run_dir, start)
        else:
            write_atomically(run_dir / "config.yaml", [to_yaml(config).encode()])
        if on_start is not None:
            on_start(materials, start)
        return _run(config, materials, learner, run_dir, start, identity, on_record)


def _run(
    config: RunConfig,
    materials: Materials,
    learner: Learner,
    run_dir: Path,
    start: int,
    identity: dict[str, Any],
    on_record: Callable[[Record], None] | None,
) -> Result:
    stream, began, record = materials.stream, time.perf_counter(), None
    metrics = MetricsWriter(run_dir)
    events = EventWriter(run_dir) if config.tensorboard else None
    try:
        position = start
        for record in iter_run(stream, materials.encode, learner, start=start, test=materials.test):
            position += 1
            line = record_to_json(record, stream, _memory_capacity(learner))
            metrics.write(line)
            if events is not None:
                events.write(line, {} if record.stats is None else record.stats.gradients)
            if config.checkpoint_every and (
                position % config.checkpoint_every == 0 or position == len(stream)
            ):
                save_checkpoint(run_dir, learner, position, identity)
            if on_record is not None:
                on_record(record)
    finally:
        metrics.close()
        if events is not None:
            events.close()
        keep(materials.network)
    if record is not None:
        predictions = {
            "class_names": list(stream.class_names),
            "labels": materials.test[1].tolist(),
            "predictions": record.evaluation.predictions.tolist(),
        }
        write_json(run_dir / PREDICTIONS, predictions)
    summary = _summary(config, materials, run_dir, time.perf_counter() - began)
    if isinstance(learner, GradientLearner):  # methods in closed form are no linear map of a trained head
        _save_model(config, learner, materials, run_dir, summary)
    write_json(run_dir / "summary.json", summary)
    return Result(run_dir=run_dir, summary=summary)


def _memory_capacity(learner: Learner) -> int | None:
    """Latents that the learner may remember; None where that is not bounded, or it keeps none."""
    if isinstance(learner, GradientLearner) and learner.method.replay == "memory":
        return learner.memory.capacity
    return None


def check_run_dir(run_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """RunError unless the directory is free, or may be gone on with or removed as asked."""
    if resume:
        if not (run_dir / "config.yaml").is_file():
            raise RunError(f"{run_dir} holds no run to resume; start one with vitlr train --out {run_dir}")
        return
    if not run_dir.exists():
        # Known before minutes of rendering and encoding; whether it can really be written, `locked` finds out.
        parent = next(path for path in run_dir.absolute().parents if path.exists())
        if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
            raise RunError(f"{run_dir} cannot be made in {parent}; choose another --out")
        return
    if not run_dir.is_dir():
        raise RunError(f"{run_dir} is a file; choose another --out")
    content = {path.name for path in run_dir.iterdir()} - {".lock"}
    if not content:
        return
    if not overwrite:
        raise RunError(f"{run_dir} exists; choose another --out, or --overwrite or --resume it")
    if "config.yaml" not in content:
        raise RunError(
            f"{run_dir} holds something else than a run and is not overwritten; choose another --out"
        )


def read_config(run_dir: str | Path) -> RunConfig:
    """The configuration that a run was started with, its ``out`` being where it lies now."""
    from vitlr.runs.config import parse

    path = Path(run_dir) / "config.yaml"
    if not path.is_file():
        raise RunError(f"{run_dir} holds no run (no config.yaml); give the directory of a run")
    return parse(["--config", str(path), "--out", str(run_dir)])


def _identity(config: RunConfig, stream: Stream) -> dict[str, Any]:
    """What must be the same for a run to be gone on with."""
    from vitlr import __version__

    settings = to_dict(config)
    for name in ("out", "tensorboard", "checkpoint_every"):
        settings.pop(name)
    settings["data"].pop("root")
    settings["data"].pop("workers")
    settings["backbone"].pop("cache")  # latents are the same with and without
    digest = hashlib.sha256()
    for part in (*stream.experiences, stream.test):
        digest.update(f"{part.index} {part.name}\n".encode())
        digest.update("\n".join(part.paths).encode())
        digest.update(part.labels.tobytes())
    return {"vitlr": __version__, "settings": settings, "data": digest.hexdigest()}


def _save_model(
    config: RunConfig, learner: GradientLearner, materials: Materials, run_dir: Path, summary: dict[str, Any]
) -> None:
    known = [label for label, is_known in enumerate(learner.known_C.tolist()) if is_known]
    names = [materials.stream.class_names[label] for label in known]
    save_image_classifier(
        run_dir / "model",
        materials.network.backbone,
        learner.head,  # type: ignore[arg-type]
        learner.classifier_CD[known],
        names,
        card=model_card(
            names,
            backbone=materials.network.outline.name,
            cut=materials.network.cut,
            num_blocks=materials.network.outline.num_blocks,
            image_size=materials.network.outline.image_size,
            settings=to_dict(config),
            data=f"{materials.stream.name}: {summary['experiences']} experiences.",
            figures={
                "test accuracy": f"{summary['test_accuracy']:.4f} on {summary['test_images']} images",
                "average test accuracy along the stream": f"{summary['average_test_accuracy']:.4f}",
            },
        ),
    )


def _cache_summary(materials: Materials) -> dict[str, Any] | None:
    """Where latents were read from and kept, and what went wrong with it; None without a cache."""
    cache = materials.network.cache
    if cache is None:
        return None
    return {"directory": str(cache.directory), "latents": len(cache), "notes": list(cache.notes)}


def _summary(config: RunConfig, materials: Materials, run_dir: Path, seconds: float) -> dict[str, Any]:
    lines = read_metrics(run_dir)
    accuracies = [line["test_accuracy"] for line in lines]
    totals = {part: sum(line["seconds"][part] for line in lines) for part in ("encode", "learn", "evaluate")}
    return {
        "stream": materials.stream.name,
        "notes": list(materials.stream.notes),
        "skipped_images": len(getattr(materials.encode, "skipped", [])),
        "experiences": len(lines),
        "test_images": len(materials.test[1]),
        "test_accuracy": accuracies[-1] if lines else None,
        "seen_accuracy": lines[-1]["seen_accuracy"] if lines else None,
        "average_test_accuracy": float(np.mean(accuracies)) if lines else None,
        "seconds": {**totals, "wall": seconds},
        "seconds_per_experience": (totals["encode"] + totals["learn"]) / max(1, len(lines)),
        "cache": _cache_summary(materials),
        "memory_bytes": lines[-1]["memory"]["bytes"] if lines else 0,
        "cut": materials.network.cut,
        "precision": materials.network.precision,
        "machine": machine(),
        "config": yaml.safe_load(to_yaml(config)),
    }
