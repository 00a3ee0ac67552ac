"""The records of a run (lines of metrics.jsonl): reading them, and measures of the whole run.

Shape letters: E experiences, C classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.errors import RunError
from vitlr.evaluation import metrics
from vitlr.storage.reading import read_regular

__all__ = [
    "backward_transfer",
    "class_matrix",
    "excessive_losses",
    "forward_transfer",
    "read_metrics",
    "run_measures",
    "running_forgetting",
    "value_of",
]

Records = Sequence[Mapping[str, Any]]
_LARGE = 10.0


def read_metrics(run_dir: str | Path) -> list[dict[str, Any]]:
    """Records of a run, in order; a line that a crash cut off at the end is left out.

    Raises:
        RunError: there is no metrics.jsonl, or a line before the last is damaged.
    """
    path = Path(run_dir) / "metrics.jsonl"
    try:
        lines = read_regular(path).split(b"\n")
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); give the directory of a run") from None
    try:
        return [json.loads(line) for line in lines[:-1]]
    except ValueError:
        raise RunError(f"{path} is damaged; run again") from None


def value_of(value: Any) -> float:
    """A record's number; NaN if it is null."""
    return float("nan") if value is None else float(value)


def run_measures(records: Records) -> dict[str, float]:
    """Measures of a run by name; NaN if its records do not have them.

    Accuracies, category accuracy and calibration error are those after the last experience, the latter over images
    of classes seen; seconds and GFLOP are means over experiences; memory is the most that was used.
    """
    last = records[-1]
    gflop = [sum(line["gflop"].values()) for line in records if line.get("gflop")]
    learn = [line["seconds"]["learn"] for line in records]
    return {
        "test_accuracy": value_of(last["test_accuracy"]),
        "seen_accuracy": value_of(last["seen_accuracy"]),
        "average_test_accuracy": metrics.average_incremental_accuracy(
            [value_of(line["test_accuracy"]) for line in records]
        ),
        "forgetting": running_forgetting(records)[-1],
        "backward_transfer": backward_transfer(records),
        "forward_transfer": forward_transfer(records),
        "category_accuracy": value_of(last.get("category_accuracy")),
        "calibration_error": value_of(last.get("calibration_error")),
        "learn_seconds": float(np.mean(learn)),
        "seconds": float(np.mean(learn) + np.mean([line["seconds"]["encode"] for line in records])),
        "memory_bytes": float(max(line["memory"]["bytes"] for line in records)),
        "gflop": float(np.mean(gflop)) if gflop else float("nan"),
    }


def class_matrix(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """R (E, C), accuracy of each class after each experience, NaN before it is known; and (C,) the experience,
    from 0, that each class first came with (E if it never came)."""
    names = list(records[0]["class_accuracy"])
    matrix_EC = np.array([[value_of(line["class_accuracy"][name]) for name in names] for line in records])
    place = {name: index for index, name in enumerate(names)}
    learned_C = np.full(len(names), len(records))
    for position in range(len(records) - 1, -1, -1):
        learned_C[[place[name] for name in records[position]["classes"] if name in place]] = position
    matrix_EC[np.arange(len(matrix_EC))[:, None] < learned_C] = np.nan
    return matrix_EC, learned_C


def backward_transfer(records: Records) -> float:
    """``metrics.backward_transfer`` over the classes that were learned; NaN after one experience."""
    return metrics.backward_transfer(*class_matrix(records))


def forward_transfer(records: Records) -> float:
    """``metrics.forward_transfer`` to objects not yet learned, judged by their category; NaN without categories.

    As an object no class is ever right before it is learned; but it may already be taken for another object of
    its category. What the model had before it learned anything is chance: one over the number of categories.
    """
    names = list(records[0]["class_accuracy"])
    category_C, categories = metrics.categories_of(names)
    if category_C is None or not records[0].get("class_category_accuracy"):
        return float("nan")
    matrix_EC = np.array(
        [[value_of(line["class_category_accuracy"][name]) for name in names] for line in records]
    )
    chance_C = np.full(len(names), 1 / len(categories))
    return metrics.forward_transfer(matrix_EC, chance_C, class_matrix(records)[1])


def running_forgetting(records: Records, running: metrics.RunningForgetting | None = None) -> list[float]:
    """Forgetting over classes up to each experience; NaN if there is none yet.

    Args:
        running: adds the records to this one, to continue with.
    """
    values = []
    for line in records:
        place = {name: index for index, name in enumerate(line["class_accuracy"])}
        running = running or metrics.RunningForgetting(len(place))
        accuracy_C = np.array([value_of(value) for value in line["class_accuracy"].values()])
        values.append(running.add(accuracy_C, [place[name] for name in line["classes"] if name in place]))
    return values


def excessive_losses(records: Records, terms: float = 1.0) -> list[tuple[int, float, float]]:
    """Experiences whose loss on what they learned was far above that of guessing: number, loss, nats of guessing.

    Guessing among C classes seen costs log C; what is learned at too high a rate ends far above, at more than three
    times as much and more than ``_LARGE`` nats.

    Args:
        terms: how many such losses the method adds up.
    """
    seen: set[str] = set()
    found = []
    for line in records:
        seen.update(line["classes"])
        loss, guessing = value_of(line["train_loss"]), terms * math.log(max(len(seen), 1))
        if loss > max(terms * _LARGE, 3 * guessing):
            found.append((line["experience"], loss, guessing))
    return found
