"""The main job as a generator: learn an experience, evaluate, yield a record.

Progress bars, trackers, checkpoints, reports and apps read records; nothing below knows that they exist.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from vitlr.data.experience import Stream
from vitlr.latents.record import Encoded, Latents
from vitlr.learning import Learner, LearnStats

__all__ = ["Encode", "Evaluation", "Record", "evaluate", "iter_run"]


class Encode(Protocol):
    """Paths of a stream to the latents of those that can be read; with random views of them to learn from if asked."""

    def __call__(self, paths: Sequence[str], /, *, views_by: np.ndarray | None = None) -> Encoded: ...


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracies are fractions 0..1, higher is better; predictions range over the classes seen so far.

    Attributes:
        test_accuracy: over the whole test set; images of classes not yet seen count as wrong.
        seen_accuracy: over test images of classes seen so far.
        test_loss: mean cross-entropy (nats) over those same images.
        class_accuracy: (num_classes,) per class, NaN where the test set has no image of it.
        predictions: (N,) int64 predicted class index for each test image.
        confidence: (N,) float64 probability of that class, by softmax over the classes seen; NaN before any is.
        seen: (N,) bool, whether the class of the image has been seen.
    """

    test_accuracy: float
    seen_accuracy: float
    test_loss: float
    class_accuracy: np.ndarray
    predictions: np.ndarray
    confidence: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Record:
    """One experience learned and evaluated.

    ``stats`` is None if no image of it could be read. ``num_views``: random views of its images that were learned too.
    ``seconds`` has encode, learn and evaluate.
    """

    experience: int
    name: str
    num_images: int
    classes: tuple[int, ...]
    evaluation: Evaluation
    stats: LearnStats | None
    memory_bytes: int
    memory_counts: dict[int, int]
    memory_capacity: int | None = None
    num_views: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def evaluate(learner: Learner, latents: Latents, labels_N: np.ndarray, num_classes: int) -> Evaluation:
    """Evaluate the learner on encoded test images with these labels. Empty test sets give NaN."""
    logits_NC = learner.logits(latents)
    missing = num_classes - logits_NC.shape[1]
    if missing > 0:
        logits_NC = functional.pad(logits_NC, (0, missing), value=float("-inf"))
    labels = torch.from_numpy(labels_N.copy())
    predictions = logits_NC.argmax(dim=1)
    correct = (predictions == labels).numpy()
    seen = torch.isfinite(logits_NC).any(dim=0)[labels].numpy() if len(labels_N) else np.zeros(0, dtype=bool)
    hits = np.bincount(labels_N, weights=correct & seen, minlength=num_classes)
    totals = np.bincount(labels_N, minlength=num_classes)
    rows = torch.from_numpy(np.flatnonzero(seen))
    with np.errstate(invalid="ignore"):
        class_accuracy = hits / np.where(totals > 0, totals, np.nan)
    return Evaluation(
        test_accuracy=_mean(correct & seen),
        seen_accuracy=_mean(correct[seen]),
        test_loss=float(functional.cross_entropy(logits_NC[rows], labels[rows]))
        if len(rows)
        else float("nan"),
        class_accuracy=class_accuracy,
        predictions=predictions.numpy(),
        confidence=logits_NC.double().softmax(dim=1).amax(dim=1).numpy(),
        seen=seen,
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def iter_run(
    stream: Stream,
    encode: Encode,
    learner: Learner,
    *,
    start: int = 0,
    test: Encoded | None = None,
) -> Iterator[Record]:
    """Learn ``stream`` experience by experience, evaluating on its test set after each.

    Args:
        encode: latents of the images that can be read, and their rows among the paths given.
        learner: learns in place.
        start: position in ``stream.experiences`` to begin at (after a resume).
        test: encoded test set, if the caller has it already; encoded once here otherwise.
    """
    test = encode(stream.test.paths) if test is None else test
    test_labels = stream.test.labels[test.rows_N]
    for experience in stream.experiences[start:]:
        began = time.perf_counter()
        new = encode(experience.paths, views_by=experience.labels)
        labels = experience.labels[new.rows_N]
        encoded = time.perf_counter()
        stats = learner.learn(new.latents, labels, experience.index) if len(labels) else None
        learned = time.perf_counter()
        evaluation = evaluate(learner, test.latents, test_labels, stream.num_classes)
        evaluated = time.perf_counter()
        yield Record(
            experience=experience.index,
            name=experience.name,
            num_images=len(labels),
            num_views=len(new.latents.view_rows_M),
            classes=experience.classes,
            evaluation=evaluation,
            stats=stats,
            memory_bytes=learner.num_bytes,
            memory_counts=learner.counts(),
            memory_capacity=learner.capacity,
            seconds={"encode": encoded - began, "learn": learned - encoded, "evaluate": evaluated - learned},
        )
