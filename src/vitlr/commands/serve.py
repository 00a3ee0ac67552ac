"""``vitlr serve``: the live page."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
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
    from vitlr.app.guard import Access
    from vitlr.app.limits import Limits
    from vitlr.classifier import LatentReplayClassifier

__all__ = ["add_parsers"]

_PATIENCE = 2.0  # seconds that a lesson may still take after a signal


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
    _add_network_flags(parser)
    add_new_flags(parser)
    add_compute_flags(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        help="scores below it, -1 to 1, count as unknown (default: the model's; for a new one, its method's own)",
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


def _add_network_flags(parser: argparse.ArgumentParser) -> None:
    """Of a page that others reach."""
    parser.add_argument(
        "--no-token",
        action="store_true",
        help="with --host: let everyone in who reaches the address; otherwise it ends in a token that is asked for",
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a further name that the page may be opened by, such as that of a proxy",
    )
    parser.add_argument(
        "--https",
        action="store_true",
        help="encrypt, with a certificate made here; phones need it for their camera",
    )
    parser.add_argument("--certificate", type=Path, help="PEM file of your own certificate, for HTTPS")
    parser.add_argument("--key", type=Path, help="PEM file of its key, without a password")
    parser.add_argument(
        "--qr",
        action="store_true",
        help="print the address as a QR code too, as a terminal gets it with --host anyway",
    )


def serve(options: argparse.Namespace) -> int:
    missing = [name for name in ("starlette", "uvicorn", "segno", "cryptography") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"the live page needs {missing[0]}; install it with pip install 'vitlr[app]'")
    limits = _limits(options)
    certificate = _certificate(options)
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
        stopped_by, idle = _serve(options, model, limits, certificate)
    if stopped_by == signal.SIGINT and not options.quiet:
        print("vitlr: stopped", file=sys.stderr)
    if stopped_by == signal.SIGTERM or not idle:
        # At once: Python would wait for a thread that still decodes or learns. Files are whole at any moment.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _limits(options: argparse.Namespace) -> Limits:
    from vitlr.app.limits import Limits

    for flag in ("max_classes", "max_frames", "max_upload"):
        if getattr(options, flag) < 1:
            name = flag.replace("_", "-")
            raise ConfigError(f"--{name} must be at least 1, got {getattr(options, flag)}")
    upload = options.max_upload * 10**6
    return Limits(
        classes=options.max_classes,
        frames=options.max_frames,
        upload_bytes=upload,
        import_bytes=4 * upload,
    )


def _certificate(options: argparse.Namespace) -> tuple[Path, Path] | None:
    """Files of the certificate and its key; None for plain HTTP."""
    from vitlr.app.address import check_certificate, own_certificate, reachable
    from vitlr.app.guard import names_of_this_machine

    if (options.certificate is None) != (options.key is None):
        raise ConfigError("--certificate and --key belong together: give both, or --https alone")
    if options.certificate is not None:
        check_certificate(options.certificate, options.key)
        return options.certificate, options.key
    if not options.https:
        return None
    return own_certificate([*names_of_this_machine(), reachable(options.host), *options.allow_host])


def _serve(
    options: argparse.Namespace,
    model: LatentReplayClassifier,
    limits: Limits,
    certificate: tuple[Path, Path] | None,
) -> tuple[int, bool]:
    """The signal that ended it, and whether no thread works any more."""
    from vitlr.app.bodies import Bodies
    from vitlr.app.lanes import Lanes
    from vitlr.app.run import listen, serve_until_stopped
    from vitlr.app.server import make_app
    from vitlr.app.session import LiveSession
    from vitlr.storage.files import temporary_directory

    if options.threshold is not None:
        from vitlr.classifier.classifier import check_threshold

        model.set_params(threshold=check_threshold(options.threshold))
    bound = listen(options.host, options.port)
    access, address, shared = _access(options, bound.getsockname()[1], secure=certificate is not None)
    with temporary_directory("vitlr-live") as folder:
        for name in ("session", "uploads"):
            (folder / name).mkdir(mode=0o700)
        session = LiveSession(
            model,
            folder / "session",
            options.model,
            limits=limits,
            autosave=not options.no_autosave,
            reopen=lambda: opened(options),
        )
        lanes = Lanes(limits)
        app = make_app(session, Bodies(folder / "uploads", limits), lanes, access, url=shared)
        stopped_by = serve_until_stopped(app, bound, lambda: _announce(options, address, shared), certificate)
        idle = lanes.close()
        return stopped_by, session.close(_PATIENCE) and idle


def _access(options: argparse.Namespace, port: int, *, secure: bool) -> tuple[Access, str, str | None]:
    """Who is let in, the address to print, and the one that others can open if there is one."""
    from vitlr.app.address import is_loopback, reachable
    from vitlr.app.guard import LOOPBACK, Access, names_of_this_machine

    alone = is_loopback(options.host)
    token = None if alone or options.no_token else secrets.token_urlsafe(32)
    names = LOOPBACK if alone else names_of_this_machine()
    access = Access(
        names={name.lower() for name in (*names, options.host, *options.allow_host)},
        any_address=not alone,
        token=token,
        cookie=f"vitlr-{port}",
        secure=secure,
    )
    host = reachable(options.host)
    address = f"http{'s' if secure else ''}://{f'[{host}]' if ':' in host else host}:{port}"
    if token is not None:
        address += f"/?token={token}"
    return access, address, None if alone else address


def _announce(options: argparse.Namespace, address: str, shared: str | None) -> None:
    """Print the address, once the page answers."""
    from vitlr.commands.console import notes

    print(address, flush=True)
    if options.qr or (shared is not None and sys.stdout.isatty() and not options.quiet):
        import segno

        segno.make(address, error="l").terminal(sys.stdout, compact=True)
        sys.stdout.flush()
    if options.quiet:
        return
    where = (
        f"saved in {options.model}"
        if options.model
        else "nothing is saved: give a directory to keep what is taught"
    )
    notes([f"{where}; press Ctrl-C to stop"])
    if shared is not None:
        who = "anyone who reaches this address" if options.no_token else "whoever has this address"
        camera = "" if address.startswith("https") else "; phones allow their camera only with --https"
        notes([f"{who} can teach{camera}"])
