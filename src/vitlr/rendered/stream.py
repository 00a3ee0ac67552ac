"""The rendered objects as a stream, in CORe50's scenarios and orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitlr.data.core50 import core50_stream
from vitlr.data.experience import Stream
from vitlr.data.names import expanded, shown
from vitlr.errors import DataError
from vitlr.rendered.dataset import ensure_rendered
from vitlr.storage.cache_root import cache_root

__all__ = ["rendered_stream"]


def rendered_stream(config: Any, progress: Callable[[int, int], None] | None = None) -> Stream:
    """What ``data.dataset rendered`` names; rendered first if it is not there yet, into ``config.root`` or the
    cache."""
    name = f"rendered-{config.frames}-frames-seed-{config.seed}"
    root = expanded(config.root) if config.root else cache_root() / name
    _check_root(root)
    ensure_rendered(root, config.frames, seed=config.seed, progress=progress)
    stream = core50_stream(root, config.scenario, config.order, config.labels, config.test)
    return replace(stream, name=stream.name.replace("core50", "rendered", 1))


def _check_root(root: Path) -> None:
    """DataError if images of the user's own are there: the setting that names their kind was forgotten."""
    if root.is_file():
        raise DataError(
            f"{shown(root)} is a file and no folder of rendered objects; for a list of images give --data.dataset list"
            f" --data.file {shown(root)}"
        )
    if root.is_dir() and not (root / "s1").is_dir():
        raise DataError(
            f"{shown(root)} holds no rendered objects; for class folders of your own add --data.dataset folder"
        )
