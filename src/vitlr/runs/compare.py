"""Many runs, one summary: variants of a configuration over published orders and seeds.

Runs over the same images and trunk share one encoding. A comparison that is started again goes on where it
was: finished runs are read, not repeated. A run that failed is shown as failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from vitlr.configuration import checked, deciding, differences, flat, names_of, read_yaml
from vitlr.data import load_stream
from vitlr.data.core50 import NUM_RUNS
from vitlr.data.experience import Experience
from vitlr.data.identity import stream_identity
from vitlr.data.settings import DataConfig
from vitlr.errors import ConfigError, RunError, VitLRError
from vitlr.evaluation.metrics import mean_and_sd
from vitlr.evaluation.records import read_metrics, run_measures
from vitlr.evaluation.run import Record
from vitlr.latents.cache import LatentCache
from vitlr.latents.network import keep
from vitlr.learning.methods import keeps_images
from vitlr.report.figures import figure_bytes, spread_curves
from vitlr.runs.build import Encoder, LatentStore, Network, encoded_test, open_network
from vitlr.runs.settings import RunConfig, from_settings, to_dict
from vitlr.runs.tracking import forget_peak_memory, machine, write_json
from vitlr.runs.train import Materials, judged_on, read_config, train
from vitlr.storage.files import locked, write_atomically
from vitlr.storage.names import slug

_NAME_BYTES = 200  # of a directory's name: file systems take 255
_OUTPUTS = ("summary.json", "table.md", "accuracy.png", "accuracy.svg")

__all__ = ["HEADINGS", "Outcome", "Plan", "compare", "read_plan", "table_cells", "table_lines"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared.

    ``base`` and each of ``variants`` are nested settings as in a run's YAML; a variant wins over the base.
    Each variant runs on every one of the ``orders`` with every one of the ``seeds``.
    """

    title: str
    base: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    orders: tuple[int, ...]
    seeds: tuple[int, ...]

    def configs(self, variant: str, out: Path) -> Iterator[RunConfig]:
        """The configurations of a variant's runs, each with its directory below ``out``."""
        settings = _merged(self.base, self.variants[variant])
        for order, seed in product(self.orders, self.seeds):
            where = {"data": {"order": order}, "seed": seed, "out": str(_run_dir(out, variant, order, seed))}
            yield from_settings(_merged(settings, where))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run of a comparison: its records, or the sentence that says why there are none."""

    variant: str
    config: RunConfig
    metrics: list[dict[str, Any]]
    failure: str | None = None

    @property
    def repetition(self) -> str:
        """``order 1, seed 0``."""
        return f"order {self.config.data.order}, seed {self.config.seed}"


def _run_dir(out: Path, variant: str, order: int, seed: int) -> Path:
    return out / slug(variant) / f"run{order}-seed{seed}"  # so that comparisons of 0.1 are continued


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def read_plan(path: str | Path) -> Plan:
    """A plan from a recipe: YAML with title, base, variants, orders (or runs) and seeds.

    Raises:
        ConfigError: the recipe cannot be read or has something else; names it.
    """
    content, where = read_yaml(path), f"recipe {path}"
    if not isinstance(content, dict) or not isinstance(content.get("variants"), dict):
        raise ConfigError(f"{where} must hold 'variants', names with settings, and may hold 'base'")
    if "runs" in content:  # as they were called
        content.setdefault("orders", content.pop("runs"))
    others = set(content) - {"title", "base", "variants", "orders", "seeds"}
    if others:
        raise ConfigError(f"{where} has unknown keys {', '.join(sorted(map(str, others)))}")
    numbers = {}
    for key in ("orders", "seeds"):
        values = content.get(key, [0])
        if not isinstance(values, list) or not values or not all(type(v) is int for v in values):
            raise ConfigError(f"{where}: {key} must be a list of whole numbers, got {values!r:.60}")
        numbers[key] = tuple(dict.fromkeys(values))
    variants = {str(name): settings for name, settings in content["variants"].items()}
    _check_names(path, list(variants))
    return Plan(
        title=str(content.get("title", Path(path).stem)),
        base=_settings(where, "base", content.get("base")),
        variants={name: _settings(where, name, settings) for name, settings in variants.items()},
        **numbers,
    )


def _settings(where: str, name: str, settings: Any) -> dict[str, Any]:
    """The nested settings of the base or of a variant; they, or a group of them, may be left empty."""
    where = f"{where}, {name!r:.60}"
    if settings is not None and not isinstance(settings, dict):
        raise ConfigError(f"{where} must hold settings, got {settings!r:.60}")
    groups = {key for key, value in to_dict(RunConfig()).items() if isinstance(value, dict)}
    filled = {k: {} if v is None and k in groups else v for k, v in (settings or {}).items()}
    return checked(RunConfig, filled, where)


def _check_names(path: str | Path, variants: Sequence[str]) -> None:
    """ConfigError where variants cannot have a directory each, also where file systems take a for A."""
    if not variants:
        raise ConfigError(f"recipe {path} has no variants; name at least one under 'variants'")
    places: dict[str, str] = {}
    for name in variants:
        folder = slug(name)
        if len(folder.encode()) > _NAME_BYTES:
            raise ConfigError(f"recipe {path}: the variant {name[:60]!r}… has too long a name; shorten it")
        if folder.casefold() in _OUTPUTS:
            raise ConfigError(f"recipe {path}: a variant cannot be called {name!r}; give it another name")
        other = places.setdefault(folder.casefold(), name)
        if other != name:
            raise ConfigError(
                f"recipe {path}: the variants {other!r} and {name!r} would share the directory {folder};"
                " let their names differ in letters or digits"
            )


class _Shared:
    """Latents and networks kept from one run to the next, as long as data and trunk stay the same."""

    def __init__(self, on_progress: Callable[[str, int, int], None]) -> None:
        self._on_progress = on_progress
        self._network: tuple[Any, Network] | None = None
        self._store: tuple[Any, LatentStore] | None = None
        self._caches: list[LatentCache] = []

    def notes(self) -> list[str]:
        """What went wrong with the caches of latents, each once."""
        return list(dict.fromkeys(note for cache in self._caches for note in cache.notes))

    def materials(self, config: RunConfig) -> Materials:
        """As ``prepare`` gives them, from what is there already where it fits."""
        wanted = (config.backbone, keeps_images(config.learner.method))
        if self._network is None or self._network[0] != wanted:
            self._network = (wanted, open_network(config, cached=True))
            self._store = None
            if self._network[1].cache is not None:
                self._caches.append(self._network[1].cache)
        network = self._network[1]
        stream = load_stream(config.data, lambda done, total: self._on_progress("rendering", done, total))
        key = (
            stream.root,
            frozenset(path for part in (*stream.experiences, stream.test) for path in part.paths),
        )
        if self._store is None or self._store[0] != key:
            encoder = Encoder(network, stream, config)
            try:
                store = LatentStore(
                    encoder, stream, lambda done, total: self._on_progress("encoding", done, total)
                )
            finally:
                keep(network)
            self._store = (key, store)
        encode: Callable[[Experience], Any] = self._store[1]
        return judged_on(*encoded_test(encode, stream), stream, network, encode)


def compare(
    plan: Plan,
    out: str | Path,
    *,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    on_record: Callable[[str, int, int, Record], None] = lambda name, done, total, record: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> list[Outcome]:
    """Run the plan and write summary.json, table.md, accuracy.png and accuracy.svg into ``out``.

    What an earlier comparison left there, of other variants, orders or seeds, stays in them.

    Raises:
        ConfigError: a setting of any variant is wrong; nothing has been run then.
        VitLRError: no variant's data and network can be used; nothing has been run then.
        RunError: ``out`` holds something else than a comparison, a run directory below it belongs to another
            configuration, another process compares there, or it cannot be written.
    """
    out = Path(out)
    _check_place(out)
    configs = [(variant, config) for variant in plan.variants for config in plan.configs(variant, out)]
    shared, outcomes = _Shared(on_progress), []
    todo = [config for _, config in configs if not (config.run_dir / "summary.json").is_file()]
    if todo:
        if out.is_dir():
            with locked(out):  # who is refused is told now, and not after minutes of encoding
                pass
        _prepare_one(todo, shared)
    with locked(out):
        for number, (variant, config) in enumerate(configs):
            repetition = f"order {config.data.order}, seed {config.seed}"
            name = f"{variant}, {repetition} ({number + 1} of {len(configs)})"
            outcomes.append(_one(variant, config, shared, name, on_record))
        for note in shared.notes():
            on_note(note)
        _write(*_with_earlier(plan, outcomes, out), out)
    return outcomes


def _prepare_one(todo: Sequence[RunConfig], shared: _Shared) -> None:
    """Of several variants those that can be run are; where not one has network and data, the first one's fault is
    raised before anything is written."""
    kinds: dict[str, RunConfig] = {}
    for config in todo:
        kinds.setdefault(repr((config.backbone, config.learner.method)), config)
    faults: list[VitLRError] = []
    for config in kinds.values():
        try:
            shared.materials(config)
            return
        except VitLRError as error:
            faults.append(error)
    raise faults[0]


def _check_place(out: Path) -> None:
    """RunError where ``out`` is full of other things, in which runs would be lost."""
    if not out.is_dir():
        return
    names = {path.name for path in out.iterdir()}
    if "config.yaml" in names or (names and not names & {".lock", "summary.json"}):
        raise RunError(f"{out} holds something else than a comparison; choose another --out")


def _with_earlier(plan: Plan, outcomes: Sequence[Outcome], out: Path) -> tuple[Plan, list[Outcome]]:
    """Plan and outcomes with those that an earlier comparison left in ``out``, in its order."""
    try:
        earlier = json.loads((out / "summary.json").read_bytes())
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
    folder = _run_dir(out, variant, order, seed)
    config = RunConfig(data=DataConfig(order=order), seed=seed, out=str(folder))
    if (folder / "summary.json").is_file():
        try:
            return Outcome(variant=variant, config=config, metrics=read_metrics(folder))
        except RunError as error:  # which must not cost the runs of now their summary
            return Outcome(variant=variant, config=config, metrics=[], failure=str(error))
    for failure in failures:
        if why := re.fullmatch(rf"(?:order|run) {order}, seed {seed}: (.*)", failure, re.DOTALL):
            return Outcome(variant=variant, config=config, metrics=[], failure=why[1])
    return None


def _one(
    variant: str,
    config: RunConfig,
    shared: _Shared,
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
        # Too little memory or a full disk is this run's failure (PyTorch says it by a RuntimeError): the others go on.
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Outcome(variant=variant, config=config, metrics=[], failure=why)
    return Outcome(variant=variant, config=config, metrics=read_metrics(config.run_dir))


def _check_same(config: RunConfig) -> None:
    """RunError if a finished run was made with settings or images other than these."""
    try:
        # Settings that came after the run was made were at their defaults.
        before, now = (flat(to_dict(each)) for each in (read_config(config.run_dir), config))
        changed = differences(deciding(RunConfig, before), deciding(RunConfig, now))
        images = json.loads((config.run_dir / "summary.json").read_bytes()).get("data")
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


MEASURES = ("test_accuracy", "average_test_accuracy", "forgetting", "learn_seconds")


def summarise(plan: Plan, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row a variant: mean and sample s.d. of ``MEASURES`` over its runs, and the most bytes remembered."""
    rows = []
    for variant in plan.variants:
        mine = [outcome for outcome in outcomes if outcome.variant == variant]
        good = [run_measures(each.metrics) for each in mine if each.failure is None and each.metrics]
        rows.append(
            {
                "variant": variant,
                "runs": len(good),
                "failures": [f"{each.repetition}: {each.failure}" for each in mine if each.failure],
                **{measure: mean_and_sd([each[measure] for each in good]) for measure in MEASURES},
                "memory_bytes": int(max((each["memory_bytes"] for each in good), default=0)),
            }
        )
    return rows


