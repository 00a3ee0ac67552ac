"""Many runs, one summary: variants of a configuration over orders and seeds.

Runs over the same images and trunk share one encoding. A comparison that is started again
continues: finished runs are read, not repeated. A run that failed is reported as failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from vitlr.configuration import deciding, differences, flat, names_of
from vitlr.data import load_stream
from vitlr.data.core50 import NUM_RUNS
from vitlr.data.experience import Stream
from vitlr.data.identity import stream_identity
from vitlr.data.settings import DataConfig
from vitlr.errors import RunError, VitLRError
from vitlr.evaluation.records import read_metrics
from vitlr.evaluation.run import Record
from vitlr.runs.materials import Shared
from vitlr.runs.plan import Plan, place_of
from vitlr.runs.settings import RunConfig, to_dict
from vitlr.runs.summary import Outcome, write_summary
from vitlr.runs.tracking import forget_peak_memory
from vitlr.runs.train import loss_warnings, read_config, train
from vitlr.storage.locks import locked
from vitlr.storage.reading import read_regular

__all__ = ["compare"]


def compare(
    plan: Plan,
    out: str | Path,
    *,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    on_stream: Callable[[Stream], None] = lambda stream: None,
    on_record: Callable[[str, int, int, Record], None] = lambda name, done, total, record: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> list[Outcome]:
    """Run the plan and write summary.json, table.md, accuracy.png and accuracy.svg into ``out``.

    What an earlier comparison left there, of other variants, orders or seeds, stays in them.

    Args:
        on_stream: called with the data of each run that is not finished, before anything of it is encoded.
        on_note: called at the end, with sentences about the cache, about single images and about losses too large.

    Raises:
        ConfigError: a setting of any variant is wrong; nothing has been run then.
        VitLRError: no variant's data and network can be used; nothing has been run then.
        RunError: ``out`` holds something else than a comparison, a run directory below it belongs to another
            configuration, another process compares there, or it cannot be written.
    """
    out = Path(out)
    _check_place(out)
    configs = [(variant, config) for variant in plan.variants for config in plan.configs(variant, out)]
    shared, outcomes = Shared(on_progress, on_stream), []
    todo = [config for _, config in configs if not (config.run_dir / "summary.json").is_file()]
    if todo:
        if out.is_dir():
            with locked(out):  # refused now, and not after minutes of encoding
                pass
        _prepare_one(todo, shared)
    warnings: list[str] = []
    with locked(out):
        for number, (variant, config) in enumerate(configs):
            name = f"{variant}, {config.repetition} ({number + 1} of {len(configs)})"
            outcomes.append(_one(variant, config, shared, name, on_record))
            warnings += [f"{name}: {each}" for each in loss_warnings(config, outcomes[-1].metrics)]
        for note in (*shared.notes(), *warnings):
            on_note(note)
        write_summary(*_with_earlier(plan, outcomes, out), out)
    return outcomes


def _prepare_one(todo: Sequence[RunConfig], shared: Shared) -> None:
    """Raises the first variant's error, before anything is written, if no variant has network and data."""
    distinct: dict[str, RunConfig] = {}
    for config in todo:
        distinct.setdefault(repr((config.backbone, config.learner.method)), config)
    faults: list[VitLRError] = []
    for config in distinct.values():
        try:
            shared.materials(config)
            return
        except VitLRError as error:
            faults.append(error)
    raise faults[0]


def _check_place(out: Path) -> None:
    """Raises RunError if ``out`` holds something else than a comparison."""
    if not out.is_dir():
        return
    names = {path.name for path in out.iterdir()}
    if "config.yaml" in names or (names and not names & {".lock", "summary.json"}):
        raise RunError(f"{out} holds something else than a comparison; choose another --out")


