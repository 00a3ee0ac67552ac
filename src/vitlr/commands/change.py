"""``vitlr rename`` and ``merge``: classes under another name, and classifiers put together."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path

from vitlr.commands.model import (
    PATIENCE,
    add_common_flags,
    by_text,
    check_place,
    check_saved,
    hold_new,
    is_saved,
    knowing,
    label_known,
)
from vitlr.data.names import checked_name, counted, shown
from vitlr.errors import ConfigError, RunError
from vitlr.storage.locks import locked

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add both."""
    rename_ = commands.add_parser(
        "rename",
        help="give a class another name, or make it part of another one",
        epilog="example: vitlr rename robot mug cup",
        **common,
    )
    rename_.add_argument("model", type=Path, help="directory of the classifier")
    rename_.add_argument("label", help="as vitlr classes prints it")
    rename_.add_argument("new", help="its new name")
    rename_.add_argument(
        "--merge", action="store_true", help="NEW is a class already: make both one, as if taught as one"
    )
    rename_.set_defaults(run_command=rename)

    merge_ = commands.add_parser(
        "merge",
        help="put together what classifiers with the same network were taught apart",
        epilog="example: vitlr merge robot1 robot2 robot3 --out fleet",
        **common,
    )
    merge_.add_argument("models", nargs="+", type=Path, help="directories of two or more classifiers")
    merge_.add_argument("--out", type=Path, required=True, help="directory of the new classifier")
    merge_.set_defaults(run_command=merge)
    for parser in (rename_, merge_):
        add_common_flags(parser)


def rename(options: argparse.Namespace) -> int:
    from vitlr.app.gallery import change_saved

    check_saved(options.model)  # locking would make the directory
    new = checked_name(options.new)
    with locked(options.model, wait=PATIENCE):
        model = knowing(options)
        label, into = label_known(model, options.label), label_known(model, new)
        if not options.merge:
            if into in model.classes_.tolist() and into != label:
                raise ConfigError(f"there is a class {shown(new)} already; make both one with --merge")
            model.rename(label, label if str(label) == new else new)
        else:
            model.merge_classes(label, into)
        model.save(options.model)
        change_saved(options.model, lambda shown: shown.renamed(str(label), str(into)))
    images = by_text(model.remember().images)
    if options.json:
        print(json.dumps({"label": options.label, "new": new, "classes": images}))
    elif not options.quiet:
        print(f"{shown(options.label)}: is {shown(new)} now, {counted(images[str(into)], 'image')}")
    return 0


def merge(options: argparse.Namespace) -> int:
    if len(options.models) < 2:
        raise ConfigError("give two or more classifiers to merge")
    if is_saved(options.out):
        raise RunError(f"{shown(options.out)} holds a classifier already; name a new directory with --out")
    check_place(options.out)
    first, *others = (
        knowing(argparse.Namespace(**vars(options) | {"model": path})) for path in options.models
    )
    for other in others:
        first.merge(other)
    with ExitStack() as stack:
        hold_new(stack, options.out)
        first.save(options.out)
    images = by_text(first.remember().images)
    if options.json:
        print(json.dumps({"out": str(options.out), "classes": images}))
    elif not options.quiet:
        known, taught = counted(len(images), "class", "classes"), counted(sum(images.values()), "image")
        print(f"{shown(options.out)}: {known}, {taught}, of {len(options.models)} classifiers")
    return 0
