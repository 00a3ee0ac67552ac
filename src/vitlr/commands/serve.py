"""``vitlr serve``: the live page."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from vitlr.errors import ConfigError

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``serve``."""
    parser = commands.add_parser(
        "serve",
        help="a page in the browser: show an object to the camera, name it, and it is known",
        description="A page for teaching by showing, on this machine alone unless --host says otherwise. MODEL is a"
        " directory that vitlr teach, the page or model.save made, or a new one; without it nothing is saved."
        " Needs the extra app: pip install 'vitlr[app]'.",
        epilog="example: vitlr serve robot",
        **common,
    )
    parser.add_argument("model", type=Path, nargs="?", help="directory to load from and save to")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=7860, help="0 takes a free one (default 7860)")
    parser.add_argument("--backbone", default="bundled", help="network of a new model (default bundled)")
    parser.add_argument("--image-size", type=int, help="of a new model; the network's own by default")
    parser.add_argument("--cut", type=int, help="of a new model: blocks that stay frozen")
    parser.add_argument("--memory", default="1500", help="of a new model: latents, or bytes such as 20MB")
    parser.add_argument(
        "--threshold", type=float, help="scores below it, -1 to 1, are unknown (a new model has 0.2)"
    )
    parser.add_argument("--no-autosave", action="store_true", help="save only when asked to")
    parser.add_argument(
        "--max-classes", type=int, default=200, help="classes that may be known (default 200)"
    )
    parser.add_argument("--max-frames", type=int, default=300, help="frames taught at once (default 300)")
    parser.add_argument("--max-upload", type=int, default=64, help="MB of an uploaded file (default 64)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but the address")
    parser.set_defaults(run_command=serve)


def serve(options: argparse.Namespace) -> int:
    missing = [name for name in ("gradio", "fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"the live page needs {missing[0]}; install it with pip install 'vitlr[app]'")
    from vitlr import LatentReplayClassifier
    from vitlr.app.session import Limits, LiveSession
    from vitlr.commands.console import err

    limits = Limits(
        classes=options.max_classes, frames=options.max_frames, upload_bytes=options.max_upload * 10**6
    )
    if options.model is not None and (options.model / "state.safetensors").is_file():
        model = LatentReplayClassifier.load(options.model)
    else:
        memory = int(options.memory) if options.memory.isdigit() else options.memory
        model = LatentReplayClassifier(
            options.backbone, image_size=options.image_size, cut=options.cut, memory=memory
        )
        model.prepare()
    if options.threshold is not None:
        model.set_params(threshold=options.threshold)
    from vitlr.app.server import LOOPBACK, listen, serve_forever

    bound = listen(options.host, options.port)
    session = LiveSession(model, options.model, limits=limits, autosave=not options.no_autosave)
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"http://{host}:{bound.getsockname()[1]}", flush=True)
    if not options.quiet:
        where = (
            f"saved in {options.model}"
            if options.model
            else "not saved: give a directory to keep what is taught"
        )
        err().print(f"{where}; Ctrl-C ends", highlight=False)
        if options.host not in LOOPBACK:
            err().print(
                "anyone who reaches this address can teach, and browsers give the camera to https pages only"
            )
    serve_forever(session, bound, host=options.host)
    return 0