def _with_earlier(plan: Plan, outcomes: Sequence[Outcome], out: Path) -> tuple[Plan, list[Outcome]]:
    """Plan and outcomes with those that an earlier comparison left in ``out``, in its order."""
    try:
        earlier = json.loads(read_regular(out / "summary.json"))
        variants = {row["variant"]: list(row["failures"]) for row in earlier["rows"]}
        before = earlier["orders"] if "orders" in earlier else earlier["runs"]
        orders = {int(order) for order in before if 0 <= int(order) < NUM_RUNS}
        seeds = {int(seed) for seed in earlier["seeds"]}
    except (OSError, ValueError, KeyError, TypeError):
        return plan, list(outcomes)  # there was none
    whole = replace(
        plan,
        variants={name: plan.variants.get(name, {}) for name in (*variants, *plan.variants)},
        orders=tuple(sorted(orders.union(plan.orders))),
        seeds=tuple(sorted(seeds.union(plan.seeds))),
    )
    now = {(each.variant, each.config.data.order, each.config.seed): each for each in outcomes}
    every = []
    for variant, order, seed in product(whole.variants, whole.orders, whole.seeds):
        failures = variants.get(variant, [])
        found = now.get((variant, order, seed)) or _left(out, variant, order, seed, failures)
        every += [found] if found else []
    return whole, every


def _left(out: Path, variant: str, order: int, seed: int, failures: Sequence[str]) -> Outcome | None:
    """What an earlier comparison left of a run: its records, or one of the sentences that say why it failed."""
    folder = place_of(out, variant, order, seed)
    config = RunConfig(data=DataConfig(order=order), seed=seed, out=str(folder))
    if (folder / "summary.json").is_file():
        try:
            return Outcome(variant=variant, config=config, metrics=read_metrics(folder))
        except RunError as error:  # the runs of today need their summary all the same
            return Outcome(variant=variant, config=config, metrics=[], failure=str(error))
    for failure in failures:
        if why := re.fullmatch(rf"(?:order|run) {order}, seed {seed}: (.*)", failure, re.DOTALL):
            return Outcome(variant=variant, config=config, metrics=[], failure=why[1])
    return None


def _one(
    variant: str,
    config: RunConfig,
    shared: Shared,
    name: str,
    on_record: Callable[[str, int, int, Record], None],
) -> Outcome:
    if (config.run_dir / "summary.json").is_file():
        _check_same(config)
        return Outcome(variant=variant, config=config, metrics=read_metrics(config.run_dir))
    forget_peak_memory()
    try:
        materials = shared.materials(config)
        done = [0]

        def recorded(record: Record) -> None:
            done[0] += 1
            on_record(name, done[0], len(materials.stream), record)

        resumable = (config.run_dir / "checkpoint").is_dir()
        train(
            config,
            materials,
            on_start=lambda _, start: done.__setitem__(0, start),
            on_record=recorded,
            resume=resumable,
            overwrite=not resumable and config.run_dir.exists(),
        )
    except VitLRError as error:
        return Outcome(variant=variant, config=config, metrics=[], failure=str(error))
    except (MemoryError, OSError, RuntimeError) as error:
        # Too little memory or a full disk is this run's failure (PyTorch raises RuntimeError): the others continue.
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Outcome(variant=variant, config=config, metrics=[], failure=why)
    return Outcome(variant=variant, config=config, metrics=read_metrics(config.run_dir))


def _check_same(config: RunConfig) -> None:
    """RunError if a finished run was made with settings or images other than these."""
    try:
        # Settings that came after the run was made were at their defaults.
        before, now = (flat(to_dict(each)) for each in (read_config(config.run_dir), config))
        changed = differences(deciding(RunConfig, before), deciding(RunConfig, now))
        images = json.loads(read_regular(config.run_dir / "summary.json")).get("data")
    except (OSError, ValueError, AttributeError):
        raise RunError(f"{config.run_dir} is damaged; remove it and compare again") from None
    moved = [
        name
        for name in sorted(names_of(RunConfig, "place"))
        if _resolved(before[name]) != _resolved(now[name])
    ]
    if moved and not changed and images != stream_identity(load_stream(config.data)):
        changed = differences(*({name: each[name] for name in moved} for each in (before, now)))
    if changed:
        raise RunError(
            f"{config.run_dir} was made with other settings or images ({'; '.join(changed[:3])});"
            " choose another --out or remove it"
        )


def _resolved(path: str | None) -> Path | None:
    return None if path is None else Path(path).expanduser().resolve()
