"""What the classifier for programs consists of: a network, what it was taught, the snapshot it answers from.

    Network   a backbone cut in two, frozen; shared by all that follows and never changed
    Taught    learner and labels; changed by one thread at a time
    Snapshot  copies of what answers need; never changed, so that any thread may ask while another teaches

Shapes: N images, T tokens, D width, C classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vitlr.data.images import as_images, read_image
from vitlr.data.video import Video, is_video, read_video
from vitlr.device import device_named
from vitlr.errors import DataError, RunError
from vitlr.learning import GradientLearner, LearnStats
from vitlr.storage.state import checksum, load_state, write_state
from vitlr.vit import Backbone, Trunk, default_precision, load_backbone
from vitlr.vit.compute.precision import check_precision
from vitlr.vit.stored import backbone_from_state, backbone_state

__all__ = [
    "Label",
    "Network",
    "Remembered",
    "Snapshot",
    "Taught",
    "checked_images",
    "checked_label",
    "checked_labels",
    "label_array",
]

Label = str | int

_BATCH = 64  # images decoded and encoded together
_KIND, _VERSION = "backbone", 1


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What the replay memory holds: latents of each label, their bytes, and latents kept at most.

    ``capacity`` is None where there is no bound, or where a bound in bytes waits for the first latent.
    """

    latents: dict[Label, int]
    bytes: int
    capacity: int | None


