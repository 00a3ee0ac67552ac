"""From a configuration to the parts of a run: stream, network, learner, and the way from images to latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitlr.data.experience import Experience, Stream
from vitlr.data.images import iter_batches, resolve
from vitlr.errors import DataError
from vitlr.latents.cache import LatentCache, batch_kind
from vitlr.latents.identity import image_ids
from vitlr.latents.network import Network
from vitlr.latents.network import open_network as open_network_at
from vitlr.learning import Learner, new_learner
from vitlr.learning.methods import keeps_images
from vitlr.runs.settings import RunConfig
from vitlr.vit import Trunk

__all__ = ["Encoder", "LatentStore", "Network", "build_learner", "check_images_left", "open_network"]

Progress = Callable[[int, int], None]  # done, in all


def open_network(config: RunConfig, *, cached: bool = False) -> Network:
    """The network that the configuration names, for its method; see :func:`vitlr.latents.network.open_network`."""
    return open_network_at(config.backbone, cached=cached, images=keeps_images(config.learner.method))


def build_learner(config: RunConfig, network: Network) -> Learner:
    """The method that the configuration names, with a head of its own."""
    return new_learner(network.new_head(), config.learner, config.memory, np.random.default_rng(config.seed))


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Images that go through the trunk together: their places among all, paths, and identities for the cache."""

    first: int
    paths: tuple[str, ...]
    ids: list[bytes | None]

    @property
    def places(self) -> np.ndarray:
        return np.arange(self.first, self.first + len(self.paths))


