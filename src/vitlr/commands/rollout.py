"""``vitlr rollout``: what a network looks at, as a picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitlr.commands.console import Bar, say
from vitlr.commands.model import add_compute_flags, machine_notes
from vitlr.commands.pictures import found_pictures
from vitlr.errors import ConfigError, RunError

if TYPE_CHECKING:
    from vitlr.attention import View
    from vitlr.report.overlay import Row

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``rollout``."""
    parser = commands.add_parser(
        "rollout",
        help="show what a network looks at: attention over pictures, before and after learning",
        description="Attention rollout (Abnar & Zuidema 2020): how much of each patch reaches the class token\n"
        "through all blocks, laid over the pictures; one PNG page, or one for every 48 pictures.",
        epilog="example: vitlr rollout runs/demo/latent-replay/run0-seed0 photos --compare --out attention.png",
        **common,
    )
    parser.add_argument(
        "model", help="a saved classifier, a run, an exported model, or the name or directory of a backbone"
    )
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="image", help="image files, or folders of them"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("rollout.png"), metavar="FILE.png", help="default rollout.png"
    )
    parser.add_argument("--fuse", default="mean", help="fuse heads by their mean (default), max or min")
    parser.add_argument(
        "--discard", type=float, default=0.0, help="share of attention set to zero, lowest first (default 0)"
    )
    parser.add_argument("--blocks", type=int, help="use only the first blocks (default all)")
    parser.add_argument("--image-size", type=int, help="side in pixels (default the network's own)")
    parser.add_argument("--before", metavar="BACKBONE", help="add a column for this network, before learning")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="the same with the network that a saved classifier or a run started from",
    )
    add_compute_flags(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print files and maps as JSON")
    parser.set_defaults(run_command=rollout)


def rollout(options: argparse.Namespace) -> int:
    # Imported here, because parsing a command line needs no PyTorch.
    from vitlr import attention
    from vitlr.report.overlay import png
    from vitlr.storage.files import write_atomically
    from vitlr.vit.views.rollout import check_options

    check_options(fuse=options.fuse, discard=options.discard)
    if options.before is not None and options.compare:
        raise ConfigError("--before names the network that --compare finds by itself: give one of them")
    found = found_pictures(options.images, options)
    files = found.files
    places = _places(options.out, len(files), attention.PAGE)
    _check_places(places, files)
    networks = _networks(options)
    method: dict[str, Any] = {"fuse": options.fuse, "discard": options.discard}
    pages: list[bytes] = []  # all computed before the first is written, so that a bad picture leaves none
    maps: list[tuple[np.ndarray, ...]] = []
    with Bar("looking", quiet=options.quiet or options.json) as bar:
        part: list[Row] = []
        for row in attention.look(networks, files, progress=bar.callback(), **method):
            part.append(row)
            maps.append(row.maps)
            if len(part) == attention.PAGE or len(maps) == len(files):
                pages.append(png(attention.page(networks, part, **method)))
                part = []
    for place, content in zip(places, pages, strict=True):
        # Not locked: a lock file would remain in the folder of the picture.
        write_atomically(place, [content])
    if options.json:
        report = _report(options, networks, files, maps, places)
        print(json.dumps(report | {"found": found.as_dict()}))
    else:
        say("\n".join(map(str, places)))
    return 0


def _networks(options: argparse.Namespace) -> list[View]:
    """The network, preceded by the one before learning if that is asked for."""
    from vitlr.attention import open_untrained, open_view

    with machine_notes(quiet=options.quiet):
        network = open_view(
            options.model,
            blocks=options.blocks,
            image_size=options.image_size,
            device=options.device,
            precision=options.precision,
        )
    if options.before is not None:
        return [open_untrained(options.before, network), network]
    return [network.before, network] if options.compare else [network]


def _places(out: Path, pictures: int, page: int) -> list[Path]:
    """out.png, out-2.png, ... for that many pictures."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out must be a file name that ends in .png, got {out}")
    pages = max(1, -(-pictures // page))
    return [out if number == 1 else out.with_stem(f"{out.stem}-{number}") for number in range(1, pages + 1)]


def _check_places(places: Sequence[Path], files: Sequence[str]) -> None:
    """Refuse to replace anything but an earlier page, before the network works for minutes. Whether the file can be
    written is found out on writing."""
    from vitlr.report.overlay import is_ours

    inputs = {Path(file).resolve() for file in files}
    for place in places:
        if place.is_dir():
            raise RunError(f"{place} is a folder; choose another --out")
        if place.resolve() in inputs:
            raise RunError(f"{place} is one of the pictures to look at; choose another --out")
        if place.is_file() and not is_ours(place):
            raise RunError(
                f"{place} exists and is not a page of attention; choose another --out, or remove it first"
            )
    folder = places[0].parent
    if not folder.is_dir():
        raise RunError(f"{folder} does not exist; make it or choose another --out")


def _report(
    options: argparse.Namespace,
    networks: Sequence[View],
    files: Sequence[str],
    maps: Sequence[tuple[np.ndarray, ...]],
    places: Sequence[Path],
) -> dict[str, Any]:
    """The result as plain data; ``maps`` holds one (h, w) map for each of ``networks``."""
    backbone = networks[-1].backbone
    return {
        "networks": [network.name for network in networks],
        "image_size": backbone.image_size,
        "blocks": backbone.num_blocks,
        "fuse": options.fuse,
        "discard": options.discard,
        "out": [str(place) for place in places],
        "images": [
            {"path": file, "maps": [np.round(map_hw.astype(float), 8).tolist() for map_hw in maps_hw]}
            for file, maps_hw in zip(files, maps, strict=True)
        ],
    }