@dataclass(frozen=True, eq=False)
class Network:
    """A backbone and the trunk cut from it."""

    backbone: Backbone
    trunk: Trunk

    @classmethod
    def cut(cls, backbone: Backbone, cut: int | None, precision: str | None, device: str = "cpu") -> Network:
        """By default the last block is trained, and the precision is what this processor or GPU is fast at."""
        place = device_named(device)
        cut = backbone.num_blocks - 1 if cut is None else cut
        precision = default_precision(place) if precision is None else precision
        check_precision(precision, place)
        trunk = Trunk(backbone, cut, precision=precision, device=place)  # type: ignore[arg-type]  # checked there
        return cls(backbone, trunk)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        image_size: int | None,
        blocks: int | None,
        cut: int | None,
        precision: str | None,
        device: str = "cpu",
    ) -> Network:
        return cls.cut(load_backbone(name, blocks=blocks, image_size=image_size), cut, precision, device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return backbone_state(self.backbone, self.trunk.cut, self.trunk.precision)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of weights and normalisation; see ``outline`` for what else latents depend on."""
        tensors, plain = self._state()
        return checksum(tensors, json.dumps(plain["normalisation"], sort_keys=True))

    @cached_property
    def outline(self) -> dict[str, Any]:
        """What the network's configuration says of how weights become latents."""
        return _outline(json.loads(self.backbone.config.to_json_string(use_diff=False)))

    def store(self, directory: Path) -> None:
        """Put the weights into a directory that the caller holds, under a name made from their digest."""
        name = _file_name(self.digest)
        try:
            _, plain = load_state(directory, name=name, kind=_KIND, version=_VERSION)
            there = _outline(plain["config"]) == self.outline
        except (RunError, LookupError, AttributeError):  # missing or damaged
            there = False
        if not there:
            write_state(directory, *self._state(), name=name, kind=_KIND, version=_VERSION)

    @classmethod
    def restore(
        cls, directory: Path, digest: str, name: str, *, cut: int, precision: str, device: str = "cpu"
    ) -> Network:
        """The network that ``store`` put there, bit by bit as its trunk was; RunError, BackboneError."""
        tensors, plain = load_state(directory, name=_file_name(digest), kind=_KIND, version=_VERSION)
        return cls.cut(backbone_from_state(name, tensors, plain), cut, precision, device)

    @staticmethod
    def discard(directory: Path, *, keep: str | None) -> None:
        """Remove stored networks but the one with that digest."""
        for file in directory.glob(f"backbone-{'[0-9a-f]' * 16}.safetensors"):
            if keep is None or file.stem != _file_name(keep):
                with suppress(OSError):
                    file.unlink()

    def encode(self, images: Iterable[Any]) -> Iterator[Tensor]:
        """Latents (up to 64, T, D) of one batch after the other; a video counts as the frames taken from it."""
        for _, latents_BTD in self.encode_rows(images):
            yield latents_BTD

    def encode_rows(self, images: Iterable[Any]) -> Iterator[tuple[list[int], Tensor]]:
        """As ``encode``, with the position in ``images`` that each latent comes from."""
        pixels = self._pixels(images)
        while batch := list(islice(pixels, _BATCH)):
            yield (
                [row for row, _ in batch],
                self.trunk(torch.from_numpy(np.stack([image for _, image in batch]))),
            )

    def _pixels(self, images: Iterable[Any]) -> Iterator[tuple[int, np.ndarray]]:
        side, resample = self.backbone.image_size, self.backbone.resample
        for row, source in enumerate(images):
            if is_video(source):
                yield from ((row, image) for image in read_video(source, side, resample))
            else:
                yield row, read_image(source, side, resample)


class Taught:
    """A learner whose classes have labels. An index is never given to a second label, even once forgotten."""

    def __init__(self, network: Network, learner: GradientLearner, params: Mapping[str, Any]) -> None:
        self.network = network
        self.learner = learner
        self.params = dict(params)  # the settings it was made from
        self.labels: list[Label | None] = []  # by class index; None: forgotten
        self.stats: LearnStats | None = None

    def learn(self, X: Any, y: Any) -> None:
        """One experience; see ``LatentReplayClassifier.partial_fit``."""
        images = checked_images(X)
        labels, names = checked_labels(y, len(images)), list(self.labels)
        names += [None] * (len(self.learner.classifier_CD) - len(names))  # rows of labels not taken over
        index = {label: position for position, label in enumerate(names) if label is not None}
        for label in labels:
            if label not in index:
                index[label] = len(names)
                names.append(label)
        encoded = list(self.network.encode_rows(images))
        latents_NTD = torch.cat([latents for _, latents in encoded])
        indices_N = np.array([index[labels[row]] for rows, _ in encoded for row in rows], dtype=np.int64)
        self.stats = self.learner.learn(latents_NTD, indices_N, self.learner.experiences_learned)
        self.labels = names

    def forget(self, label: Label) -> int:
        """Empty a class: its latents, its count and its row of the classifier."""
        if label not in self.labels:
            known = ", ".join(repr(known) for known in self.labels if known is not None)
            raise DataError(f"there is no class {label!r} to forget; the classes are {known}")
        index = self.labels.index(label)
        removed = self.learner.memory.forget(index)
        tensors, plain = self.learner.state()
        tensors["classifier"][index] = 0
        tensors["past"][index] = 0  # for CWR* it has never been seen
        self.learner.load_state(tensors, plain)
        self.labels[index], self.stats = None, None
        return removed

    def recalled(self) -> float:
        """Share of the latents in the memory that get their own label, 0..1; NaN for an empty memory.

        All of them were trained on: what it tells is how well they are kept apart, not how new images fare.
        """
        memory, hits = self.learner.memory, 0
        for rows in np.array_split(np.arange(len(memory)), -(-len(memory) // 256) or 1):
            if len(rows):
                predicted = self.learner.logits(memory.draw(rows)).argmax(dim=1).numpy()
                hits += int((predicted == memory.labels[rows]).sum())
        return hits / len(memory) if len(memory) else float("nan")

    def snapshot(self) -> Snapshot:
        """Copies for answers."""
        rows = [index for index, label in enumerate(self.labels) if label is not None]
        memory, counts = self.learner.memory, self.learner.memory.counts()
        labels = tuple(label for label in self.labels if label is not None)
        assert isinstance(self.learner.head, nn.Module)
        return Snapshot(
            network=self.network,
            labels=labels,
            head=deepcopy(self.learner.head).requires_grad_(False),
            weight_CD=self.learner.classifier_CD[rows].clone(),
            stats=self.stats,
            remembered=Remembered(
                latents={label: counts.get(row, 0) for label, row in zip(labels, rows, strict=True)},
                bytes=memory.num_bytes,
                capacity=memory.capacity,
            ),
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything but the network and the settings: tensors, and plain data that JSON can hold."""
        tensors, plain = self.learner.state()
        return tensors, {"learner": plain, "labels": list(self.labels)}

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Stand where the one whose ``state`` this is stood.

        Raises:
            RunError: parts do not fit each other.
        """
        labels, own = plain["labels"], self.learner.state()[0]
        fits = all(tensors[name].shape == own[name].shape for name in own if name.startswith("head."))
        # After an interrupt at the very end of an experience the classifier may have rows that no label has.
        fits = fits and len(tensors["past"]) >= len(labels) and bool((tensors["memory.labels"] >= 0).all())
        fits = fits and bool((tensors["memory.labels"] < len(labels)).all())
        fits = fits and tensors["classifier"].shape == (len(tensors["past"]), self.network.trunk.width)
        stored = len(tensors["memory.labels"])
        fits = fits and all(len(t) == stored for name, t in tensors.items() if name.startswith("memory."))
        shape = plain["learner"]["memory"]["shape"]  # None until the memory is offered a latent
        fits = fits and (stored == 0 if shape is None else tuple(shape) == self.network.trunk.latent_shape)
        if not fits:
            raise RunError("the parts of the saved classifier do not fit each other: use another copy of it")
        self.labels = [None if label is None else checked_label(label) for label in labels]
        self.learner.load_state(tensors, plain["learner"])
        if stored:  # one stored latent through the head shows whether they are of this network and codec
            self.learner.logits(self.learner.memory.draw(np.zeros(1, dtype=np.int64)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """What answers are given from: labels, and the weights at the end of one experience."""

    network: Network
    labels: tuple[Label, ...]
    head: Any  # vitlr.vit.Head, a copy
    weight_CD: Tensor
    remembered: Remembered
    stats: LearnStats | None

    def answer(self, X: Any) -> tuple[Tensor, Tensor]:
        """(N, C) logits, columns as ``labels``, and (N,) scores as ``LatentReplayClassifier.scores``."""
        _, logits_NC, scores_N = self.answer_rows(checked_images(X))
        return logits_NC, scores_N

    @torch.no_grad()
    def answer_rows(self, images: Iterable[Any]) -> tuple[list[int], Tensor, Tensor]:
        """As ``answer``, with the position in ``images`` that each answer is about; a video has several."""
        rows, features = [], []
        for batch_rows, latents_BTD in self.network.encode_rows(images):
            rows += batch_rows
            features.append(self.head(latents_BTD))
        features_ND = torch.cat(features)
        if len(self.labels) == 1:
            scores_N = torch.ones(len(features_ND))
        else:
            unit_CD = functional.normalize(self.weight_CD, dim=1)
            scores_N = (functional.normalize(features_ND, dim=1) @ unit_CD.T).amax(dim=1)
        return rows, (features_ND @ self.weight_CD.T).cpu(), scores_N.cpu()


# Settings of a network that its weights do not show.
_OUTLINE = (
    *("model_type", "image_size", "patch_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("layer_norm_eps", "qkv_bias", "use_swiglu_ffn", "num_register_tokens"),
)


def _outline(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in _OUTLINE if name in config}


def _file_name(digest: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):  # it becomes part of a path
        raise RunError(f"a saved classifier names its network {digest[:80]!r}, which is not a SHA-256")
    return f"backbone-{digest[:16]}"


def checked_images(X: Any) -> list[Any]:
    """One image or many as a list; DataError where there is none."""
    images = [X] if isinstance(X, Video) else as_images(X)
    if not images:
        raise DataError("no images were given; give at least one array, path or PIL image")
    return images


def checked_label(label: Any) -> Label:
    """A plain str or int; DataError for anything else, True and False included."""
    if isinstance(label, str):
        return str.__str__(label)  # of an enumeration too the text, not its name
    if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
        return int(label)
    raise DataError(f"a label must be a string or an integer, got {label!r} ({type(label).__name__})")


def checked_labels(y: Any, num: int) -> list[Label]:
    """``num`` labels from one for all or one for each; DataError for another number or type."""
    y = y.tolist() if hasattr(y, "tolist") else y  # NumPy, PyTorch, pandas
    if isinstance(y, (str, bytes)) or not hasattr(y, "__iter__"):
        return [checked_label(y)] * num
    labels = [checked_label(label) for label in y]
    if len(labels) != num:
        raise DataError(f"{num} images came with {len(labels)} labels; give one label for all or one each")
    return labels


def label_array(labels: Sequence[Label]) -> np.ndarray:
    """Labels as NumPy has them: int64, text, or objects where they are mixed or too large."""
    if all(isinstance(label, str) for label in labels):
        array = np.array(labels, dtype=str)
        if array.tolist() == list(labels):  # NumPy drops NUL at the end
            return array
    elif all(isinstance(label, int) and -(2**63) <= label < 2**63 for label in labels):
        return np.array(labels, dtype=np.int64)
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array