class Encoder:
    """Experiences to latents: from the network's cache, or decoded in threads, ahead of the trunk, which sees
    each image once.

    A batch is either all read from the cache or all encoded, so that no latent depends on what was cached.
    ``skipped`` lists images that could not be read, where the configuration says to skip them; a batch with
    one of them is encoded again in every run.
    """

    def __init__(self, network: Network, stream: Stream, config: RunConfig) -> None:
        self._network, self._stream, self._config = network, stream, config
        self.skipped: list[str] = []
        self.read = self.encoded = 0  # latents so far, from the cache and by the trunk

    @property
    def cache(self) -> LatentCache | None:
        """Where latents are kept, if anywhere."""
        return self._network.cache

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(T, D) of one latent."""
        return self._network.latent_shape

    @property
    def latent_dtype(self) -> torch.dtype:
        """Type of the numbers of a latent."""
        return self._network.latent_dtype

    def __call__(self, experience: Experience, progress: Progress | None = None) -> tuple[Tensor, np.ndarray]:
        """Latents (N, T, D) and labels (N,) of the images that could be read."""
        latents = torch.empty(len(experience), *self.latent_shape, dtype=self.latent_dtype)
        kept = np.zeros(len(experience), dtype=bool)
        missing = []
        for batch in self.batches(experience.paths):
            found = self.cached(batch)
            if found is None:
                missing.append(batch)
            else:
                latents[batch.first : batch.first + len(found)] = found
                kept[batch.places] = True
        done = int(kept.sum())
        if progress is not None and done:
            progress(done, len(experience))
        tell = None if progress is None else lambda new: progress(done + new, len(experience))
        for _, places, encoded in self.encode(missing, tell):
            latents[torch.from_numpy(places)] = encoded
            kept[places] = True
        whole = bool(kept.all())
        return latents if whole else latents[torch.from_numpy(kept)], experience.labels[kept]

    def batches(self, paths: Sequence[str]) -> list[_Batch]:
        """The paths in the batches in which the trunk sees them."""
        size, root = self._config.backbone.batch_size, self._stream.root
        ids: list[bytes | None] = [None] * len(paths)
        if self.cache is not None:
            ids = image_ids([_file(root, path) for path in paths])
        return [
            _Batch(first=first, paths=tuple(paths[first : first + size]), ids=ids[first : first + size])
            for first in range(0, len(paths), size)
        ]

    def cached(self, batch: _Batch) -> Tensor | None:
        """The latents of a batch, all of them from the cache, or None."""
        if self.cache is None:
            return None
        latents = self.cache.get(self.cache.keys(batch.ids))
        self.read += 0 if latents is None else len(latents)
        return latents

    def encode(
        self, batches: Sequence[_Batch], progress: Callable[[int], None] | None = None
    ) -> Iterator[tuple[_Batch, np.ndarray, Tensor]]:
        """Each batch with the places of its readable images and their latents; they are offered to the cache.

        All batches but the last must be full, or each of them on its own.
        """
        data, done = self._config.data, 0
        for run in _runs_of_full(batches, self._config.backbone.batch_size):
            paths = [path for batch in run for path in batch.paths]
            places = np.concatenate([batch.places for batch in run])
            images = iter_batches(
                paths,
                self._stream.root,
                size=self._network.outline.image_size,
                resample=self._network.outline.resample,
                batch_size=self._config.backbone.batch_size,
                workers=data.workers,
                on_bad=data.on_bad_image,
            )
            read = np.zeros(len(paths), dtype=bool)
            for rows, images_NHWC in images:
                batch = run[int(rows[0]) // self._config.backbone.batch_size]
                latents = self._network.trunk(torch.from_numpy(images_NHWC))
                read[rows] = True
                self.encoded += len(latents)
                if len(latents) == len(batch.paths):
                    self._offer(batch, latents)
                yield batch, places[rows], latents
                if progress is not None:
                    progress(done + int(rows[-1]) + 1)
            done += len(paths)
            self.skipped += [paths[row] for row in np.flatnonzero(~read)]

    def _offer(self, batch: _Batch, latents: Tensor) -> None:
        if self.cache is None or not self.cache.writable:
            return
        size = len(batch.paths)
        if self.cache.kind(size) is None:
            most = self._config.backbone.batch_size
            trunk = self._network.trunk
            assert isinstance(trunk, Trunk)  # images are not cached
            kind = batch_kind(trunk, self._network.outline.image_size, size, most)
            self.cache.set_kind(size, kind)
        self.cache.put(self.cache.keys(batch.ids), latents)


def _file(root: Path | None, path: str) -> Path:
    """Where an image lies; nowhere for a path that will be refused when it is read."""
    try:
        return resolve(root, path)
    except DataError:
        return Path()


def _runs_of_full(batches: Sequence[_Batch], size: int) -> Iterator[list[_Batch]]:
    """Batches that can be decoded in one go: each run ends with one that is not full, or with the last."""
    run: list[_Batch] = []
    for batch in batches:
        run.append(batch)
        if len(batch.paths) < size:
            yield run
            run = []
    if run:
        yield run


class LatentStore:
    """All latents of a stream, encoded once, for several runs over the same trunk.

    They lie in the network's cache, or in memory where there is none or it took no more. All images are
    encoded in one order, whatever the order of the stream, so that every order finds the same latents.
    """

    def __init__(self, encoder: Encoder, stream: Stream, progress: Progress | None = None) -> None:
        paths = sorted({path for part in (*stream.experiences, stream.test) for path in part.paths})
        self._encoder, self._batches = encoder, encoder.batches(paths)
        self._place = {path: place for place, path in enumerate(paths)}
        self._held: dict[int, tuple[np.ndarray, Tensor]] = {}  # by a batch's first place
        cache = encoder.cache
        missing = [batch for batch in self._batches if cache is None or not cache.has(cache.keys(batch.ids))]
        done = len(paths) - sum(len(batch.paths) for batch in missing)
        tell = None if progress is None else lambda new: progress(done + new, len(paths))
        self._encode(missing, tell)
        if progress is not None and not missing:
            progress(done, done)

    @property
    def skipped(self) -> list[str]:
        """Images that could not be read."""
        return self._encoder.skipped

    def __call__(self, experience: Experience) -> tuple[Tensor, np.ndarray]:
        """Latents and labels of an experience, as :class:`Encoder` gives them."""
        size = len(self._batches[0].paths) if self._batches else 1
        places = np.array([self._place.get(path, -1) for path in experience.paths], dtype=np.int64)
        wanted = np.flatnonzero(places >= 0)
        by_batch: dict[int, list[int]] = {}
        for row in wanted.tolist():
            by_batch.setdefault(int(places[row]) // size, []).append(row)
        latents = self._empty(len(places))
        kept = np.zeros(len(places), dtype=bool)
        for number, rows in by_batch.items():
            found, has = self._rows(self._batches[number], places[rows])
            latents[torch.tensor(rows)[torch.from_numpy(has)]] = found
            kept[np.array(rows)[has]] = True
        return latents[torch.from_numpy(kept)], experience.labels[kept]

    def _empty(self, num: int) -> Tensor:
        return torch.empty(num, *self._encoder.latent_shape, dtype=self._encoder.latent_dtype)

    def _rows(self, batch: _Batch, places: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Latents at these places of a batch, and which of the places have one."""
        if batch.first not in self._held and self._encoder.cache is not None:
            keys = self._encoder.cache.keys(batch.ids)
            found = self._encoder.cache.get([keys[place - batch.first] for place in places])
            if found is not None:
                self._encoder.read += len(found)
                return found, np.ones(len(places), dtype=bool)
        if batch.first not in self._held:
            self._encode([batch], None, hold=True)
        if batch.first not in self._held:  # not one image of it could be read
            return self._empty(0), np.zeros(len(places), dtype=bool)
        held, latents = self._held[batch.first]
        has = np.isin(places, held)
        return latents[torch.from_numpy(np.searchsorted(held, places[has]))], has

    def _encode(
        self, batches: list[_Batch], progress: Callable[[int], None] | None, hold: bool = False
    ) -> None:
        cache = self._encoder.cache
        for batch, places, latents in self._encoder.encode(batches, progress):
            if hold or cache is None or not cache.has(cache.keys(batch.ids)):
                self._held[batch.first] = (places, latents)


def encoded_test(
    encode: Callable[[Experience], tuple[Tensor, np.ndarray]], stream: Stream
) -> tuple[Tensor, np.ndarray]:
    """Latents of the test images that could be read, and their rows in ``stream.test``.

    Rows travel in place of labels, so that whatever is known of an image stays with its latent.
    """
    return encode(replace(stream.test, labels=np.arange(len(stream.test))))


def check_images_left(latents: Tensor, stream: Stream) -> None:
    """DataError where not one test image could be read: nothing could be judged."""
    if len(latents) == 0:
        raise DataError(f"no image of the test set of {stream.name} could be read; check data.root")
