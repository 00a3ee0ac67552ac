"""Measures of a whole run, from its records as plain data (the lines of metrics.jsonl).

Shape letters: E experiences, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.errors import RunError
from vitlr.evaluation import metrics

__all__ = [
    "backward_transfer",
    "class_matrix",
    "forward_transfer",
    "read_metrics",
    "running_forgetting",
    "value_of",
]

Records = Sequence[Mapping[str, Any]]


def read_metrics(run_dir: str | Path) -> list[dict[str, Any]]:
    """Records of a run, in order; a line cut off by a crash at the end is left out.

    Raises:
        RunError: there is no metrics.jsonl, or a line before the last is damaged.
    """
    path = Path(run_dir) / "metrics.jsonl"
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); give the directory of a run") from None
    try:
        return [json.loads(line) for line in lines[:-1]]
    except ValueError:
        raise RunError(f"{path} is damaged; run again") from None


def class_matrix(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """R (E, C), accuracy of each class after each experience, NaN before it is known; and (C,) the experience,
    from 0, that each class first came with (E where it never came)."""
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
    matrix_EC, learned_C = class_matrix(records)
    known = learned_C < len(matrix_EC)
    return metrics.backward_transfer(matrix_EC[:, known], learned_C[known])


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


def running_forgetting(records: Records) -> list[float]:
    """``metrics.forgetting`` of the stream up to each experience, over classes; NaN where there is none yet."""
    names = list(records[0]["class_accuracy"])
    place, running = {name: index for index, name in enumerate(names)}, metrics.RunningForgetting(len(names))
    return [
        running.add(
            np.array([value_of(line["class_accuracy"][name]) for name in names]),
            [place[name] for name in line["classes"] if name in place],
        )
        for line in records
    ]


def value_of(value: Any) -> float:
    """A record's number; NaN where it is null."""
    return float("nan") if value is None else float(value)
