"""A run from configuration to results: the main job, for the command line, for comparisons and for programs."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vitlr.configuration import deciding, flat
from vitlr.data.identity import stream_identity
from vitlr.data.names import counted
from vitlr.errors import DataError, RunError, VitLRError
from vitlr.evaluation.groups import group_measures
from vitlr.evaluation.metrics import RunningForgetting, confusion_matrix
from vitlr.evaluation.records import (
    backward_transfer,
    excessive_losses,
    forward_transfer,
    read_metrics,
    running_forgetting,
)
from vitlr.evaluation.run import Record, evaluate, iter_run
from vitlr.latents.identity import trunk_identity
from vitlr.learning import CLOSED_FORM, Learner
from vitlr.runs.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint, truncate_metrics
from vitlr.runs.interrupts import Interrupts
from vitlr.runs.materials import MOST_NOTES, Materials, build_learner, prepare
from vitlr.runs.settings import RunConfig, to_dict, to_yaml
from vitlr.runs.tracking import (
    GROUPED,
    EventWriter,
    MetricsWriter,
    finite,
    machine,
    peak_memory_bytes,
    record_to_json,
    write_json,
)
from vitlr.storage.files import clear_directory, write_atomically
from vitlr.storage.locks import locked
from vitlr.storage.reading import read_regular
from vitlr.vit import save_image_classifier
from vitlr.vit.exports.card import model_card
from vitlr.vit.views.account import Account, account

__all__ = ["Result", "loss_warnings", "model_of", "read_config", "train"]

PREDICTIONS, SUMMARY = "predictions.json", "summary.json"
FAILURE = "failure.json"  # why a run ended before its end
_BEGUN = re.compile(r"\.lock|\.config\.yaml\.[0-9a-f]{8}\.tmp")


@dataclass(frozen=True, kw_only=True)
class Result:
    """Where a run was written and what its summary says."""

    run_dir: Path
    summary: dict[str, Any]


def train(
    config: RunConfig,
    materials: Materials | None = None,
    *,
    on_start: Callable[[Materials, int], None] | None = None,
    on_record: Callable[[Record], None] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    interrupts: Interrupts | None = None,
) -> Result:
    """Run the main job and write its run directory.

    Args:
        materials: as :func:`prepare` gives them, where the caller has them already.
        on_start: called with them and the number of experiences already done.
        on_record: called after each experience.
        resume: go on from the last checkpoint in the run directory, from the start where there is none yet.
        overwrite: remove what is in the run directory first.
        interrupts: tells when the run shall stop; by default an interrupt drops what no checkpoint has.

    Raises:
        VitLRError: bad input, named; nothing has been written then.
        RunError: the run directory exists (neither ``resume`` nor ``overwrite``), cannot be written or
            resumed, or the loss is no longer finite; what the last checkpoint holds is as it was.
        KeyboardInterrupt: stopped as asked, after saving.
    """
    run_dir = config.run_dir
    check_run_dir(run_dir, resume=resume, overwrite=overwrite)
    if materials is None:
        materials = prepare(config)
    learner = build_learner(config, materials.network)
    with locked(run_dir):
        check_run_dir(run_dir, resume=resume, overwrite=overwrite)  # another process may have been faster
        identity = _identity(config, materials)
        start = 0
        if resume:
            # Where a run ended before its first checkpoint, nothing is lost by starting again.
            start = load_checkpoint(run_dir, learner, identity) if has_checkpoint(run_dir) else 0
            truncate_metrics(run_dir, start)
        else:
            if overwrite:
                clear_directory(run_dir, last="config.yaml")  # which shows that it is a run
            write_atomically(run_dir / "config.yaml", [to_yaml(config).encode()])
        if on_start is not None:
            on_start(materials, start)
        if start == len(materials.stream):
            # The summary is written last: where it is whole, nothing is missing.
            with suppress(OSError, ValueError):
                return Result(run_dir=run_dir, summary=json.loads(read_regular(run_dir / SUMMARY)))
        interrupts = Interrupts() if interrupts is None else interrupts
        with suppress(OSError):  # of no weight once the run is finished
            (run_dir / FAILURE).unlink(missing_ok=True)
        try:
            return _run(config, materials, learner, run_dir, start, identity, on_record, interrupts)
        except VitLRError as error:
            with suppress(VitLRError, OSError):  # a full disk may be what failed
                write_json(run_dir / FAILURE, {"failure": str(error)})
            raise


def _run(
    config: RunConfig,
    materials: Materials,
    learner: Learner,
    run_dir: Path,
    start: int,
    identity: dict[str, Any],
    on_record: Callable[[Record], None] | None,
    interrupts: Interrupts,
) -> Result:
    stream, began, evaluation = materials.stream, time.perf_counter(), None
    cost = account(materials.network.skeleton, materials.network.cut)
    forgetting = RunningForgetting(stream.num_classes)
    running_forgetting(read_metrics(run_dir) if start else [], forgetting)
    labels, sessions = materials.test_labels, materials.test_sessions
    metrics = MetricsWriter(run_dir)
    events = EventWriter(run_dir) if config.tensorboard else None
    try:
        position = start
        for record in iter_run(stream, materials.encode, learner, start=start, test=materials.test):
            interrupts.unsaved, position, evaluation = True, position + 1, record.evaluation
            line = record_to_json(
                record,
                stream,
                record.memory_capacity,
                _gflop(record, cost),
                groups=group_measures(evaluation, labels, stream.class_names, sessions),
                forgetting=forgetting.add(evaluation.class_accuracy, record.classes),
            )
            metrics.write(line)
            if events is not None:
                events.write(line, {} if record.stats is None else record.stats.gradients)
            due = config.checkpoint_every and position % config.checkpoint_every == 0
            if due or interrupts.asked or (config.checkpoint_every and position == len(stream)):
                metrics.flush()
                save_checkpoint(run_dir, learner, position, identity)
                interrupts.unsaved = False
            if on_record is not None:
                on_record(record)
            interrupts.stop_if_asked()
        if start and evaluation is None:  # all was learned already; the end of the run was cut off
            evaluation = evaluate(learner, materials.test.latents, labels, stream.num_classes)
        if events is not None and evaluation is not None:
            counts_CC = confusion_matrix(labels, evaluation.predictions, stream.num_classes)
            events.write_confusion(stream.experiences[-1].index, counts_CC, stream.class_names)
    finally:
        metrics.close()
        if events is not None:
            events.close()
        materials.network.keep()
    if not bool(learner.known_C.any()):
        raise DataError(
            "no training image could be read, so that nothing was learned; give --data.root images that can be opened"
        )
    if evaluation is not None:
        predictions = {
            "class_names": list(stream.class_names),
            "labels": labels.tolist(),
            "predictions": evaluation.predictions.tolist(),
            "sessions": None if sessions is None else sessions.tolist(),
            "confidence": [
                None if math.isnan(value) else round(value, 6) for value in evaluation.confidence.tolist()
            ],
        }
        write_json(run_dir / PREDICTIONS, predictions)
    summary = _summary(config, materials, run_dir, time.perf_counter() - began)
    _save_model(config, learner, materials, run_dir, summary)
    write_json(run_dir / SUMMARY, summary)
    return Result(run_dir=run_dir, summary=summary)


def _gflop(record: Record, cost: Account) -> dict[str, float]:
    """Billions of operations for an experience: each image and each view once through the trunk, each latent in a
    mini-batch through the head, back too if its blocks are trained. Solving in closed form is not counted."""
    stats = record.stats
    flop = cost.head_step_flop if stats is not None and stats.backward else cost.head_flop
    passes = 0 if stats is None else stats.head_passes
    encoded = record.num_images + record.num_views
    return {"trunk": encoded * cost.trunk_flop / 1e9, "head": passes * flop / 1e9}


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
    # What a run that was killed before its first file was whole leaves behind is no run.
    content = {path.name for path in run_dir.iterdir() if not _BEGUN.fullmatch(path.name)}
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
    from vitlr.runs.settings import parse

    path = Path(run_dir) / "config.yaml"
    if not path.is_file():
        raise RunError(f"{run_dir} holds no run (no config.yaml); give the directory of a run")
    return parse(["--config", str(path), "--out", str(run_dir)])


def model_of(run_dir: str | Path) -> Path:
    """The model that a run left; RunError if it left none."""
    path = Path(run_dir) / "model"
    if not path.is_dir():
        config = read_config(run_dir)
        raise RunError(
            f"{run_dir} holds no model: it is not finished, or what it learned is no network of transformers"
            f" (learner.method {config.learner.method}, memory.tokens {config.memory.tokens}); resume it, or train with"
            " learner.method latent_replay or slda and memory.tokens all"
        )
    return path


def _identity(config: RunConfig, materials: Materials) -> dict[str, Any]:
    """What must be the same to resume a run."""
    from vitlr import __version__

    network, backbone = materials.network, config.backbone
    weights = trunk_identity(
        backbone.name,
        blocks=backbone.blocks,
        image_size=backbone.image_size,
        cut=backbone.cut,
        precision=network.precision,
        batch_size=backbone.batch_size,
        memo=None if network.cache is None else network.cache.root,
    )["weights"]  # known without the trunk, which a run from cached latents never loads
    return {
        "vitlr": __version__,
        "settings": deciding(RunConfig, flat(to_dict(config))),
        "data": stream_identity(materials.stream),
        "network": {"precision": network.precision, "weights": weights},
    }


def _save_model(
    config: RunConfig, learner: Learner, materials: Materials, run_dir: Path, summary: dict[str, Any]
) -> None:
    """Write ``model/``, if what was learned is a network of transformers with a linear classifier."""
    model = learner.linear_model()
    if model is None or model.beyond_transformers:
        return
    known = [label for label, is_known in enumerate(learner.known_C.tolist()) if is_known]
    names = [materials.stream.class_names[label] for label in known]
    skeleton = materials.network.skeleton
    save_image_classifier(
        run_dir / "model",
        materials.network.backbone,
        model.head,  # type: ignore[arg-type]
        model.weight_CD[known],
        names,
        bias_C=None if model.bias_C is None else model.bias_C[known],
        card=model_card(
            names,
            backbone=skeleton.name,
            cut=materials.network.cut,
            num_blocks=skeleton.num_blocks,
            image_size=skeleton.image_size,
            settings=to_dict(config),
            data=f"{materials.stream.name}: {summary['experiences']} experiences.",
            figures={
                "test accuracy": f"{summary['test_accuracy']:.4f} on {summary['test_images']} images",
                "average test accuracy along the stream": f"{summary['average_test_accuracy']:.4f}",
            },
            trained=config.learner.method not in CLOSED_FORM,
        ),
    )


def _cache_summary(materials: Materials) -> dict[str, Any] | None:
    """Where latents were read from and kept, and what went wrong with it; None without a cache."""
    cache = materials.network.cache
    if cache is None:
        return None
    return {"directory": str(cache.directory), "latents": len(cache), "notes": list(cache.notes)}


def loss_warnings(config: RunConfig, records: list[dict[str, Any]]) -> list[str]:
    """A sentence, with the remedy, if a run learned at too high a rate without its loss becoming infinite."""
    of_method = config.learner.der_beta if config.learner.method == "der" else 0.0
    found = excessive_losses(records, 1 + of_method)
    if not found:
        return []
    experience, loss, guessing = max(found, key=lambda each: each[1])
    rates = f"learner.lr (now {config.learner.lr:g}) and learner.first_lr (now {config.learner.first_lr:g})"
    often = counted(len(found), "experience")
    return [
        f"the loss of what was learned was far too large in {often}, {loss:.1f} in experience {experience} where"
        f" guessing gives {guessing:.1f}: lower {rates}, and start again"
    ]


def _skipped(materials: Materials, lines: list[dict[str, Any]]) -> int:
    """Images that could not be read, also those skipped before the run was resumed."""
    read = {line["experience"]: line["num_images"] for line in lines}
    learned = [part for part in materials.stream.experiences if part.index in read]
    test = len(materials.stream.test) - len(materials.test)
    return test + sum(len(part) - read[part.index] for part in learned)


def _summary(config: RunConfig, materials: Materials, run_dir: Path, seconds: float) -> dict[str, Any]:
    lines = read_metrics(run_dir)
    accuracies = [line["test_accuracy"] for line in lines]
    totals = {part: sum(line["seconds"][part] for line in lines) for part in ("encode", "learn", "evaluate")}
    return {
        "stream": materials.stream.name,
        "data": stream_identity(materials.stream),
        "facts": list(materials.stream.facts),
        "notes": list(materials.stream.notes),
        "left_out": materials.stream.left_out.as_dict(),
        "warnings": loss_warnings(config, lines),
        "image_notes": list(dict.fromkeys(materials.encode.notes))[:MOST_NOTES],
        "classes": materials.stream.num_classes,
        "skipped_images": _skipped(materials, lines),
        "experiences": len(lines),
        "test_images": len(materials.test),
        "test_accuracy": accuracies[-1] if lines else None,
        "seen_accuracy": lines[-1]["seen_accuracy"] if lines else None,
        "average_test_accuracy": float(np.mean(accuracies)) if lines else None,
        **{name: lines[-1].get(name) if lines else None for name in GROUPED},
        "backward_transfer": finite(backward_transfer(lines)) if lines else None,
        "forward_transfer": finite(forward_transfer(lines)) if lines else None,
        "seconds": {**totals, "wall": seconds},
        "seconds_per_experience": (totals["encode"] + totals["learn"]) / max(1, len(lines)),
        "cache": _cache_summary(materials),
        "memory_bytes": lines[-1]["memory"]["bytes"] if lines else 0,
        "peak_memory_bytes": peak_memory_bytes(),
        "cut": materials.network.cut,
        "precision": materials.network.precision,
        "machine": machine(),
        "config": yaml.safe_load(to_yaml(config)),
    }
