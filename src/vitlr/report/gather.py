"""Finished, unfinished and failed runs, read from their directories as plain data for a report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.configuration import METHOD, aliases_of, deciding, flat, names_of, read_yaml, settings_of
from vitlr.errors import RunError
from vitlr.evaluation.metrics import confusion_matrix
from vitlr.evaluation.records import read_metrics, run_measures
from vitlr.storage.names import slug
from vitlr.storage.reading import read_regular

__all__ = ["RunData", "gather", "named_by_difference"]

_DEPTH = 3  # folders below a given one in which runs are looked for


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What one run left.

    Attributes:
        method: name of its group: runs of one method on several orders and seeds share it.
        metrics: its records, one an experience.
        summary, predictions: None until it is finished.
        problem: why it is not whole: a sentence; empty for a finished run.
        failed: whether that is final; a run that was only stopped can be resumed.
    """

    path: Path
    method: str
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] | None = None
    predictions: dict[str, Any] | None = None
    problem: str = ""
    failed: bool = False
    flat: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.summary is not None and bool(self.metrics)

    @property
    def repetition(self) -> str:
        """``order 1, seed 0``."""
        return f"order {self.flat.get('data.order')}, seed {self.flat.get('seed')}"


_FAILURE = re.compile(r"(?:order|run) (\d+, seed \d+): (.*)", re.DOTALL)
_ORDER = re.compile(r"order (\d+), seed (\d+)")
_REPETITION = re.compile(r"run\d+-seed\d+")


def gather(paths: Sequence[str | Path], settings: type) -> tuple[list[RunData], list[str]]:
    """Runs in these directories or below them, in order, and sentences about those that left nothing.

    Args:
        settings: the class of their settings, which declares those that make runs differ.

    Raises:
        VitLRError: a directory holds no run, or a run's files are damaged.
    """
    runs: list[RunData] = []
    failures: list[str] = []
    for given in map(Path, paths):
        if given.is_file():
            raise RunError(f"{given} is a file; give the directory of a vitlr train or compare")
        found: dict[Path, list[Path]] = {given: []}
        comparisons = {given: _comparison(given)}
        for path in _below(given):
            place = path.parent.parent if _REPETITION.fullmatch(path.name) else given
            if place not in comparisons:
                comparisons[place] = _comparison(place)
            found.setdefault(place if comparisons[place].variants else given, []).append(path)
        if not any(found.values()) and not comparisons[given].failures:
            raise RunError(f"{given} holds no run; give the directory of a vitlr train or compare")
        for place, paths_there in found.items():
            comparison = comparisons[place]
            read = [_read(path, comparison, settings) for path in paths_there]
            failures += [
                f"{name}: failed: {why}" for (name, order), why in comparison.failures.items() if not order
            ]
            read += _without_directory(place, comparison, {(run.method, run.repetition) for run in read})
            # In the order of the recipe, so that a method has its colour on the page and in the comparison's figure.
            order = {name: number for number, name in enumerate(comparison.variants.values())}
            runs += sorted(read, key=lambda run: order.get(run.method, len(order)))
    seen: dict[tuple[Path, str, str], RunData] = {
        (run.path.resolve(), *(() if run.config else (run.method, run.repetition))): run for run in runs
    }
    return _each_once(_with_names(list(seen.values()), settings), failures), failures


def _without_directory(place: Path, comparison: _Comparison, there: set[tuple[str, str]]) -> list[RunData]:
    """Runs of which only a comparison's summary knows: they failed before they had a directory."""
    found = []
    for (variant, order), why in comparison.failures.items():
        numbers = _ORDER.fullmatch(order)
        if numbers and (variant, order) not in there:
            place_in = {"data.order": int(numbers[1]), "seed": int(numbers[2])}
            found.append(
                RunData(
                    path=place, method=variant, config={}, metrics=[], flat=place_in, failed=True,
                    problem=f"failed: {why}",
                )
            )  # fmt: skip
    return found


def _each_once(runs: Sequence[RunData], failures: list[str]) -> list[RunData]:
    """Finished runs without those that repeat another's order and seed: the same result twice is no spread."""
    first: dict[tuple[str, str], RunData] = {}
    kept = []
    for run in runs:
        other = first.setdefault((run.method, run.repetition), run) if run.finished else run
        if other is run:
            kept.append(run)
        else:
            failures.append(
                f"{run.method}, {run.repetition}: {run.path} repeats {other.path} and is left out; give one of them"
            )
    return kept


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """A comparison's summary: names of variants by directory, and why runs failed by variant and repetition."""

    variants: dict[str, str]
    failures: dict[tuple[str, str], str]


def _below(path: Path) -> list[Path]:
    if (path / "config.yaml").is_file():
        return [path]
    found: list[Path] = []
    level = [path]
    try:
        for _ in range(_DEPTH):
            level = sorted(
                child for parent in level if parent.is_dir() for child in parent.iterdir() if child.is_dir()
            )
            found += [child for child in level if (child / "config.yaml").is_file()]
            level = [child for child in level if child not in found]
    except OSError as error:
        raise RunError(f"{error.filename} cannot be read ({error.strerror}); check permissions") from None
    return found


def _comparison(path: Path) -> _Comparison:
    rows = (_json(path / "summary.json") or {}).get("rows")
    variants, failures = {}, {}
    for row in rows if isinstance(rows, list) else []:
        sentences = row.get("failures") if isinstance(row, dict) else None
        if not isinstance(sentences, list):
            raise RunError(f"{path / 'summary.json'} is damaged; compare again")
        name = str(row.get("variant"))
        variants[slug(name)] = name
        for sentence in map(str, sentences):
            found = _FAILURE.fullmatch(sentence)
            failures[name, f"order {found[1]}" if found else ""] = found[2] if found else sentence
    return _Comparison(variants=variants, failures=failures)


