"""What a network looks at: networks of every kind and pictures in, maps and pages out.

    from vitlr.attention import attention_pages, open_view

    view = open_view("robot")                             # or a run, an exported model, a backbone
    for page_HWC in attention_pages([view.before, view], ["photos"]):
        ...                                               # uint8 picture

The method is in :mod:`vitlr.vit.views.rollout`, the drawing in :mod:`vitlr.report.overlay`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vitlr.data.files import find_images
from vitlr.data.images import read_image
from vitlr.data.names import expanded
from vitlr.errors import BackboneError, ConfigError, DataError
from vitlr.report.overlay import Row, fitted, gallery
from vitlr.vit import Backbone, Head, load_backbone
from vitlr.vit.views.rollout import attention_rollout, check_options

__all__ = ["PAGE", "View", "attention_pages", "look", "open_untrained", "open_view", "page"]

PAGE = 48  # pictures a page
_BATCH = 8  # pictures decoded and encoded together
_UNTOLD = re.compile(r"model|run\d+-seed\d+|\.{1,2}")
_SIDE, _ALONE = 224, 384  # pixels a picture gets on a page, and where it is the only one


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A network to look through: a backbone, and trained blocks in place of its upper ones if there are any."""

    name: str
    backbone: Backbone
    head: Head | None = None
    origin: str | Path | None = None  # of a run: the network that it started from

    @property
    def before(self) -> View:
        """The network before it learned.

        Raises:
            ConfigError: that is not known.
        """
        if self.head is not None:
            return replace(self, name=str(self.backbone.name), head=None)
        if self.origin is not None:
            return open_untrained(self.origin, self)
        raise ConfigError(
            f"{self.name} does not tell what it was before learning: name that network with --before, or give a"
            " saved classifier or a run"
        )


