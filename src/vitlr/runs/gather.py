"""Finished, unfinished and failed runs, read from their directories as plain data for a report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vitlr.errors import RunError
from vitlr.runs.config import YAML_FAULTS
from vitlr.runs.tracking import read_metrics

__all__ = ["RunData", "gather", "named_by_difference"]

_DEPTH = 3  # folders below a given one in which runs are looked for
# What tells runs of one method apart, or where they lie, and not what was run.
_APART = (
    "data.run",
    "seed",
    "out",
    "data.root",
    "tensorboard",
    "checkpoint_every",
    "data.workers",
    "backbone.cache",
)


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What one run left.

    Attributes:
        method: name of its group: runs of one method on several orders and seeds share it.
        metrics: its records, one an experience.
        summary, predictions: None until it is finished.
        problem: why it is not whole: a sentence; empty for a finished run.
    """

    path: Path
    method: str
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] | None = None
    predictions: dict[str, Any] | None = None
    problem: str = ""
    flat: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.summary is not None and bool(self.metrics)

    @property
    def order(self) -> str:
        """``run 1, seed 0``."""
        return f"run {self.flat.get('data.run')}, seed {self.flat.get('seed')}"


_REPETITION = re.compile(r"run\d+-seed\d+")


def gather(paths: Sequence[str | Path]) -> tuple[list[RunData], list[str]]:
    """Runs in these directories or below them, in order, and sentences about those that left nothing.

    Raises:
        RunError: a directory holds no run, or a run's files are damaged.
    """
    runs: list[RunData] = []
    failures: list[str] = []
    for given in map(Path, paths):
        found = _below(given)
        if not found:
            raise RunError(f"{given} holds no run; give the directory of a vitlr train or compare")
        variants, failed = _comparison(given)
        failures += failed
        runs += [_read(path, _variant(path, variants)) for path in found]
    seen: dict[Path, RunData] = {run.path.resolve(): run for run in runs}
    return _with_names(list(seen.values())), failures


def _below(path: Path) -> list[Path]:
    if (path / "config.yaml").is_file():
        return [path]
    found: list[Path] = []
    level = [path]
    for _ in range(_DEPTH):
        level = sorted(
            child for parent in level if parent.is_dir() for child in parent.iterdir() if child.is_dir()
        )
        found += [child for child in level if (child / "config.yaml").is_file()]
        level = [child for child in level if child not in found]
    return found


def _comparison(path: Path) -> tuple[dict[str, str], list[str]]:
    """Names of a comparison's variants by their directories, and what failed in it."""
    summary = _json(path / "summary.json") or {}
    names, failed = {}, []
    rows = summary.get("rows")
    for row in rows if isinstance(rows, list) else []:
        name = str(row.get("variant"))
        names[re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "variant"] = name
        failed += [f"{name} failed: {sentence}" for sentence in row.get("failures") or []]
    return names, failed


def _variant(path: Path, names: Mapping[str, str]) -> str:
    """The variant's name of a run that lies where ``vitlr compare`` puts it; empty elsewhere."""
    if not _REPETITION.fullmatch(path.name):
        return ""
    folder = path.resolve().parent.name
    return names.get(folder, folder.replace("-", " "))


def _read(path: Path, method: str) -> RunData:
    try:
        config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, *YAML_FAULTS) as error:
        raise RunError(
            f"{path / 'config.yaml'} cannot be read ({' '.join(str(error).split())[:120]})"
        ) from None
    if not isinstance(config, dict):
        raise RunError(f"{path / 'config.yaml'} is damaged; leave this run out or run it again")
    metrics = read_metrics(path) if (path / "metrics.jsonl").is_file() else []
    summary, problem = _json(path / "summary.json"), ""
    if not metrics:
        problem = "failed before its first record"
    elif summary is None:
        problem = f"not finished: {len(metrics)} experiences recorded; vitlr train --resume {path} goes on"
    return RunData(
        path=path,
        method=method,
        config=config,
        metrics=metrics,
        summary=summary,
        predictions=_json(path / "predictions.json"),
        problem=problem,
        flat=_flat(config),
    )


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({' '.join(str(error).split())[:120]}); run again") from None
    return content if isinstance(content, dict) else None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _with_names(runs: list[RunData]) -> list[RunData]:
    from dataclasses import replace

    names = named_by_difference([run.flat for run in runs])
    return [run if run.method else replace(run, method=name) for run, name in zip(runs, names, strict=True)]


def named_by_difference(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each: its method, and those of its settings in which not all agree."""
    keys = [key for key in settings[0] if key not in _APART and key != "learner.method"] if settings else []
    differing = [key for key in keys if len({repr(flat.get(key)) for flat in settings}) > 1]
    names = []
    for flat in settings:
        method = str(flat.get("learner.method", "run")).replace("_", " ")
        told = ", ".join(f"{key.rpartition('.')[2]} {flat.get(key)}" for key in differing)
        names.append(f"{method} ({told})" if told else method)
    return names
