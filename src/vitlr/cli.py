"""The ``vitlr`` command: finds the command asked for and turns errors into one sentence and exit code 2."""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vitlr import __version__
from vitlr.data.names import expanded
from vitlr.errors import VitLRError
from vitlr.storage.reading import TOO_MANY, TOO_MANY_FILES
from vitlr.text import harmless

__all__ = ["main"]

# Commands whose flags are the settings of a run: module function by name, imported when used.
_CONFIGURED = {
    "train": "learn a stream of experiences and write a run directory",
    "inspect": "the network as it will be trained: parameters, latents, bytes, GFLOP",
    "bench": "seconds to learn one experience on this machine, part by part",
}


class _Parser(argparse.ArgumentParser):
    """argparse with one sentence in place of the usage dump."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise VitLRError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """All commands. Those in ``_CONFIGURED`` parse the rest of their line themselves."""
    from vitlr.commands import (
        cache,
        change,
        compare,
        data,
        demo,
        model,
        predict,
        pretrain,
        report,
        rollout,
        serve,
        teach,
    )

    parser = _Parser(
        prog="vitlr",
        description="Latent replay for vision transformers: learn a stream of small experiences without forgetting.",
        epilog="example: vitlr demo",
    )
    parser.add_argument("--version", action="version", version=f"vitlr {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    common = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    for name, summary in _CONFIGURED.items():
        commands.add_parser(name, help=summary, add_help=False)
    for module in (
        demo,
        compare,
        data,
        pretrain,
        teach,
        predict,
        model,
        change,
        rollout,
        report,
        serve,
        cache,
    ):
        module.add_parsers(commands, common)
    return parser


def commands_of(parser: argparse.ArgumentParser) -> list[str]:
    """Names of all commands."""
    return [
        name
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name in action.choices
    ]


def _flags_of(parser: argparse.ArgumentParser, name: str) -> list[str]:
    """Flags of a command, and of the commands below it."""
    flags: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each, below in action.choices.items():
                if name in ("", each):
                    flags += [*below._option_string_actions, *_flags_of(below, "")]
    return flags


def _command(arguments: list[str]) -> Callable[[], int]:
    if arguments and arguments[0] in _CONFIGURED:
        from vitlr.commands import train as configured

        return lambda: getattr(configured, arguments[0])(arguments[1:])
    parser = make_parser()
    if not arguments:
        parser.print_help()
        return lambda: 0
    known = commands_of(parser)
    if not arguments[0].startswith("-") and arguments[0] not in known:
        near = difflib.get_close_matches(arguments[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise VitLRError(f"unknown command {arguments[0]!r}; {hint}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = _flags_of(parser, arguments[0])
        near = difflib.get_close_matches(unknown[0].partition("=")[0], flags, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; see vitlr {arguments[0]} --help"
        raise VitLRError(f"unrecognized arguments: {' '.join(unknown)[:200]}{hint}")
    for name, value in vars(options).items():
        setattr(options, name, _at_home(value))
    return lambda: options.run_command(options)


def _at_home(value: Any) -> Any:
    """Paths with the home directory in place of ``~``, which shells leave in ``--out=~/x``."""
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return expanded(value) if isinstance(value, Path) else value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 (verify found faults), 2 (bad input) or 130 (interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # so that no letter of a name is too much for a terminal
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _command(list(sys.argv[1:] if arguments is None else arguments))()
        sys.stdout.flush()
        return code
    except VitLRError as error:
        print(f"vitlr: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vitlr: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has gone (| head): not our error, and Python must not complain on exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in TOO_MANY:
            print(f"vitlr: error: {TOO_MANY_FILES}", file=sys.stderr)
            return 2
        if error.filename is None:
            if error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
                raise
            # Python would try again on exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print(f"vitlr: error: the output cannot be written: {error.strerror}", file=sys.stderr)
            return 2
        # A path that someone gave, or below one: too long a name, no permission, a disk that is gone.
        print(
            f"vitlr: error: {harmless(str(error.filename))[:200]}: {error.strerror}; use another path",
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
