"""From images to latents: decoded in threads ahead of the trunk, which sees each image once, or read from the cache.

Sources are paths, arrays, PIL images and videos; a video gives a latent for each frame that is taken from it. In a
stream every source is one picture: an image, a frame of a clip, an item of a data set. What comes out are the latents
of the sources that could be read, in the host's memory, and their positions among the sources.

A batch is either all read from the cache or all encoded, so that no latent depends on what was cached.

Shapes: N images, H and W their sides.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.data.clips import read_frames, split_frame
from vitlr.data.experience import Item
from vitlr.data.images import read_image, resolve
from vitlr.data.pictures import pictures
from vitlr.data.video import Video
from vitlr.errors import ConfigError, DataError
from vitlr.latents.cache import batch_kind
from vitlr.latents.identity import image_ids
from vitlr.latents.network import Network
from vitlr.latents.record import Encoded, Latents
from vitlr.latents.views import View, ViewPlan

__all__ = ["Encoder"]

# A GPU may have no room for all of a test set; and what the cache gives is there too.
_HOST = torch.device("cpu")
AHEAD = 3  # batches being decoded or waiting, the one that is read next included

Progress = Callable[[int, int], None]  # done, in all


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Sources that go through the trunk together: their rows among all, and identities for the cache."""

    rows: range
    ids: list[bytes | None]

    @property
    def rows_N(self) -> np.ndarray:
        return np.arange(self.rows.start, self.rows.stop)


