"""What a classifier has learned: a learner and the labels of its classes, as one value.

A :class:`Knowledge` is never changed. Learning makes a new one, which the classifier publishes in one assignment, so
that other threads go on answering from the old one meanwhile, and an interrupt leaves it in place.

Shapes: N images, C classes.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.classifier.labels import Label, restored_labels, sorted_labels
from vitlr.errors import ConfigError, DataError, RunError
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
        lineage: what identifies each lesson: the same images with the same labels have the same name anywhere.
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
    lineage: tuple[str, ...] = ()
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
            lineage=(*self.lineage, _identity(encoded.latents, read)),
            stats=stats,
            skipped=tuple(encoder.skipped),
            notes=tuple(dict.fromkeys(encoder.notes)),
        )

    def without(self, label: Label) -> tuple[Knowledge, int]:
        """Without a class, and how many latents of it there were.

        Raises:
            DataError: there is no such class.
        """
        index, learner = self._index(label, "forget"), copy.copy(self.learner)
        removed = learner.forget(index)
        names, images = list(self.names), list(self.images)
        names[index], images[index] = None, 0
        return replace(
            self, learner=learner, names=tuple(names), images=tuple(images), **_NOTHING_NEW
        ), removed

    def renamed(self, label: Label, new: Label) -> Knowledge:
        """With another label for a class.

        Raises:
            DataError: there is no such class, or one of the new name.
        """
        index = self._index(label, "rename")
        if new in self.names and new != label:
            raise DataError(f"there is a class {new!r} already; merge the two with merge_classes")
        names = tuple(new if position == index else name for position, name in enumerate(self.names))
        return replace(self, names=names)

    def with_one_class(self, label: Label, into: Label) -> Knowledge:
        """With a class made part of another, as if its images had been taught as that one.

        Raises:
            DataError: there are no such classes, or they are the same.
        """
        gone, kept = self._index(label, "merge"), self._index(into, "merge")
        if gone == kept:
            raise DataError(f"class {label!r} cannot be merged with itself; name two classes")
        learner, numbers = copy.copy(self.learner), np.arange(len(self.names))
        numbers[gone] = kept
        learner.regroup(numbers)
        names, images = list(self.names), list(self.images)
        images[kept] += images[gone]
        names[gone], images[gone] = None, 0
        return replace(self, learner=learner, names=tuple(names), images=tuple(images), **_NOTHING_NEW)

    def merged(self, other: Knowledge) -> Knowledge:
        """With everything that another one was taught; see ``LatentReplayClassifier.merge``.

        Raises:
            ConfigError: they have different networks or methods. DataError: both were taught the same lesson.
            RunError: what was learned would not be finite.
        """
        method, others = self.params["method"], other.params["method"]
        if method != others:
            raise ConfigError(
                f"one classifier was taught with {method} and the other with {others}: use one method"
            )
        ours, theirs = self.network, other.network
        if ours.digest != theirs.digest or _shape(ours) != _shape(theirs):
            raise ConfigError(
                "the two classifiers have different networks, cuts, image sizes or tokens: merge those that were made"
                " with the same settings"
            )
        taught = set(self.lineage)
        both = sum(name in taught for name in other.lineage)
        if both:
            raise DataError(
                f"{both} of the {other.lessons} lessons were taught to both classifiers, or are merged already, and"
                " would count twice: merge classifiers that were taught apart"
            )
        names = list(self.names)
        names += [label for label in other.labels if label not in names]
        images = [*self.images, *([0] * (len(names) - len(self.images)))]
        # Nothing is left in the learner of a class that was forgotten: its empty row may be added to any.
        numbers = np.array(
            [0 if label is None else names.index(label) for label in other.names], dtype=np.int64
        )
        for number, count in zip(numbers.tolist(), other.images, strict=True):
            images[number] += count
        learner, added = copy.copy(self.learner), copy.copy(other.learner)
        added.regroup(numbers)
        learner.merge(added)
        return replace(
            self,
            learner=learner,
            names=tuple(names),
            images=tuple(images),
            lessons=self.lessons + other.lessons,
            lineage=(*self.lineage, *other.lineage),
            **_NOTHING_NEW,
        )

    def _index(self, label: Label, what: str) -> int:
        """A class's index. Raises DataError if there is no such class."""
        if label not in self.names:
            known = ", ".join(map(repr, self.labels))
            raise DataError(f"there is no class {label!r} to {what}; the classes are {known}")
        return self.names.index(label)

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
        own["lineage"] = list(self.lineage)
        return tensors, {"learner": plain} | own

    def restored(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> Knowledge:
        """What ``state`` of the knowledge of another classifier with these settings and this network held.

        Raises:
            RunError: its parts do not fit each other.
        """
        names = restored_labels(plain["labels"])
        images, lessons, lineage = tuple(plain["images"]), plain["lessons"], tuple(plain.get("lineage", ()))
        counted = all(type(count) is int and count >= 0 for count in (*images, lessons))
        if len(images) != len(names) or not counted or not all(isinstance(each, str) for each in lineage):
            raise _misfit()
        learner = copy.copy(self.learner)
        learner.load_state(tensors, plain["learner"])
        known = [index for index, is_known in enumerate(learner.known_C.tolist()) if is_known]
        if known != [index for index, label in enumerate(names) if label is not None]:
            raise _misfit()
        restored = replace(
            self, learner=learner, names=names, images=images, lessons=lessons, lineage=lineage
        )
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


# What a change that is no lesson leaves of the last one.
_NOTHING_NEW: dict[str, Any] = {"stats": None, "skipped": (), "notes": ()}


def _identity(latents: Latents, labels: Sequence[Label]) -> str:
    """Names a lesson by its content: latents and labels, whatever was learned before."""
    tokens = latents.class_tokens_NKD if latents.class_tokens_NKD.numel() else latents.tokens_NTD[:, :1]
    content = hashlib.blake2b(json.dumps(list(labels)).encode(), digest_size=8)
    content.update(tokens.float().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def _shape(network: Network) -> tuple[Any, ...]:
    return network.cut, network.latent_shape, tuple(network.class_blocks), network.backbone.image_size


def _misfit() -> RunError:
    return RunError("the parts of the saved classifier do not fit each other: use another copy of it")
