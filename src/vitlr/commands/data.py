"""``vitlr data``: lists, download, verification and rendering. Needs no PyTorch."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

from vitlr.commands.console import Bar, Bars, say
from vitlr.errors import DataError

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``data`` and its subcommands."""
    data = commands.add_parser(
        "data", help="list, download, verify or render data", description=__doc__, **common
    )
    actions = data.add_subparsers(dest="action", required=True, metavar="list|download|verify|render")

    one = actions.add_parser(
        "list",
        help="CORe50's published lists, one line per frame; needs no images",
        description="Print I<TAB>path<TAB>label for each frame, with 'test' in place of I for test frames.",
        epilog="example: vitlr data list --scenario nicv2_391 --run 0 --experience 3",
        **common,
    )
    one.add_argument("--scenario", required=True, help="ni, nc, nic, nicv2_79, nicv2_196 or nicv2_391")
    one.add_argument("--run", type=int, default=0, help="published order, 0 to 9 (default 0)")
    one.add_argument("--experience", type=int, help="only this one, counted from 0 (default: all)")
    one.add_argument("--test", help="full or reduced: print the test frames too (after the training frames)")
    one.add_argument("--labels", default="object", help="object, category or appearance (default object)")
    one.set_defaults(run_command=list_frames)

    two = actions.add_parser(
        "verify",
        help="check which frames of CORe50 a folder holds, and whether they are intact",
        description="Compare a folder with the published list and decode every image. The exit code is 1 if a frame is"
        " missing, damaged or of another size.",
        epilog="example: vitlr data verify ~/core50_128x128",
        **common,
    )
    two.add_argument("root", type=Path, help="folder that holds s1 .. s11")
    two.add_argument("--workers", type=int, default=2, help="threads that decode (default 2)")
    two.add_argument("--json", action="store_true", help="print everything as JSON")
    two.add_argument("--quiet", action="store_true", help="no progress")
    two.set_defaults(run_command=verify_tree)

    _add_download(actions, common)
    three = actions.add_parser(
        "render",
        help="render objects in CORe50's layout",
        description="Render 10 categories of 5 three-dimensional objects in 11 sessions, as 128x128 PNG.",
        epilog="example: vitlr data render rendered --frames 20 --contact-sheet sheet.png",
        **common,
    )
    three.add_argument("root", type=Path, help="new or empty folder")
    three.add_argument("--frames", type=int, default=6, help="frames per video, 1 to 300 (default 6)")
    three.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn (default 0)")
    three.add_argument("--processes", type=int, help="processes that render (default: one per core)")
    three.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="FILE",
        help="also draw a picture of all objects in all sessions",
    )
    three.add_argument("--quiet", action="store_true", help="no progress")
    three.add_argument("--json", action="store_true", help="print what was written as JSON")
    three.set_defaults(run_command=render)


def _add_download(actions: argparse._SubParsersAction, common: dict) -> None:
    parser = actions.add_parser(
        "download",
        help="download, check, unpack and verify CORe50's images",
        description="Download CORe50's archive or use one on disk, check its published MD5, unpack it to"
        " DIR/core50_128x128 and verify every frame. The same command continues an interrupted download. The exit"
        " code is 1 if a frame is missing, damaged or of another size.",
        epilog="example: vitlr data download core50 ~/data --url http://example.org/core50_128x128.zip",
        **common,
    )
    parser.add_argument("dataset", choices=("core50",), help="core50")
    parser.add_argument("root", type=Path, metavar="DIR", help="directory for the archive and the images")
    parser.add_argument(
        "--url",
        action="append",
        default=[],
        help="address of the archive; may be repeated for mirrors, which are tried in turn",
    )
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="FILE",
        help="unpack this file (default: core50_128x128.zip in DIR, if it exists)",
    )
    parser.add_argument("--md5", metavar="HEX", help="checksum of the archive (default: the published one)")
    parser.add_argument(
        "--keep-archive", action="store_true", help="do not remove a downloaded archive afterwards"
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=5,
        help="retries in a row if an address cuts the connection (default 5)",
    )
    parser.add_argument("--workers", type=int, default=2, help="threads that verify (default 2)")
    parser.add_argument("--json", action="store_true", help="print the report of the verification as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run_command=download)


def list_frames(options: argparse.Namespace) -> int:
    from vitlr.data.core50 import core50_list_lines

    lines = core50_list_lines(
        options.scenario, options.run, experience=options.experience, test=options.test, labels=options.labels
    )
    for line in lines:
        sys.stdout.write(line + "\n")
    return 0


def download(options: argparse.Namespace) -> int:
    from vitlr.data.download import CORE50_ARCHIVE, CORE50_MD5, download_core50
    from vitlr.storage.locks import locked

    _at_least("--workers", options.workers, 1)
    _at_least("--retries", options.retries, 0)
    bars = Bars(quiet=options.quiet or options.json)
    with locked(options.root), bars:
        try:
            root = download_core50(
                options.root,
                urls=options.url,
                archive=options.archive,
                md5=options.md5 or CORE50_MD5,
                keep_archive=options.keep_archive,
                retries=options.retries,
                progress=bars.megabytes,
                say=bars.say,
            )
        except KeyboardInterrupt:
            part = options.root / f"{CORE50_ARCHIVE}.part"
            if part.exists():
                bars.say(f"{part} is kept; the same command continues from there")
            raise
    return _verify(root, options)


def verify_tree(options: argparse.Namespace) -> int:
    _at_least("--workers", options.workers, 1)
    return _verify(options.root, options)


def _at_least(flag: str, value: int, least: int) -> None:
    if value < least:
        raise DataError(f"{flag} must be >= {least}, got {value}")


def _verify(root: Path, options: argparse.Namespace) -> int:
    from vitlr.data.verify import verify

    with Bar("verifying", quiet=options.quiet or options.json) as bar:
        report = verify(root, workers=options.workers, progress=bar.callback())
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        say("\n".join(report.lines()))
    return 0 if report.ok else 1


def render(options: argparse.Namespace) -> int:
    from PIL import Image

    from vitlr.rendered.dataset import contact_sheet, render_dataset
    from vitlr.storage.files import write_atomically

    sheet = options.contact_sheet
    kind = None if sheet is None else Image.registered_extensions().get(sheet.suffix.lower())
    if sheet is not None and kind not in Image.SAVE:  # checked before minutes of rendering
        raise DataError(
            f"{sheet} is not a picture format that can be written; give a file name such as sheet.png"
        )
    if sheet is not None and sheet.exists():
        raise DataError(f"{sheet} exists; choose another --contact-sheet, or remove it first")
    if sheet is not None and not sheet.absolute().parent.is_dir():
        raise DataError(f"{sheet.parent} does not exist; make it or choose another --contact-sheet")
    with Bar("rendering", quiet=options.quiet or options.json) as bar:
        count = render_dataset(
            options.root,
            options.frames,
            seed=options.seed,
            processes=options.processes,
            progress=bar.callback(),
        )
    if sheet is not None:
        content = io.BytesIO()
        contact_sheet(options.seed).save(content, format=kind)
        write_atomically(sheet, [content.getbuffer()])
    if options.json:
        written = {"root": str(options.root), "frames": count, "contact_sheet": sheet and str(sheet)}
        print(json.dumps(written))
    elif not options.quiet:
        say("\n".join([f"{count:,} frames in {options.root}", *([str(sheet)] if sheet else [])]))
    return 0