HEADINGS = (
    "method",
    "runs",
    "final accuracy",
    "average along the stream",
    "forgetting, points",
    "learning, s an experience",
    "memory, MB",
)


def table_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A summary's row as text under ``HEADINGS``; runs that failed are counted as such."""
    failed = len(row["failures"])

    def pair(key: str, unit: str) -> str:
        if row[key] is None:
            return "failed" if failed and not row["runs"] else "-"
        mean, spread = row[key]
        return f"{100 * mean:.1f}{unit}" + ("" if spread is None else f" ± {100 * spread:.1f}")

    seconds = "-" if row["learn_seconds"] is None else f"{row['learn_seconds'][0]:.3f}"
    return (
        row["variant"],
        f"{row['runs']}" + (f", {failed} failed" if failed else ""),
        pair("test_accuracy", "%"),
        pair("average_test_accuracy", "%"),
        pair("forgetting", ""),
        seconds,
        f"{row['memory_bytes'] / 1e6:.1f}",
    )


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The summary as a Markdown table, and below it why runs failed."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    lines += [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in table_cells(row))} |" for row in rows
    ]
    failures = [f"* failed: {row['variant']}, {why}" for row in rows for why in row["failures"]]
    return lines + (["", *failures] if failures else [])


def _write(plan: Plan, outcomes: Sequence[Outcome], out: Path) -> None:
    rows = summarise(plan, outcomes)
    info = machine()
    write_json(
        out / "summary.json",
        {"title": plan.title, "orders": plan.orders, "seeds": plan.seeds, "rows": rows, "machine": info},
    )
    note = (
        f"{_counted('order', plan.orders)}; {_counted('seed', plan.seeds)};"
        f"{' mean and sample s.d.;' if len(plan.orders) * len(plan.seeds) > 1 else ''}"
        f" {info['processor']}, {info['threads']} thread{'' if info['threads'] == 1 else 's'}"
    )
    text = "\n".join([f"# {plan.title}", "", *table_lines(rows), "", note, ""])
    write_atomically(out / "table.md", [text.encode()])
    curves = {
        variant: [
            [line["test_accuracy"] for line in o.metrics]
            for o in outcomes
            if o.variant == variant and o.metrics
        ]
        for variant in plan.variants
    }
    curves = {variant: runs for variant, runs in curves.items() if runs}
    if curves:
        figure = spread_curves(curves, title=plan.title, note=note)
        for kind in ("png", "svg"):
            write_atomically(out / f"accuracy.{kind}", [figure_bytes(figure, kind)])


def _counted(noun: str, values: Sequence[int]) -> str:
    return f"{noun if len(values) == 1 else noun + 's'} {', '.join(map(str, values))}"
