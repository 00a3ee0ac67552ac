"""The main job as a generator: learn an experience, evaluate, yield a record.

Progress bars, trackers, checkpoints, reports and apps read records; nothing below knows that they exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitlr.data.experience import Experience, Stream

__all__ = ["Evaluation", "Learner", "Record", "evaluate", "iter_run"]


class Learner(Protocol):
    """What a method must offer to be run; see ``vitlr.learning``."""

    def learn(self, latents_NTD: Tensor, labels_N: np.ndarray, experience: int) -> Any: ...

    def logits(self, latents_NTD: Tensor) -> Tensor: ...


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
    """One experience learned and evaluated. ``seconds`` has encode, learn and evaluate."""

    experience: int
    name: str
    num_images: int
    classes: tuple[int, ...]
    evaluation: Evaluation
    stats: Any
    memory_bytes: int
    memory_counts: dict[int, int]
    seconds: dict[str, float] = field(default_factory=dict)


def evaluate(learner: Learner, latents_NTD: Tensor, labels_N: np.ndarray, num_classes: int) -> Evaluation:
    """Judge the learner on encoded test images. Empty test sets give NaN."""
    logits_NC = learner.logits(latents_NTD)
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
    encode: Callable[[Experience], tuple[Tensor, np.ndarray]],
    learner: Any,
    *,
    start: int = 0,
    test: tuple[Tensor, np.ndarray] | None = None,
) -> Iterator[Record]:
    """Learn ``stream`` experience by experience, evaluating on its test set after each.

    Args:
        encode: latents (N, T, D) and labels (N,) of an experience; images that could not be read may be
            missing from both.
        learner: learns in place; its ``memory``, where it has one, is reported.
        start: position in ``stream.experiences`` to begin at (after a resume).
        test: encoded test set, where the caller has it already; encoded once here otherwise.
    """
    test_latents, test_labels = encode(stream.test) if test is None else test
    memory = getattr(learner, "memory", None)
    for experience in stream.experiences[start:]:
        began = time.perf_counter()
        latents, labels = encode(experience)
        encoded = time.perf_counter()
        stats = learner.learn(latents, labels, experience.index) if len(labels) else None
        learned = time.perf_counter()
        evaluation = evaluate(learner, test_latents, test_labels, stream.num_classes)
        evaluated = time.perf_counter()
        yield Record(
            experience=experience.index,
            name=experience.name,
            num_images=len(labels),
            classes=experience.classes,
            evaluation=evaluation,
            stats=stats,
            memory_bytes=getattr(learner if memory is None else memory, "num_bytes", 0),
            memory_counts={} if memory is None else memory.counts(),
            seconds={"encode": encoded - began, "learn": learned - encoded, "evaluate": evaluated - learned},
        )
