"""What a classifier has learned: a learner and the labels of its classes, as one value.

A :class:`Knowledge` is never changed. Learning makes a new one, which the classifier publishes in one assignment, so
that other threads go on answering from the old one meanwhile, and an interrupt leaves it in place.

Shapes: N images, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.classifier.labels import Label, restored_labels, sorted_labels
from vitlr.errors import DataError, RunError
from vitlr.latents.encoder import Encoder
from vitlr.latents.network import Network
from vitlr.latents.record import Latents
from vitlr.latents.views import ViewPlan
from vitlr.learning import Learner, LearnStats

__all__ = ["Knowledge", "MemorySummary", "answered"]


@dataclass(frozen=True, kw_only=True)
class MemorySummary:
    """What a classifier remembers.

    Attributes:
        images: taught of each label.
        latents: in the replay memory, of each label; 0 for a method that keeps none.
        bytes: of latents, or of the sums of a method in closed form.
        capacity: latents kept at most; None without a bound, or while a bound in bytes waits for the first latent.
    """

    images: dict[Label, int]
    latents: dict[Label, int]
    bytes: int
    capacity: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Knowledge:
    """A learner whose classes have labels.

    Attributes:
        params: the settings it was made from.
        views: random views of taught images that are learned too.
        names: label of each class index; None once forgotten. An index is never given to a second label.
        images: taught of each class index.
        lessons: experiences learned.
        stats: of the last experience; None after a load or ``forget``.
        skipped: sources of the last experience that could not be read. notes: about those read, but not as a whole.
    """

    network: Network
    learner: Learner
    params: dict[str, Any]
    views: ViewPlan = field(default_factory=ViewPlan)
    names: tuple[Label | None, ...] = ()
    images: tuple[int, ...] = ()
    lessons: int = 0
    stats: LearnStats | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[Label, ...]:
        """Known labels, in the order of first appearance."""
        return tuple(label for label in self.names if label is not None)

    @property
    def indices(self) -> list[int]:
        """Class index of each of ``labels``."""
        return [index for index, label in enumerate(self.names) if label is not None]

    # -- changes: each returns new knowledge -----------------------------------------------------------

    def learned(
        self,
        sources: Sequence[Any],
        labels: Sequence[Label],
        *,
        in_order: bool = False,
        on_bad: str = "error",
        progress: Callable[[int, int], None] | None = None,
    ) -> Knowledge:
        """With one experience more; see ``LatentReplayClassifier.partial_fit``.

        Args:
            in_order: number new classes in sorted order, not in that of their appearance.
            on_bad, progress: see ``Encoder``.
        """
        encoder = Encoder(self.network, views=self.views, on_bad=on_bad)
        encoded = encoder(sources, progress, views_by=labels)
        if len(encoded.rows_N) == 0:
            raise DataError(f"none of the {len(sources)} images could be read; give others")
        names, images = list(self.names), list(self.images)
        index = {label: position for position, label in enumerate(names) if label is not None}
        read = [labels[row] for row in encoded.rows_N]
        for label in sorted_labels(read) if in_order else read:
            if label not in index:
                index[label] = len(names)
                names.append(label)
                images.append(0)
        indices_N = np.array([index[label] for label in read], dtype=np.int64)
        learner = copy.copy(self.learner)
        stats = learner.learn(encoded.latents, indices_N, self.lessons)
        for position, count in enumerate(np.bincount(indices_N, minlength=len(images)).tolist()):
            images[position] += count
        return replace(
            self,
            learner=learner,
            names=tuple(names),
            images=tuple(images),
            lessons=self.lessons + 1,
            stats=stats,
            skipped=tuple(encoder.skipped),
            notes=tuple(dict.fromkeys(encoder.notes)),
        )

    def without(self, label: Label) -> tuple[Knowledge, int]:
        """Without a class, and how many latents of it there were.

        Raises:
            DataError: there is no such class.
        """
        if label not in self.names:
            known = ", ".join(map(repr, self.labels))
            raise DataError(f"there is no class {label!r} to forget; the classes are {known}")
        index, learner = self.names.index(label), copy.copy(self.learner)
        removed = learner.forget(index)
        names, images = list(self.names), list(self.images)
        names[index], images[index] = None, 0
        changed = replace(
            self, learner=learner, names=tuple(names), images=tuple(images), stats=None, skipped=(), notes=()
        )
        return changed, removed

    # -- answers ----------------------------------------------------------------------------------------

    def answer(self, sources: Sequence[Any], on_bad: str = "error") -> tuple[np.ndarray, Tensor, Tensor]:
        """(N,) position in ``sources`` of each answer, a video having several; (N, C) logits, columns as ``labels``;
        (N,) scores. With ``on_bad`` skip, a source that cannot be read has one answer of NaN."""

        def answer(latents: Latents) -> tuple[Tensor, Tensor]:
            logits_NC, scores_N = self.learner.answer(latents)
            return logits_NC[:, self.indices], scores_N

        return answered(Encoder(self.network, on_bad=on_bad), sources, len(self.indices), answer)

    def summary(self) -> MemorySummary:
        """What is remembered, by label."""
        counts, known = self.learner.counts(), list(zip(self.labels, self.indices, strict=True))
        return MemorySummary(
            images={label: self.images[index] for label, index in known},
            latents={label: counts.get(index, 0) for label, index in known},
            bytes=self.learner.num_bytes,
            capacity=self.learner.capacity,
        )

    # -- saved state ------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything but the network and the settings: tensors, and plain data that JSON can hold."""
        tensors, plain = self.learner.state()
        own = {"labels": list(self.names), "images": list(self.images), "lessons": self.lessons}
        return tensors, {"learner": plain} | own

    def restored(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> Knowledge:
        """What ``state`` of the knowledge of another classifier with these settings and this network held.

        Raises:
            RunError: its parts do not fit each other.
        """
        names = restored_labels(plain["labels"])
        images, lessons = tuple(plain["images"]), plain["lessons"]
        counted = all(type(count) is int and count >= 0 for count in (*images, lessons))
        if len(images) != len(names) or not counted:
            raise _misfit()
        learner = copy.copy(self.learner)
        learner.load_state(tensors, plain["learner"])
        known = [index for index, is_known in enumerate(learner.known_C.tolist()) if is_known]
        if known != [index for index, label in enumerate(names) if label is not None]:
            raise _misfit()
        restored = replace(self, learner=learner, names=names, images=images, lessons=lessons)
        if known:  # one latent through the head shows if what is stored is of this network and codec
            tokens, width = self.network.latent_shape
            class_tokens = torch.zeros(1, len(self.network.class_blocks), width)
            learner.answer(Latents(torch.zeros(1, tokens, width), class_tokens))
        return restored


def answered(
    encoder: Encoder,
    sources: Sequence[Any],
    classes: int,
    answer: Callable[[Latents], tuple[Tensor, Tensor]],
) -> tuple[np.ndarray, Tensor, Tensor]:
    """Positions (N,), logits (N, C) and scores (N,), NaN for a source that could not be read and was left out."""
    encoded = encoder(sources)
    logits_NC, scores_N = torch.zeros(0, classes), torch.zeros(0)
    if len(encoded.rows_N):
        logits_NC, scores_N = answer(encoded.latents)
    if not encoder.skipped:
        return encoded.rows_N, logits_NC, scores_N
    unread = np.setdiff1d(np.arange(len(sources)), encoded.rows_N)
    rows_N = np.concatenate([encoded.rows_N, unread])
    order = torch.from_numpy(np.argsort(rows_N, kind="stable"))
    logits_NC = torch.cat([logits_NC, torch.full((len(unread), classes), torch.nan)])
    scores_N = torch.cat([scores_N, torch.full((len(unread),), torch.nan)])
    return rows_N[order.numpy()], logits_NC[order], scores_N[order]


def _misfit() -> RunError:
    return RunError("the parts of the saved classifier do not fit each other: use another copy of it")
