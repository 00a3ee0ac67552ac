"""From a configuration to the parts of a run: stream, network, learner, and the way from images to latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitlr.data.experience import Experience, Stream
from vitlr.data.images import iter_batches
from vitlr.errors import DataError
from vitlr.learning import Learner, new_learner
from vitlr.runs.config import BackboneConfig, RunConfig
from vitlr.vit import Backbone, Head, Precision, Trunk, default_precision, load_backbone, split

__all__ = ["Encoder", "LatentStore", "Network", "build_learner", "check_images_left", "open_network"]

Progress = Callable[[int, int], None]  # done, in all


@dataclass(frozen=True, kw_only=True)
class Network:
    """A loaded backbone, split at the cut. ``head`` is fresh: its weights are the backbone's."""

    backbone: Backbone
    trunk: Trunk
    head: Head
    cut: int
    precision: Precision


def open_network(config: BackboneConfig) -> Network:
    """Load and split; BackboneError names what does not fit."""
    backbone = load_backbone(config.name, blocks=config.blocks, image_size=config.image_size)
    cut = backbone.num_blocks - 1 if config.cut is None else config.cut
    precision: Precision = default_precision() if config.precision == "auto" else config.precision  # type: ignore[assignment]
    trunk, head = split(backbone, cut, precision=precision)
    return Network(backbone=backbone, trunk=trunk, head=head, cut=cut, precision=precision)


def build_learner(config: RunConfig, network: Network) -> Learner:
    """The method that the configuration names, with a head of its own."""
    _, head = split(network.backbone, network.cut)
    return new_learner(head, config.learner, config.memory, np.random.default_rng(config.seed))


class Encoder:
    """Experiences to latents: decoding in threads, ahead of the trunk, which sees each image once.

    ``skipped`` lists images that could not be read, where the configuration says to skip them.
    """

    def __init__(self, network: Network, stream: Stream, config: RunConfig) -> None:
        self._network, self._stream, self._config = network, stream, config
        self.skipped: list[str] = []

    def __call__(self, experience: Experience, progress: Progress | None = None) -> tuple[Tensor, np.ndarray]:
        """Latents (N, T, D) and labels (N,) of the images that could be read."""
        data, trunk = self._config.data, self._network.trunk
        batches = iter_batches(
            experience.paths,
            self._stream.root,
            size=trunk.image_size,
            resample=self._network.backbone.resample,
            batch_size=self._config.backbone.batch_size,
            workers=data.workers,
            on_bad=data.on_bad_image,
        )
        latents, rows = [], []
        for batch_rows, images_NHWC in batches:
            latents.append(trunk(torch.from_numpy(images_NHWC)))
            rows.append(batch_rows)
            if progress is not None:
                progress(int(batch_rows[-1]) + 1, len(experience))
        kept = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        self.skipped += [
            experience.paths[row] for row in sorted(set(range(len(experience))) - set(kept.tolist()))
        ]
        if not latents:
            return torch.zeros(0, *trunk.latent_shape), np.zeros(0, dtype=np.int64)
        return torch.cat(latents), experience.labels[kept]


class LatentStore:
    """All latents of a stream, encoded once and kept in memory, for several runs over the same trunk."""

    def __init__(self, encoder: Encoder, stream: Stream, progress: Progress | None = None) -> None:
        paths = dict.fromkeys(path for part in (*stream.experiences, stream.test) for path in part.paths)
        everything = Experience(index=0, name="all", paths=tuple(paths), labels=np.arange(len(paths)))
        self._latents, numbers = encoder(everything, progress)
        self._row = {everything.paths[number]: row for row, number in enumerate(numbers.tolist())}
        self.skipped = encoder.skipped

    def __call__(self, experience: Experience) -> tuple[Tensor, np.ndarray]:
        """Latents and labels of an experience, as :class:`Encoder` gives them."""
        kept = [i for i, path in enumerate(experience.paths) if path in self._row]
        rows = torch.tensor([self._row[experience.paths[i]] for i in kept], dtype=torch.int64)
        return self._latents[rows], experience.labels[kept]


def check_images_left(latents: Tensor, stream: Stream) -> None:
    """DataError where not one test image could be read: nothing could be judged."""
    if len(latents) == 0:
        raise DataError(f"no image of the test set of {stream.name} could be read; check data.root")