def open_view(
    name: str | Path,
    *,
    blocks: int | None = None,
    image_size: int | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> View:
    """A saved classifier, a run, or whatever ``vitlr.vit.load_backbone`` takes, exported models among it.

    Args:
        blocks, image_size: as ``load_backbone`` takes them; a saved classifier has its own.
        device, precision: of a saved classifier, and refused for others; see ``LatentReplayClassifier.load``.

    Raises:
        BackboneError, ConfigError, RunError: there is no such network, or it cannot be used so.
    """
    path = expanded(name)
    if (path / "state.safetensors").is_file():
        if blocks is not None or image_size is not None:
            raise ConfigError(
                f"{name} is a saved classifier with blocks and an image size of its own: leave out --blocks and"
                " --image-size, or export it and give the exported model"
            )
        from vitlr.classifier import LatentReplayClassifier

        backbone, head = LatentReplayClassifier.load(path, device=device, precision=precision).parts()
        return View(name=str(name), backbone=backbone, head=head)
    if device is not None or precision is not None:
        raise ConfigError(
            f"{name} is no saved classifier, for which alone a device and a precision can be chosen: leave out --device"
            " and --precision; attention is computed on the CPU in float32"
        )
    run = _run_of(path)
    if run is None:
        return View(name=str(name), backbone=load_backbone(name, blocks=blocks, image_size=image_size))
    from vitlr.runs.train import model_of, read_config

    model, origin = model_of(run), read_config(run).backbone.name
    backbone = load_backbone(model, blocks=blocks, image_size=image_size)
    return View(name=str(name), backbone=backbone, origin=origin)


def open_untrained(name: str | Path, trained: View) -> View:
    """The backbone that a network was trained from, at the same image size and with as many blocks.

    Raises:
        BackboneError: there is no such network, or it has fewer blocks.
    """
    size, blocks = trained.backbone.image_size, trained.backbone.num_blocks
    backbone = load_backbone(name, image_size=size)
    if backbone.num_blocks < blocks:
        raise BackboneError(
            f"{name} has {backbone.num_blocks} blocks and {trained.name} has {blocks}: give the network that it"
            " was trained from"
        )
    if backbone.num_blocks > blocks:
        backbone = load_backbone(name, image_size=size, blocks=blocks)
    return View(name=str(name), backbone=backbone)


def look(
    networks: Sequence[View],
    paths: Iterable[str | Path],
    *,
    fuse: str = "mean",
    discard: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Row]:
    """Yield picture and map of each network for each image; pictures are shrunk to what a page shows.

    Args:
        paths: image files, and folders of them.
        fuse, discard: see :func:`vitlr.vit.views.rollout.rollout`.
        progress: called with images done and images in all.

    Raises:
        ConfigError: ``fuse`` or ``discard`` is none. DataError: no image, or one that cannot be read.
    """
    check_options(fuse=fuse, discard=discard)
    files = find_images(paths).files
    if not files:
        raise DataError("no images were given; give image files or folders of them")
    names = _names(files)
    side = _ALONE if len(files) == 1 else _SIDE
    for start in range(0, len(files), _BATCH):
        pictures = [read_image(file) for file in files[start : start + _BATCH]]
        maps = [_maps(network.backbone, network.head, pictures, fuse, discard) for network in networks]
        for index, picture in enumerate(pictures):
            yield Row(
                name=names[start + index],
                picture_HWC=fitted(picture, side),
                maps=tuple(maps_Nhw[index] for maps_Nhw in maps),
            )
        if progress is not None:
            progress(min(start + _BATCH, len(files)), len(files))


def attention_pages(
    networks: Sequence[View],
    paths: Iterable[str | Path],
    *,
    headings: Sequence[str] | None = None,
    fuse: str = "mean",
    discard: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[np.ndarray]:
    """Yield pages, uint8 (H, W, 3), of up to ``PAGE`` pictures with the map of each network beside them.

    Args:
        networks: one, or two: before and after learning.
        headings: of the maps; by default ``attention``, or ``before learning`` and ``after learning``.
        paths, fuse, discard, progress: see :func:`look`, which also tells the errors.
    """
    rows: list[Row] = []
    for row in look(networks, paths, fuse=fuse, discard=discard, progress=progress):
        if len(rows) == PAGE:
            yield page(networks, rows, headings=headings, fuse=fuse, discard=discard)
            rows = []
        rows.append(row)
    yield page(networks, rows, headings=headings, fuse=fuse, discard=discard)


def page(
    networks: Sequence[View],
    rows: Sequence[Row],
    *,
    headings: Sequence[str] | None = None,
    fuse: str = "mean",
    discard: float = 0.0,
) -> np.ndarray:
    """One page, uint8 (H, W, 3), with the network and how it was looked at above."""
    if headings is None:
        headings = ("attention",) if len(networks) == 1 else ("before learning", "after learning")
    backbone = networks[-1].backbone
    note = f"attention rollout, {backbone.image_size} px, {backbone.num_blocks} blocks, {fuse} of heads"
    if discard:
        note += f", lowest {100 * discard:g} % discarded"
    title = _title(networks[-1].name)
    side = _ALONE if len(rows) == 1 else _SIDE
    return gallery(rows, headings=headings, title=title, note=note, side=side)


def _maps(
    backbone: Backbone, head: Head | None, pictures: Sequence[np.ndarray], fuse: str, discard: float
) -> np.ndarray:
    """(N, h, w) float32."""
    sized = [read_image(picture, backbone.image_size, backbone.resample) for picture in pictures]
    images_NHWC = torch.from_numpy(np.stack(sized))
    return attention_rollout(backbone, images_NHWC, head, fuse=fuse, discard=discard).numpy()


def _title(name: str) -> str:
    """The last part of a path, and the part before where the last is but an order and a seed, or ``model``."""
    parts = Path(name).parts
    told = parts[-1:]
    while told and len(told) < len(parts) and _UNTOLD.fullmatch(told[0]):
        told = parts[-len(told) - 1 :]
    return "/".join(told) or name


def _run_of(path: Path) -> Path | None:
    """The run directory that a path is, or whose ``model`` it is."""
    candidates = [path] if not (path / "config.json").is_file() else []
    candidates += [path.parent] if path.name == "model" else []
    return next((run for run in candidates if (run / "config.yaml").is_file()), None)


def _names(files: Sequence[str]) -> list[str]:
    """What files are called on a page: their paths below the folder that they have in common."""
    if len(files) == 1:
        return [Path(files[0]).name]
    absolute = [os.path.abspath(file) for file in files]
    try:
        base = os.path.commonpath([os.path.dirname(file) for file in absolute])
    except ValueError:  # drives of Windows have nothing in common
        return list(files)
    return [Path(os.path.relpath(file, base)).as_posix() for file in absolute]
