"""What a run needs before it starts: stream, network, encoder and the encoded test set, checked.

Runs over the same images and trunk share one network and one encoding (:class:`Shared`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.data import load_stream
from vitlr.data.experience import Stream
from vitlr.errors import DataError
from vitlr.latents.cache import LatentCache
from vitlr.latents.encoder import Encoder
from vitlr.latents.network import Network
from vitlr.latents.record import Encoded
from vitlr.latents.views import ViewPlan
from vitlr.learning import Learner, needs_of, new_learner
from vitlr.runs.settings import RunConfig

MOST_NOTES = 20  # about single images

__all__ = ["Materials", "Shared", "build_learner", "encoder_of", "open_network", "prepare"]

Progress = Callable[[int, int], None]  # done, in all


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What a run is made of; it may be shared by runs over the same data and trunk."""

    stream: Stream
    network: Network
    encode: Encoder
    test: Encoded

    @property
    def test_labels(self) -> np.ndarray:
        """(N,) class index of each encoded test image: images that could not be read are left out."""
        return self.stream.test.labels[self.test.rows_N]

    @property
    def test_sessions(self) -> np.ndarray | None:
        """(N,) recording session of each of them, if the data set has sessions."""
        sessions = self.stream.test_sessions
        return None if sessions is None else np.array(sessions, dtype=np.int64)[self.test.rows_N]


def open_network(config: RunConfig, *, cached: bool = False) -> Network:
    """The network that the settings name, for their method."""
    needs = needs_of(config.learner)
    return Network.open(
        config.backbone,
        cached=cached,
        images=needs.images,
        class_tokens=(needs.class_tokens, needs.statistics_bytes),
        grid=config.memory.grid,
    )


def build_learner(config: RunConfig, network: Network) -> Learner:
    """The method that the settings name, with a head of its own."""
    rng = np.random.default_rng(config.seed)
    return new_learner(network.new_head(), config.learner, config.memory, rng, len(network.class_blocks))


def encoder_of(config: RunConfig, network: Network, root: Path | None) -> Encoder:
    """An encoder of a stream's images as the settings say."""
    needs = needs_of(config.learner)
    return Encoder(
        network,
        root=root,
        stream=True,
        batch_size=config.backbone.batch_size,
        workers=config.data.workers,
        on_bad=config.data.on_bad_image,
        strict=config.data.strict,
        views=ViewPlan(views=needs.views, budget=needs.view_budget, seed=config.seed),
    )


def prepare(
    config: RunConfig,
    *,
    on_render: Progress | None = None,
    on_stream: Callable[[Stream], None] | None = None,
    on_test: Progress | None = None,
) -> Materials:
    """Open data and network and encode the test set: everything that can be refused is refused here.

    ``on_stream`` is called with what was found before anything of it is encoded.
    """
    network = open_network(config, cached=True)
    stream = load_stream(config.data, on_render)
    if on_stream is not None:
        on_stream(stream)
    encoder = encoder_of(config, network, stream.root)
    try:
        test = encoder(stream.test.paths, on_test)
    finally:
        network.keep()
    return _checked(stream, network, encoder, test)


def _checked(stream: Stream, network: Network, encode: Encoder, test: Encoded) -> Materials:
    """Raises DataError if no test image could be read: nothing could be evaluated."""
    if len(test) == 0:
        raise DataError(f"no image of the test set of {stream.name} could be read; check data.root")
    placed = Encoded(test.rows_N, network.placed(test.latents))
    return Materials(stream=stream, network=network, encode=encode, test=placed)


class Shared:
    """Latents and networks kept from one run to the next, as long as data and trunk stay the same."""

    def __init__(
        self,
        on_progress: Callable[[str, int, int], None],
        on_stream: Callable[[Stream], None] = lambda stream: None,
    ) -> None:
        self._on_progress, self._on_stream = on_progress, on_stream
        self._network: tuple[Any, Network] | None = None
        self._encoder: tuple[Any, Encoder] | None = None
        self._caches: list[LatentCache] = []
        self._about: list[tuple[list[str], list[str]]] = []  # notes and skipped paths of every encoder

    def notes(self) -> list[str]:
        """What went wrong with the caches of latents, and what there is to say of single images, each once."""
        of_caches = dict.fromkeys(note for cache in self._caches for note in cache.notes)
        of_images = dict.fromkeys(note for found, _ in self._about for note in found)
        skipped = {path for _, found in self._about for path in found}
        are = (
            "1 image could not be read and was"
            if len(skipped) == 1
            else f"{len(skipped):,} images could not be read and were"
        )
        return [*of_caches, *list(of_images)[:MOST_NOTES], *([f"{are} left out"] if skipped else [])]

    def materials(self, config: RunConfig) -> Materials:
        """As ``prepare`` gives them, from what is there already if it fits."""
        wanted = (config.backbone, needs_of(config.learner), config.memory.grid)
        if self._network is None or self._network[0] != wanted:
            self._network, self._encoder = (wanted, open_network(config, cached=True)), None
            if self._network[1].cache is not None:
                self._caches.append(self._network[1].cache)
        network = self._network[1]
        stream = load_stream(config.data, lambda done, total: self._on_progress("rendering", done, total))
        self._on_stream(stream)
        paths = frozenset(path for part in (*stream.experiences, stream.test) for path in part.paths)
        key = (stream.root, paths, config.seed)
        if self._encoder is None or self._encoder[0] != key:
            encoder = encoder_of(config, network, stream.root)
            self._about.append((encoder.notes, encoder.skipped))
            try:
                encoder.hold(paths, lambda done, total: self._on_progress("encoding", done, total))
            finally:
                network.keep()
            self._encoder = (key, encoder)
        encode = self._encoder[1]
        return _checked(stream, network, encode, encode(stream.test.paths))
