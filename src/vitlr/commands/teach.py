"""``vitlr teach``: images of one label, or class folders whose names are the labels."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitlr.commands import pictures
from vitlr.commands.console import WITHIN, Bar, say
from vitlr.commands.model import (
    PATIENCE,
    add_common_flags,
    add_new_flags,
    by_text,
    check_place,
    hold_new,
    is_saved,
    new_or_saved,
)
from vitlr.data.left_out import LeftOut
from vitlr.data.names import checked_name, counted, expanded, same_but_for_case, shown
from vitlr.errors import DataError
from vitlr.storage.locks import locked

if TYPE_CHECKING:
    from vitlr.classifier import LatentReplayClassifier
    from vitlr.classifier.labels import Label
    from vitlr.data.video import Sampled

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``teach``."""
    parser = commands.add_parser(
        "teach",
        help="teach a classifier from images or videos",
        description="With --label the images are taught under this name. Without it the folders in PATHS are\n"
        "class folders, and their names are the labels; or Hugging Face data sets, with labels of their own.",
        epilog="example: vitlr teach robot --label mug photos/mug\n         vitlr teach robot photos",
        **common,
    )
    parser.add_argument(
        "model", type=Path, help="directory of the classifier; a new one is made where there is none"
    )
    parser.add_argument("--label", help="name of what the images show (default: the names of class folders)")
    parser.add_argument(
        "paths", nargs="+", type=Path, help="images, videos, or folders of them; or folders of class folders"
    )
    parser.add_argument(
        "--class-level",
        default="auto",
        help="which folders are classes: auto (default), top, leaf or a number",
    )
    for what in ("image", "label"):
        parser.add_argument(
            f"--{what}-column", help=f"column of {what}s of a Hugging Face data set (default: found)"
        )
    add_new_flags(parser)
    pictures.add_video_flags(parser)
    pictures.add_bad_flag(parser)
    add_common_flags(parser)
    parser.set_defaults(run_command=teach)


_NOT_TAUGHT = "images to test on are not taught"


class _Given(NamedTuple):
    """Files, the label of each, and what was found and left out, for JSON."""

    files: list[str]
    labels: list[str]
    found: dict[str, Any]


def _given(options: argparse.Namespace) -> _Given:
    """What is to be taught; what was found and left out is said."""
    if options.label is not None:
        label = checked_name(options.label)
        found = pictures.found_pictures(options.paths, options, videos=True)
        return _Given(list(found.files), [label] * len(found.files), found.as_dict())
    parts = [_of_folder(expanded(root), options) for root in options.paths]
    facts = [fact for part in parts for fact in part.found["facts"]]
    pictures.say(facts, options)
    left_out = sum((part.found["left_out"] for part in parts), LeftOut())
    files, labels = ([each for part in parts for each in getattr(part, name)] for name in ("files", "labels"))
    return _Given(files, labels, {"files": len(files), "facts": facts, "left_out": left_out.as_dict()})


def _of_folder(root: Path, options: argparse.Namespace) -> _Given:
    """Images of class folders, or of a data set in Hugging Face's form; those to test on are not taught."""
    from vitlr.data.class_folders import read_class_folders
    from vitlr.data.hub import HubColumns, hub_rows, is_hub_directory

    if root.is_file():
        raise DataError(f"{shown(root)} is a file, whose label nobody can tell; give --label NAME")
    if root.is_dir() and is_hub_directory(root):
        rows, facts, notes = hub_rows(
            root, HubColumns(image=options.image_column, label=options.label_column)
        )
        taught = [row for row in rows if row.split != "test"]
        facts += [*notes, *([_NOT_TAUGHT] if len(taught) < len(rows) else [])]
        files, labels = [row.path for row in taught], [row.label for row in taught]
        return _Given(files, labels, {"facts": facts, "left_out": LeftOut()})
    try:
        folders = read_class_folders(root, class_level=options.class_level, videos=True)
    except DataError as error:
        raise DataError(f"{error}, or give --label NAME for all of them") from None
    images = folders.train.images
    files = [str(folders.base / path) for paths in images.values() for path in paths]
    labels = [name for name, paths in images.items() for _ in paths]
    facts = [*folders.facts, *folders.notes, *([_NOT_TAUGHT] if folders.test is not None else [])]
    return _Given(files, labels, {"facts": facts, "left_out": folders.left_out})


def teach(options: argparse.Namespace) -> int:
    given = _given(options)
    videos: list[Sampled] = []
    sources = pictures.sources(given.files, options, videos.append)
    check_place(options.model)
    with ExitStack() as stack:
        new = not is_saved(options.model)
        if not new:
            stack.enter_context(locked(options.model, wait=PATIENCE))
        model = new_or_saved(options)
        labels = _as_known(model, given.labels, options)
        with Bar("encoding", quiet=options.quiet or options.json, pause=WITHIN) as bar:
            model.partial_fit(sources, labels, on_bad_image=options.on_bad_image, progress=bar.callback())
        if new:  # its directory is made only now that there is something to put into it
            hold_new(stack, options.model)
        model.save(options.model)
    _report(options, model, given, videos)
    return 0


def _as_known(model: LatentReplayClassifier, texts: list[str], options: argparse.Namespace) -> list[Label]:
    """Labels, known ones with their own type; a new one that differs from a known one in case alone is said."""
    from vitlr.classifier.labels import known_label

    known: list[Label] = model.classes_.tolist() if hasattr(model, "classes_") else []
    label_of = {text: known_label(text, known) for text in dict.fromkeys(texts)}
    seen = [str(label) for label in known]
    for text, label in label_of.items():
        other = None if label in known else same_but_for_case(text, seen)
        if other is not None:
            pictures.say(
                [f"label {text} differs from {other} in upper and lower case only; both are classes"], options
            )
        seen.append(text)
    return [label_of[text] for text in texts]


def _report(
    options: argparse.Namespace, model: LatentReplayClassifier, given: _Given, videos: list[Sampled]
) -> None:
    remembered, skipped = model.remember(), model.last_skipped_
    alone = len(given.files) - len(skipped) - len(videos)
    images = alone + sum(video.taken for video in videos)
    if options.json:
        content = {"label": options.label, "images": images, "classes": by_text(remembered.images)}
        content |= {"videos": [video.as_dict() for video in videos], "found": given.found}
        print(json.dumps(content | {"skipped": list(skipped), "notes": list(model.last_notes_)}))
    pictures.say(model.last_notes_, options)
    if skipped:
        pictures.say([pictures.skipped_sentence(skipped)], options)
    if options.json or options.quiet:
        return
    for video in videos:
        say(f"{shown(video.path)}: {video.counts}")
        pictures.say(video.notes, options)
    names = list(dict.fromkeys(given.labels))
    what = names[0] if len(names) == 1 else counted(len(names), "class", "classes")
    known = counted(len(remembered.latents), "class", "classes")
    say(f"{what}: {counted(images, 'image')} learned; {known} known")
