"""Checkpoints of runs: a learner as it stood after some experiences, and what it takes to go on from there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from vitlr.errors import RunError
from vitlr.storage.files import write_atomically
from vitlr.storage.reading import read_regular
from vitlr.storage.state import load_state, save_state

__all__ = ["CHECKPOINT_VERSION", "has_checkpoint", "load_checkpoint", "save_checkpoint", "truncate_metrics"]

CHECKPOINT_VERSION = 1


class Learner(Protocol):
    """What a checkpoint needs of a learner."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None: ...


def save_checkpoint(
    run_dir: str | Path, learner: Learner, position: int, identity: Mapping[str, Any]
) -> None:
    """Save a run after ``position`` experiences, in ``run_dir/checkpoint``.

    Write the record of an experience to metrics.jsonl first: a resumed run cuts off records that the
    checkpoint does not know of, but cannot bring missing ones back.

    Args:
        identity: JSON data that must be the same to resume: configuration, data set, version.
    """
    tensors, plain = learner.state()
    save_state(
        Path(run_dir) / "checkpoint",
        tensors,
        {"learner": plain, "position": position, "identity": identity},
        kind="checkpoint",
        version=CHECKPOINT_VERSION,
    )


def has_checkpoint(run_dir: str | Path) -> bool:
    """Whether there is anything that ``load_checkpoint`` could load."""
    return os.path.lexists(Path(run_dir) / "checkpoint" / "state.safetensors")


def load_checkpoint(run_dir: str | Path, learner: Learner, identity: Mapping[str, Any]) -> int:
    """Put the learner where the saved one stood; returns how many experiences it had learned.

    Raises:
        RunError: there is no checkpoint, it is damaged, or it is of another version, configuration or data set;
            the differences are named.
    """
    tensors, plain = load_state(Path(run_dir) / "checkpoint", kind="checkpoint", version=CHECKPOINT_VERSION)
    now = json.loads(json.dumps(identity))  # as it would come back: tuples are lists
    saved = plain.get("identity")
    if isinstance(saved, dict) and saved.get("vitlr") != now.get("vitlr"):
        made_by = str(saved.get("vitlr"))[:40]
        raise RunError(
            f"{run_dir} cannot be resumed: its checkpoint is of vitlr {made_by} and this is {now.get('vitlr')};"
            f" finish it with vitlr {made_by}, or start a new run"
        )
    different = list(_differences(saved, now))
    if different:
        more = f" and {len(different) - 5} more" if len(different) > 5 else ""
        raise RunError(
            f"{run_dir} cannot be resumed, because {'; '.join(different[:5])}{more}:"
            " give what it began with, or start a new run"
        )
    try:
        position = plain["position"]
        if type(position) is not int or position < 0:
            raise RunError(f"{run_dir} cannot be resumed: its checkpoint stands at {position!r:.40}")
        learner.load_state(tensors, plain["learner"])
        return position
    except RunError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RunError(
            f"{run_dir} cannot be resumed: parts of its checkpoint do not fit ({reason})"
        ) from error


def _differences(saved: Any, now: Any, at: str = "") -> Iterator[str]:
    if isinstance(saved, dict) and isinstance(now, dict):
        for key in sorted(saved.keys() | now.keys()):
            yield from _differences(saved.get(key), now.get(key), f"{at}.{key}" if at else key)
    elif saved != now or type(saved) is not type(now):
        yield f"{at or 'identity'} was {json.dumps(saved)} and is {json.dumps(now)}"


def truncate_metrics(run_dir: str | Path, position: int) -> None:
    """Keep the first ``position`` records (lines) of ``run_dir/metrics.jsonl``, as the checkpoint has them.

    Raises:
        RunError: the file has fewer whole records, or cannot be read or written.
    """
    path = Path(run_dir) / "metrics.jsonl"
    try:
        content = read_regular(path) if path.exists() else b""
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    whole = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    if len(whole) < position:
        raise RunError(
            f"{path} has {len(whole)} whole records and its checkpoint knows {position}: start a new run"
        )
    kept = b"".join(whole[:position])
    if kept != content:
        write_atomically(path, [kept])