class Encoder:
    """Sources to latents, through one network.

    Args:
        root: folder that paths are relative to; None takes them as they are.
        stream: every source is one picture, as in a stream; implied by ``root``.
        batch_size: images that go through the trunk at once.
        workers: threads that decode.
        on_bad: ``error`` raises at the first source that cannot be read; ``skip`` leaves it out. A batch with such a
            source is encoded again in every run.
        strict: refuse a JPEG that lacks only its last bytes.
        views: how many random views of which images, where they are asked for.

    Attributes:
        skipped: sources that were left out. notes: sentences about images that were read, but not as a whole, also if
            their latents came from the cache.
        progress: called as ``progress`` of a call is, in every call that has none of its own.
        read, encoded: latents so far, from the cache and by the trunk.
    """

    def __init__(
        self,
        network: Network,
        *,
        root: Path | None = None,
        stream: bool = False,
        batch_size: int = 64,
        workers: int = 2,
        on_bad: str = "error",
        strict: bool = False,
        views: ViewPlan | None = None,
    ) -> None:
        if on_bad not in ("error", "skip"):
            raise ConfigError(f"on_bad must be error or skip, got {on_bad!r:.60}")
        if batch_size < 1 or workers < 1:
            raise ConfigError(f"batch_size and workers must be >= 1, got {batch_size} and {workers}")
        self.network = network
        self._root, self._size, self._workers, self._skip = root, batch_size, workers, on_bad == "skip"
        self._stream, self._strict = stream or root is not None, strict
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self.progress: Progress | None = None
        self._about: dict[int, list[str]] = {}  # by row, until its batch is encoded
        self.read = self.encoded = 0
        self._held: _Held | None = None
        self._views = ViewPlan() if views is None else views

    def __call__(
        self, sources: Sequence[Any], /, progress: Progress | None = None, *, views_by: Any = None
    ) -> Encoded:
        """Latents of the sources that can be read.

        Args:
            progress: called with sources and random views done, and with how many there are in all.
            views_by: the sources' labels: also random views of them, as many of each class as the encoder was made for.

        Raises:
            DataError: a source cannot be read, unless such sources are skipped.
        """
        progress = self.progress if progress is None else progress
        tell = progress
        if progress is not None and views_by is not None:
            views = len(self._views.chosen(np.asarray(views_by)))
            tell = lambda done, total: progress(done, total + views)  # noqa: E731
        encoded = self._held.gathered(sources) if self._held is not None else self._each(sources, tell)
        if views_by is None or not self._views.views:
            return encoded
        done = len(sources)
        tell = None if progress is None else lambda new, views: progress(done + new, done + views)
        return self._with_views(encoded, sources, np.asarray(views_by), tell)

    def _each(self, sources: Sequence[Any], progress: Progress | None) -> Encoded:
        if self.network.cache is None or not self._stream:
            return self._expanded(sources, progress)
        found: list[tuple[np.ndarray, Latents]] = []
        missing = []
        for batch in self._batches(sources):
            latents = self._cached(batch)
            if latents is None:
                missing.append(batch)
            else:
                found.append((batch.rows_N, latents))
        done = sum(len(rows) for rows, _ in found)
        if progress is not None and done:
            progress(done, len(sources))
        tell = None if progress is None else lambda new: progress(done + new, len(sources))
        found += [(rows, latents) for _, rows, latents in self._encoded(missing, sources, tell)]
        found.sort(key=lambda part: int(part[0][0]))
        return self._joined(found)

    def hold(self, paths: Iterable[str], progress: Progress | None = None) -> None:
        """Encode these once, for several streams over them: in one order, whatever theirs, so that every stream finds
        the same latents. They are held in the network's cache, or in memory without one or if it took no more."""
        self._held = _Held(self, sorted(set(paths)), progress)

    # -- random views -------------------------------------------------------------------------------

    def _with_views(
        self, encoded: Encoded, sources: Sequence[Any], labels: np.ndarray, progress: Progress | None
    ) -> Encoded:
        """With the class tokens of random views of some pictures."""
        sources_N = encoded.rows_N
        first_N = np.searchsorted(sources_N, sources_N)  # a video's frames follow each other
        chosen = [
            View(sources[sources_N[row]], self._views.seed, number, row, int(row - first_N[row]))
            for row, number in self._views.chosen(labels[sources_N])
        ]
        if not chosen:
            return encoded
        groups = [list(views) for _, views in groupby(chosen, key=lambda view: int(sources_N[view.row]))]
        drawn: list[View] = []
        tokens, done = [], 0
        for part in _parts(groups, self._size):
            views, tokens_MKD = self._view_tokens(part)
            drawn += views
            tokens.append(tokens_MKD)
            done += sum(map(len, part))
            if progress is not None:
                progress(done, len(chosen))
        rows = np.array([view.row for view in drawn], dtype=np.int64)
        return Encoded(encoded.rows_N, encoded.latents.with_views(torch.cat(tokens), rows))

    def _view_tokens(self, groups: list[list[View]]) -> tuple[list[View], Tensor]:
        """Views whose source can still be read, and their class tokens (M, K, D), from the cache or through the trunk.

        Args:
            groups: views by their source.
        """
        cache = self.network.view_cache
        views = [view for group in groups for view in group]
        ids: list[bytes | None] = [None] * len(views)
        if cache is not None and all(isinstance(view.source, str) for view in views):
            images = self._ids([view.source for view in views])
            ids = [
                None if image is None else view.key(image) for view, image in zip(views, images, strict=True)
            ]
            found = cache.get(cache.keys(ids))
            if found is not None:
                return views, found.class_tokens_NKD
        with ThreadPoolExecutor(self._workers, thread_name_prefix="vitlr-decode") as pool:
            drawn = list(zip(groups, pool.map(self._drawn, groups), strict=True))
        pixels = [image for _, images in drawn if not isinstance(images, DataError) for image in images]
        if not pixels:
            return [], self.network.empty_latents(0).class_tokens_NKD
        parts = torch.from_numpy(np.stack(pixels)).split(self._size)
        tokens_MKD = torch.cat([self.network.encode(part).class_tokens_NKD for part in parts]).to(_HOST)
        if len(pixels) < len(views):
            return [
                view for group, images in drawn if not isinstance(images, DataError) for view in group
            ], tokens_MKD
        if cache is not None and cache.writable and None not in ids:
            if cache.kind(len(views)) is None:
                cache.set_kind(len(views), "size")
            cache.put(cache.keys(ids), Latents(tokens_MKD[:, :0], tokens_MKD))
        return views, tokens_MKD

    def _drawn(self, views: list[View]) -> list[np.ndarray] | DataError:
        """Views of one source, which is decoded once; what is wrong with it, if such sources are skipped."""
        try:
            return self._views_of(views)
        except DataError as error:
            if not self._skip:
                raise
            self.notes.append(f"no random views are learned of an image that was read before: {error}")
            return error

    def _views_of(self, views: list[View]) -> list[np.ndarray]:
        side, resample = self.network.skeleton.image_size, self.network.skeleton.resample
        source = views[0].source
        if self._stream:
            images: Iterable[np.ndarray] = [read_image(self._place(source), strict=self._strict)]
        else:
            if isinstance(source, Video):
                source = replace(source, on_read=None)  # which was told already
            images = pictures(source, strict=self._strict)
        wanted: dict[int, list[View]] = {}
        for view in views:
            wanted.setdefault(view.picture, []).append(view)
        return [
            view.of(image, side, resample)
            for number, image in enumerate(images)
            for view in wanted.get(number, ())
        ]

    # -- batches ------------------------------------------------------------------------------------

    def _batches(self, paths: Sequence[str]) -> list[_Batch]:
        ids: list[bytes | None] = [None] * len(paths)
        if self.network.cache is not None:
            ids = self._ids(paths)
        starts = range(0, len(paths), self._size)
        return [
            _Batch(
                rows=range(start, min(start + self._size, len(paths))), ids=ids[start : start + self._size]
            )
            for start in starts
        ]

    def _ids(self, paths: Sequence[str]) -> list[bytes | None]:
        """Identities of images for the cache; what is refused if read strictly has others than what is not."""
        ids = [
            _in_file(each, path)
            for each, path in zip(image_ids([_file(self._root, p) for p in paths]), paths, strict=True)
        ]
        return [None if each is None else each[:-1] + b"s" for each in ids] if self._strict else ids

    def _cached(self, batch: _Batch) -> Latents | None:
        """The latents of a batch, all of them from the cache, or None."""
        cache = self.network.cache
        if cache is None:
            return None
        keys = cache.keys(batch.ids)
        latents = cache.get(keys)
        if latents is not None:
            self.read += len(latents)
            self.notes += cache.about(keys)
        return latents

    def _encoded(
        self, batches: Sequence[_Batch], sources: Sequence[Any], progress: Callable[[int], None] | None = None
    ) -> Iterator[tuple[_Batch, np.ndarray, Latents]]:
        """Each batch with the rows of its readable images and their latents; they are offered to the cache."""
        self._about = {}
        slots = self._slots([row for batch in batches for row in batch.rows], sources)
        done = 0
        for batch in batches:
            rows, latents = self._through(list(islice(slots, len(batch.rows))), sources)
            done += len(batch.rows)
            if len(rows) == len(batch.rows):
                self._offer(batch, latents)
            if len(rows):
                yield batch, rows, latents
            if progress is not None:
                progress(done)

    def _expanded(self, sources: Sequence[Any], progress: Progress | None) -> Encoded:
        """Sources of any kind, a video being as many images as it has frames; nothing of it is cached."""
        slots, found = self._slots(range(len(sources)), sources), []
        while batch := list(islice(slots, self._size)):
            rows, latents = self._through(batch, sources)
            if len(rows):
                found.append((rows, latents))
            if progress is not None:
                progress(batch[-1][0] + 1, len(sources))
        return self._joined(found)

    def _through(
        self, batch: list[tuple[int, np.ndarray | DataError]], sources: Sequence[Any]
    ) -> tuple[np.ndarray, Latents]:
        """Rows and latents of the images of a batch that could be decoded."""
        rows, images = [], []
        for row, image in batch:
            if isinstance(image, DataError):
                if not self._skip:
                    raise image
                self.skipped.append(_name(sources[row], row))
            else:
                rows.append(row)
                images.append(image)
        if not rows:
            return np.zeros(0, dtype=np.int64), self.network.empty_latents(0)
        latents = self.network.encode(torch.from_numpy(np.stack(images))).to(_HOST)
        self.encoded += len(latents)
        return np.array(rows, dtype=np.int64), latents

    def _joined(self, parts: list[tuple[np.ndarray, Latents]]) -> Encoded:
        """All parts as one; the list is emptied."""
        if not parts:
            return Encoded(np.zeros(0, dtype=np.int64), self.network.empty_latents(0))
        rows_N, latents = np.concatenate([rows for rows, _ in parts]), [part for _, part in parts]
        parts.clear()
        return Encoded(rows_N, Latents.joined(latents))

    def _offer(self, batch: _Batch, latents: Latents) -> None:
        cache = self.network.cache
        if cache is None or not cache.writable:
            return
        size = len(batch.rows)
        if cache.kind(size) is None:
            cache.set_kind(
                size, batch_kind(self.network.encode, self.network.skeleton.image_size, size, self._size)
            )
        cache.put(cache.keys(batch.ids), latents, [self._about.pop(row, []) for row in batch.rows])

    # -- decoding -----------------------------------------------------------------------------------

    def _slots(
        self, rows: Sequence[int], sources: Sequence[Any]
    ) -> Iterator[tuple[int, np.ndarray | DataError]]:
        """Row and image, or what is wrong with it, in the order of the rows; decoded ahead in threads.

        Pillow releases the interpreter while it decodes. The threads end with the iterator.
        """
        waiting: deque[tuple[list[int], Future[list[list[np.ndarray] | DataError]]]] = deque()
        upcoming = self._together(rows, sources)
        ahead = 0
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="vitlr-decode")
        try:
            while True:
                while ahead < AHEAD * self._size and (group := next(upcoming, None)) is not None:
                    waiting.append((group, pool.submit(self._decoded, group, sources)))
                    ahead += len(group)
                if not waiting:
                    return
                group, future = waiting.popleft()
                for row, result in zip(group, future.result(), strict=True):
                    for image in [result] if isinstance(result, DataError) else result:
                        yield row, image
                ahead -= len(group)
        finally:
            pool.shutdown(cancel_futures=True)

    def _together(self, rows: Sequence[int], sources: Sequence[Any]) -> Iterator[list[int]]:
        """Each row alone, but frames of a clip that follow each other together: decoding begins at a clip's start."""
        group: list[int] = []
        clip, last = None, -1
        for row in rows:
            source = sources[row]
            frame = split_frame(source, self._root) if self._stream and not isinstance(source, Item) else None
            fits = (
                frame is not None and frame[0] == clip and frame[1] > last and len(group) < AHEAD * self._size
            )
            if group and not fits:
                yield group
                group = []
            group.append(row)
            clip, last = (None, -1) if frame is None else frame
        if group:
            yield group

    def _decoded(self, rows: list[int], sources: Sequence[Any]) -> list[list[np.ndarray] | DataError]:
        """The pictures of each source, or what is wrong with it."""
        side, resample = self.network.skeleton.image_size, self.network.skeleton.resample
        group = [sources[row] for row in rows]

        def note(sentence: str) -> None:
            self.notes.append(sentence)
            for row in rows:
                self._about.setdefault(row, []).append(sentence)

        try:
            if len(group) > 1:
                clip = resolve(self._root, group[0].rpartition("/")[0])
                numbers = [int(source.rpartition("/")[2]) for source in group]
                return [[image] for image in read_frames(clip, numbers, side, resample, on_note=note)]
            options: dict[str, Any] = {"strict": self._strict, "on_note": note}
            if self._stream:
                return [[read_image(self._place(group[0]), side, resample, **options)]]
            return [list(pictures(group[0], side, resample, **options))]
        except DataError as error:
            return [error] * len(group)

    def _place(self, source: Any) -> Any:
        """What ``read_image`` takes for a source."""
        if isinstance(source, Item):
            return source.load()
        return source if self._root is None else resolve(self._root, source)