def _variant(path: Path, names: Mapping[str, str]) -> str:
    """The variant's name of a run in a directory of ``vitlr compare``; empty for another run."""
    if not _REPETITION.fullmatch(path.name):
        return ""
    folder = path.resolve().parent.name
    return names.get(folder, folder.replace("-", " "))


def _read(path: Path, comparison: _Comparison, settings: type) -> RunData:
    config, aliases = read_yaml(path / "config.yaml"), aliases_of(settings)
    groups = {name.partition(".")[0] for name in settings_of(settings) if "." in name}
    if not isinstance(config, dict) or not all(isinstance(config.get(group, {}), dict) for group in groups):
        raise RunError(f"{path / 'config.yaml'} is damaged; leave this run out or run it again")
    metrics = read_metrics(path) if (path / "metrics.jsonl").is_file() else []
    summary, predictions = _json(path / "summary.json"), _json(path / "predictions.json")
    _check(path / "metrics.jsonl", metrics, _read_records)
    _check(path / "summary.json", summary, lambda found: list(found.get("notes", [])))
    _check(path / "predictions.json", predictions, _read_predictions)
    run = RunData(
        path=path,
        method=_variant(path, comparison.variants),
        config=config,
        metrics=metrics,
        summary=summary,
        predictions=predictions,
        flat={aliases.get(name, name): value for name, value in flat(config).items()},
    )
    if run.finished:
        return run
    why = (_json(path / "failure.json") or {}).get("failure") or comparison.failures.get(
        (run.method, run.repetition)
    )
    if why is None and not metrics and summary is not None:
        why = "there is no record of it"
    if why is not None:
        return replace(run, problem=f"failed: {why}", failed=True)
    return replace(
        run,
        problem=f"not finished: {len(metrics)} experiences recorded; vitlr train --resume {path} continues it",
    )


def _check(path: Path, content: Any, read: Callable[[Any], object]) -> None:
    """RunError if a file lacks what a report reads of it."""
    try:
        if content:
            read(content)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError):
        raise RunError(f"{path} is damaged; leave this run out or run it again") from None


def _read_records(metrics: Sequence[Mapping[str, Any]]) -> object:
    counts = [[line["num_images"], line["memory"]["count"]] for line in metrics]
    return (
        run_measures(metrics),
        np.sum(counts),
        [sum(line["memory"]["per_class"].values()) for line in metrics],
    )


def _read_predictions(found: Mapping[str, Any]) -> object:
    labels, answers = (np.array(found[key], dtype=np.int64) for key in ("labels", "predictions"))
    return confusion_matrix(labels, answers, len(found["class_names"]))


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(read_regular(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read ({' '.join(str(error).split())[:120]}); run again") from None
    return content if isinstance(content, dict) else None


def _with_names(runs: list[RunData], settings: type) -> list[RunData]:
    """Each run under a method's name, which runs of other settings never share, whoever gave it."""
    named: dict[str, list[RunData]] = {}
    for run in runs:
        named.setdefault(run.method, []).append(run)
    names: dict[int, str] = {}
    for method, group in named.items():
        begun = [run for run in group if run.config]
        given = named_by_difference(_with_images(begun, settings), settings, method)
        names |= {id(run): name for run, name in zip(begun, given, strict=True)}
    return [replace(run, method=names.get(id(run), run.method)) for run in runs]


def _with_images(group: Sequence[RunData], settings: type) -> list[dict[str, Any]]:
    """Settings of the runs and, if they learned from other images, what distinguishes these: their folders, or
    their numbers. The same images may be in different folders on two machines."""
    classes = {tuple(run.metrics[0]["class_accuracy"]) for run in group if run.metrics}
    alike: dict[str, set[str]] = {}
    for run in group:
        if "data" in (run.summary or {}):
            data = json.dumps((run.summary or {})["data"])
            alike.setdefault(repr(deciding(settings, run.flat)), set()).add(data)
    numbers = {_images(run) for run in group if run.finished}
    if max(len(classes), len(numbers), *map(len, alike.values())) < 2:
        return [run.flat for run in group]
    roots = sorted(names_of(settings, "place"))
    names = [" and ".join(str(run.flat[r]) for r in roots if run.flat.get(r) is not None) for run in group]
    if len(set(names)) < 2:
        names = [" + ".join(map(str, _images(run))) for run in group]
    return [{**run.flat, "images": name} for run, name in zip(group, names, strict=True)]


def _images(run: RunData) -> tuple[int, int]:
    """How many a run learned from and was judged on: the same for every order."""
    tests = (run.summary or {}).get("test_images")
    return sum(line["num_images"] for line in run.metrics), tests if isinstance(tests, int) else 0


def named_by_difference(runs: Sequence[Mapping[str, Any]], settings: type, name: str = "") -> list[str]:
    """A name for each of the flat settings: ``name`` or its method, and the settings in which not all agree.

    Settings that decide no result, and those that distinguish repetitions, are not in it.
    """
    apart = names_of(settings, "repetition") | (set() if name else {METHOD})
    telling = [{k: v for k, v in deciding(settings, run).items() if k not in apart} for run in runs]
    keys = dict.fromkeys(key for each in telling for key in each)
    # A setting that came after a run was made does not distinguish it from later ones.
    differing = [key for key in keys if len({repr(each[key]) for each in telling if key in each}) > 1]
    names = []
    for run, each in zip(runs, telling, strict=True):
        method = name or str(run.get(METHOD, "run")).replace("_", " ")
        values = ", ".join(f"{key.rpartition('.')[2]} {each[key]}" for key in differing if key in each)
        names.append(f"{method} ({values})" if values else method)
    return names
