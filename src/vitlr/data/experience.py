"""What is learned from: a stream of experiences, each a list of image paths and labels.

Nothing here opens an image. Labels are indices into the stream's ``class_names``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.data.left_out import LeftOut
from vitlr.errors import DataError

__all__ = ["TEST", "Experience", "Item", "Stream"]

TEST = -1  # the index that the test set carries in place of an experience number


class Item(str):
    """The name of a picture that is no file, among paths; ``load`` gives what ``read_image`` takes.

    If ``load`` has the attributes ``file`` and ``part``, these identify the picture: it stays the same as long as the
    file does.
    """

    load: Callable[[], Any]

    def __new__(cls, name: str, load: Callable[[], Any]) -> Item:
        item = super().__new__(cls, name)
        item.load = load  # type: ignore[method-assign]
        return item

    @property
    def file(self) -> Path | None:
        """The file that the picture is in."""
        return getattr(self.load, "file", None)

    @property
    def part(self) -> str:
        """Which part of the file it is."""
        return getattr(self.load, "part", "")


@dataclass(frozen=True, kw_only=True, eq=False)
class Experience:
    """One increment of labelled images (CORe50 says "batch"; not a mini-batch).

    ``paths`` are POSIX paths relative to the stream's root, ``labels`` int64 of shape (N,).
    ``index`` counts from 0 along the published order; gaps are experiences without a single image.
    """

    index: int
    name: str
    paths: tuple[str, ...]
    labels: np.ndarray

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels, dtype=np.int64)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)
        if labels.shape != (len(self.paths),):
            raise DataError(
                f"experience {self.name!r} has {len(self.paths)} images and labels of shape {labels.shape};"
                " give one label for each image"
            )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def classes(self) -> tuple[int, ...]:
        """The class indices present, each once, ascending."""
        return tuple(int(label) for label in np.unique(self.labels))


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """A sequence of experiences and the test set they are judged on.

    ``notes`` are sentences the user should see, such as how many of the published frames were found; ``facts``
    say what was found, before anything is decoded. ``left_out`` is what a walk over files did not take.
    ``test_sessions`` has the recording session of each test image, where the data set has sessions.
    """

    name: str
    root: Path | None
    experiences: tuple[Experience, ...]
    test: Experience
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)
    test_sessions: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.test_sessions is not None and len(self.test_sessions) != len(self.test):
            raise DataError(
                f"{self.name} has {len(self.test)} test images and {len(self.test_sessions)} sessions;"
                " give one session for each image"
            )

    @classmethod
    def from_datasets(
        cls,
        experiences: Iterable[Any],
        test: Any,
        *,
        class_names: Sequence[str] | None = None,
        name: str = "data sets",
    ) -> Stream:
        """A stream of data sets of a program; see :func:`vitlr.data.sequences.stream_from_datasets`."""
        from vitlr.data.sequences import stream_from_datasets

        return stream_from_datasets(experiences, test, class_names=class_names, name=name)

    def __len__(self) -> int:
        return len(self.experiences)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_train_images(self) -> int:
        return sum(len(experience) for experience in self.experiences)