class _Held:
    """All latents of some paths, encoded once in their order."""

    def __init__(self, encoder: Encoder, paths: list[str], progress: Progress | None) -> None:
        self._encoder, self._paths = encoder, paths
        self._batches = encoder._batches(paths)
        self._row = {path: row for row, path in enumerate(paths)}
        self._in_memory: dict[int, tuple[np.ndarray, Latents]] = {}  # by a batch's number
        cache = encoder.network.cache
        missing = []
        for batch in self._batches:
            keys = None if cache is None else cache.keys(batch.ids)
            if cache is None or keys is None or not cache.has(keys):
                missing.append(batch)
            else:
                encoder.notes += cache.about(keys)
        done = len(paths) - sum(len(batch.rows) for batch in missing)
        self._encode(missing, None if progress is None else lambda new: progress(done + new, len(paths)))
        if progress is not None and not missing:
            progress(done, done)

    def _encode(
        self, batches: list[_Batch], progress: Callable[[int], None] | None, always: bool = False
    ) -> None:
        cache = self._encoder.network.cache
        for batch, rows, latents in self._encoder._encoded(batches, self._paths, progress):
            if always or cache is None or not cache.has(cache.keys(batch.ids)):
                self._in_memory[batch.rows.start] = (rows, latents)

    def gathered(self, sources: Sequence[str]) -> Encoded:
        """Latents of these paths, in this order; those that could not be read or are not held are left out."""
        size = len(self._batches[0].rows) if self._batches else 1
        rows = np.array([self._row.get(path, -1) for path in sources], dtype=np.int64)
        by_batch: dict[int, list[int]] = {}
        for place in np.flatnonzero(rows >= 0).tolist():
            by_batch.setdefault(int(rows[place]) // size, []).append(place)
        places, parts = [], []
        for number, wanted in by_batch.items():
            kept, latents = self._rows(self._batches[number], rows[wanted])
            places.append(np.array(wanted, dtype=np.int64)[kept])
            parts.append(latents)
        if not parts:
            return self._encoder._joined([])
        found = np.concatenate(places)
        order = np.argsort(found, kind="stable")
        return Encoded(found[order], Latents.joined(parts)[order])

    def _rows(self, batch: _Batch, rows: np.ndarray) -> tuple[np.ndarray, Latents]:
        """If each of these rows of a batch could be read, (bool), and the latents of those that could."""
        cache = self._encoder.network.cache
        if batch.rows.start not in self._in_memory and cache is not None:
            keys = cache.keys(batch.ids)
            latents = cache.get([keys[row - batch.rows.start] for row in rows])
            if latents is not None:
                self._encoder.read += len(latents)
                return np.ones(len(rows), dtype=bool), latents
        if batch.rows.start not in self._in_memory:
            self._encode([batch], None, always=True)
        if batch.rows.start not in self._in_memory:  # not one image of it could be read
            return np.zeros(len(rows), dtype=bool), self._encoder.network.empty_latents(0)
        held, latents = self._in_memory[batch.rows.start]
        kept = np.isin(rows, held)
        return kept, latents[np.searchsorted(held, rows[kept])]


def _parts(groups: list[list[View]], size: int) -> Iterator[list[list[View]]]:
    """Groups that follow each other, together ``size`` views or a little more."""
    part: list[list[View]] = []
    for group in groups:
        part.append(group)
        if sum(map(len, part)) >= size:
            yield part
            part = []
    if part:
        yield part


def _name(source: Any, row: int) -> str:
    """What a source is called: its path, or its place among the sources."""
    source = source.path if isinstance(source, Video) else source
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"image {row}"


def _in_file(identity: bytes | None, path: str) -> bytes | None:
    """Identity of a picture by that of its file, which may hold several."""
    if identity is None or not isinstance(path, Item):
        return identity
    return blake2b(identity + path.part.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _file(root: Path | None, path: str) -> Path:
    """The file of an image; none for a path that will be refused when it is read, and for what is in no file."""
    if isinstance(path, Item):
        return path.file or Path()
    try:
        return resolve(root, path)
    except DataError:
        return Path()
