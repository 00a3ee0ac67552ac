"""What is learned from. A new data set is one function that returns a Stream, and one line in DATASETS.

Each function takes the data settings, any object with the attributes it reads (``root``, ``scenario``, ...),
and a callable for progress (done, total) that slow ones call. Nothing here needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from vitlr.data.core50 import core50_lists, core50_stream
from vitlr.data.experience import Experience, Stream
from vitlr.data.folders import folder_stream
from vitlr.data.hub import HubColumns, hub_stream
from vitlr.data.rows import Rules
from vitlr.data.tables import experience_folders, list_stream
from vitlr.errors import DataError

__all__ = [
    "DATASETS",
    "Experience",
    "Stream",
    "core50_lists",
    "core50_stream",
    "experience_folders",
    "folder_stream",
    "hub_stream",
    "list_stream",
    "load_stream",
]

Progress = Callable[[int, int], None]


def _core50(config: Any, progress: Progress | None) -> Stream:
    return core50_stream(config.root, config.scenario, config.order, config.labels, config.test)


def _folder(config: Any, progress: Progress | None) -> Stream:
    return folder_stream(
        config.root,
        config.classes_per_experience,
        config.seed,
        config.held_out,
        config.test_root,
        run=config.order,
        class_level=config.class_level,
        every=config.every,
        max_frames=config.max_frames,
    )


def _rules(config: Any) -> Rules:
    return Rules(
        experiences=config.experiences,
        classes_per_experience=config.classes_per_experience,
        images_per_experience=config.images_per_experience,
        seed=config.seed,
        held_out=config.held_out,
        every=config.every,
        max_frames=config.max_frames,
    )


def _list(config: Any, progress: Progress | None) -> Stream:
    return list_stream(config.file, config.root, _rules(config), labels=config.labels)


def _experiences(config: Any, progress: Progress | None) -> Stream:
    return experience_folders(config.root, _rules(config))


def _hub(config: Any, progress: Progress | None) -> Stream:
    columns = HubColumns(
        image=config.image_column, label=config.label_column, experience=config.experience_column
    )
    return hub_stream(config.root, _rules(config), columns=columns)


# A function, or the module and name of one in a room above this one.
DATASETS: dict[str, Callable[[Any, Progress | None], Stream] | str] = {
    "rendered": "vitlr.rendered.stream:rendered_stream",
    "core50": _core50,
    "folder": _folder,
    "experiences": _experiences,
    "list": _list,
    "hub": _hub,
}


def load_stream(config: Any, progress: Progress | None = None) -> Stream:
    """The stream that ``config.dataset`` names. Raises DataError if it is unknown or cannot be read."""
    if config.dataset not in DATASETS:
        raise DataError(f"data set must be one of {', '.join(DATASETS)}, got {config.dataset!r}")
    load = DATASETS[config.dataset]
    if isinstance(load, str):
        module, _, name = load.partition(":")
        load = getattr(import_module(module), name)
    stream: Stream = load(config, progress)
    return stream
