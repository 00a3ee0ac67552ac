"""``vitlr serve``: the live page."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vitlr.commands.model import (
    add_compute_flags,
    add_new_flags,
    check_place,
    hold_new,
    is_saved,
    new_or_saved,
    opened,
)
from vitlr.errors import ConfigError
from vitlr.storage.locks import locked

if TYPE_CHECKING:
    from vitlr.app.session import Limits
    from vitlr.classifier import LatentReplayClassifier

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``serve``."""
    parser = commands.add_parser(
        "serve",
        help="a page in the browser: show an object to the camera, name it, and it is recognised",
        description="A page for teaching by showing, on this machine alone unless --host is given. MODEL is a"
        " directory made by vitlr teach, the page or model.save, or a new one; without it nothing is saved."
        " Needs the extra app: pip install 'vitlr[app]'.",
        epilog="example: vitlr serve robot",
        **common,
    )
    parser.add_argument("model", type=Path, nargs="?", help="directory to load from and save to")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=7860, help="port to listen on; 0 takes a free one (default 7860)"
    )
    add_new_flags(parser)
    add_compute_flags(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        help="scores below it, -1 to 1, count as unknown (default: the model's, 0.2 for a new one)",
    )
    parser.add_argument("--no-autosave", action="store_true", help="save only when asked to")
    parser.add_argument(
        "--max-classes", type=int, default=200, help="classes that may be taught (default 200)"
    )
    parser.add_argument("--max-frames", type=int, default=300, help="frames taught at once (default 300)")
    parser.add_argument(
        "--max-upload", type=int, default=64, help="size of an uploaded file in MB (default 64)"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but the address")
    parser.set_defaults(run_command=serve)


def serve(options: argparse.Namespace) -> int:
    missing = [name for name in ("gradio", "fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"the live page needs {missing[0]}; install it with pip install 'vitlr[app]'")
    from vitlr.app.session import Limits

    for flag in ("max_classes", "max_frames", "max_upload"):
        if getattr(options, flag) < 1:
            name = flag.replace("_", "-")
            raise ConfigError(f"--{name} must be at least 1, got {getattr(options, flag)}")
    limits = Limits(
        classes=options.max_classes, frames=options.max_frames, upload_bytes=options.max_upload * 10**6
    )
    with ExitStack() as stack:
        # Held while the page is open: the next save would overwrite what another process taught in the meantime.
        saved = options.model is not None and is_saved(options.model)
        if saved:
            stack.enter_context(locked(options.model, across_threads=True))
        elif options.model is not None:
            check_place(options.model)
        model = new_or_saved(options).prepare()
        if options.model is not None and not saved:
            hold_new(stack, options.model)
        _serve(options, model, limits)
    return 0


def _serve(options: argparse.Namespace, model: LatentReplayClassifier, limits: Limits) -> None:
    from vitlr.app.session import LiveSession
    from vitlr.commands.console import err, notes

    if options.threshold is not None:
        from vitlr.classifier.classifier import check_threshold

        model.set_params(threshold=check_threshold(options.threshold))
    from vitlr.app.server import LOOPBACK, listen, serve_forever

    bound = listen(options.host, options.port)
    session = LiveSession(
        model,
        options.model,
        limits=limits,
        autosave=not options.no_autosave,
        reopen=lambda: opened(options),
    )
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"http://{host}:{bound.getsockname()[1]}", flush=True)
    if not options.quiet:
        where = (
            f"saved in {options.model}"
            if options.model
            else "nothing is saved: give a directory to keep what is taught"
        )
        notes([f"{where}; press Ctrl-C to stop"])
        if options.host not in LOOPBACK:
            err().print(
                "anyone who reaches this address can teach, and browsers allow the camera only on https pages"
            )
    serve_forever(session, bound, host=options.host)
