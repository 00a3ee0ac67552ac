"""``vitlr data``: lists, verification and rendering. Needs no PyTorch."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vitlr.commands.console import Bar
from vitlr.errors import DataError

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``data`` and what follows it."""
    data = commands.add_parser("data", help="list, verify or render data", description=__doc__, **common)
    actions = data.add_subparsers(dest="action", required=True, metavar="list|verify|render")

    one = actions.add_parser(
        "list",
        help="CORe50's published lists, one line a frame; needs no images",
        description="Print I<TAB>path<TAB>label for each frame, with 'test' in place of I for test frames.",
        epilog="example: vitlr data list --scenario nicv2_391 --run 0 --experience 3",
        **common,
    )
    one.add_argument("--scenario", required=True, help="ni, nc, nic, nicv2_79, nicv2_196 or nicv2_391")
    one.add_argument("--run", type=int, default=0, help="published order, 0 to 9 (default 0)")
    one.add_argument("--experience", type=int, help="only this one, counted from 0 (default: all)")
    one.add_argument("--test", help="full or reduced: print the test frames (after the experience asked for)")
    one.add_argument("--labels", default="object", help="object, category or appearance (default object)")
    one.set_defaults(run_command=list_frames)

    two = actions.add_parser(
        "verify",
        help="what of CORe50 is in a folder, and whether it is whole",
        description="Compare a folder with the published list and decode every image. Exit code 1 if a frame is"
        " missing, damaged or of another size.",
        epilog="example: vitlr data verify ~/core50_128x128",
        **common,
    )
    two.add_argument("root", type=Path, help="folder that holds s1 .. s11")
    two.add_argument("--workers", type=int, default=2, help="threads that decode (default 2)")
    two.add_argument("--json", action="store_true", help="print everything as JSON")
    two.add_argument("--quiet", action="store_true", help="no progress")
    two.set_defaults(run_command=verify_tree)

    three = actions.add_parser(
        "render",
        help="render objects in CORe50's layout",
        description="Render 10 categories of 5 three-dimensional objects in 11 sessions, as 128x128 PNG.",
        epilog="example: vitlr data render rendered --frames 20 --contact-sheet sheet.png",
        **common,
    )
    three.add_argument("root", type=Path, help="new or empty folder")
    three.add_argument("--frames", type=int, default=6, help="a video, 1 to 300 (default 6)")
    three.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    three.add_argument("--processes", type=int, help="default: one a core")
    three.add_argument(
        "--contact-sheet", type=Path, metavar="FILE", help="also a picture of all objects by all sessions"
    )
    three.add_argument("--quiet", action="store_true", help="no progress")
    three.set_defaults(run_command=render)


def list_frames(options: argparse.Namespace) -> int:
    from vitlr.data.core50 import core50_list_lines

    lines = core50_list_lines(
        options.scenario, options.run, experience=options.experience, test=options.test, labels=options.labels
    )
    for line in lines:
        sys.stdout.write(line + "\n")
    return 0


def verify_tree(options: argparse.Namespace) -> int:
    from vitlr.data.verify import verify

    if options.workers < 1:
        raise DataError(f"--workers must be >= 1, got {options.workers}")
    with Bar("verifying", quiet=options.quiet or options.json) as bar:
        report = verify(options.root, workers=options.workers, progress=bar.callback())
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print("\n".join(report.lines()))
    return 0 if report.ok else 1


def render(options: argparse.Namespace) -> int:
    from vitlr.data.synthetic import contact_sheet, render_dataset

    with Bar("rendering", quiet=options.quiet) as bar:
        count = render_dataset(
            options.root,
            options.frames,
            seed=options.seed,
            processes=options.processes,
            progress=bar.callback(),
        )
    if not options.quiet:
        print(f"{count:,} frames in {options.root}")
    if options.contact_sheet is not None:
        sheet = options.contact_sheet
        try:
            contact_sheet(options.seed).save(sheet)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{sheet} cannot be written ({error}); give a file name such as sheet.png"
            ) from None
        if not options.quiet:
            print(sheet)
    return 0
