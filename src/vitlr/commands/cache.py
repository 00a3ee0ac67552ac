"""``vitlr cache``: latents of earlier runs, kept for later ones."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from vitlr.commands.console import notes, say, table

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``cache list``, ``cache clear`` and ``cache path``."""
    parser = commands.add_parser(
        "cache",
        help="latents kept on disk: list, clear, path",
        description="Latents of earlier runs, kept so that later runs over the same images and trunk need not"
        " compute them. VITLR_CACHE or --backbone.cache sets the directory; --backbone.cache off keeps none.",
        epilog="example: vitlr cache list",
        **common,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    listing = actions.add_parser(
        "list",
        help="list the trunks whose latents are kept, the last used first",
        epilog="example: vitlr cache list --json",
        **common,
    )
    listing.add_argument("--json", action="store_true", help="print as JSON")
    clear = actions.add_parser(
        "clear",
        help="remove all of them, or those with the given keys",
        epilog="example: vitlr cache clear 3f2a",
        **common,
    )
    clear.add_argument("--json", action="store_true", help="print what was removed as JSON")
    clear.add_argument("--quiet", action="store_true", help="print nothing")
    clear.add_argument("keys", nargs="*", metavar="KEY", help="as vitlr cache list shows them")
    path = actions.add_parser(
        "path", help="print their directory", epilog="example: vitlr cache path", **common
    )
    for action, run in ((listing, list_entries), (clear, clear_entries), (path, print_path)):
        action.add_argument(
            "--dir", default="auto", help="directory that was given as backbone.cache (default: the user's)"
        )
        action.set_defaults(run_command=run)


def list_entries(options: argparse.Namespace) -> int:
    from vitlr.latents.cache import cache_entries

    root = _root(options)
    rows = [_row(entry) for entry in cache_entries(root)]
    if options.json:
        print(json.dumps({"directory": str(root), "entries": rows}, indent=2))
        return 0
    if not rows:
        say(f"{root} keeps no latents")
        return 0
    headings = ("key", "backbone", "cut", "px", "precision", "threads", "images", "MB", "last used")
    left = ("key", "backbone", "precision", "last used")
    table(f"latents in {root}", headings, map(_cells, rows), left)
    return 0


def _cells(row: dict[str, Any]) -> list[Any]:
    cut = None if row["cut"] is None else f"{row['cut']} of {row['blocks']}"
    cells = [row["key"], row["backbone"], cut, row["image_size"], row["precision"], row["threads"]]
    return [*cells, f"{row['images']:,}", f"{row['bytes'] / 1e6:,.1f}", row["last_used"]]


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    identity = entry["identity"]
    row = {name: identity.get(name) for name in ("cut", "blocks", "image_size", "precision", "batch_size")}
    return {
        "key": entry["key"],
        "backbone": entry["backbone"],
        **row,
        "threads": identity.get("computed by", {}).get("threads"),
        "images": entry["images"],
        "bytes": entry["bytes"],
        "last_used": time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["last_used"])),
    }


def clear_entries(options: argparse.Namespace) -> int:
    from vitlr.latents.cache import clear_cache

    root = _root(options)
    removed = clear_cache(root, options.keys)
    if options.json:
        print(json.dumps({"directory": str(root), "removed": [_row(entry) for entry in removed]}, indent=2))
    if options.json or options.quiet:
        return 0
    for entry in removed:
        notes([f"removed {entry['key']} ({entry['backbone']})"])
    total = sum(entry["bytes"] for entry in removed)
    print(f"{sum(entry['images'] for entry in removed):,} latents removed, {total / 1e6:,.1f} MB freed")
    return 0


def print_path(options: argparse.Namespace) -> int:
    say(_root(options))
    return 0


def _root(options: argparse.Namespace):
    from vitlr.errors import ConfigError
    from vitlr.latents.network import latents_root

    root = latents_root(options.dir)
    if root is None:
        raise ConfigError("--dir off is not a directory; give the one that the runs used, or leave it out")
    return root
