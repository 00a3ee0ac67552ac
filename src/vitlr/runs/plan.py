"""What a comparison runs: a recipe of variants, orders and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from vitlr.configuration import checked, read_yaml
from vitlr.data.names import checked_name
from vitlr.errors import ConfigError, DataError
from vitlr.runs.settings import RunConfig, from_settings, to_dict
from vitlr.storage.names import slug
from vitlr.text import harmless

__all__ = ["OUTPUTS", "Plan", "place_of", "read_plan"]

_NAME_BYTES = 200  # of a directory's name: file systems take 255
OUTPUTS = ("summary.json", "table.md", "accuracy.png", "accuracy.svg")  # of a comparison, beside its runs


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared.

    ``base`` and each of ``variants`` are settings by flat name (``memory.capacity``); a variant wins over the base.
    Each variant runs on every one of the ``orders`` with every one of the ``seeds``.
    """

    title: str
    base: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    orders: tuple[int, ...]
    seeds: tuple[int, ...]

    def configs(self, variant: str, out: Path) -> Iterator[RunConfig]:
        """The configurations of a variant's runs, each with its directory below ``out``."""
        for order, seed in product(self.orders, self.seeds):
            place = place_of(out, variant, order, seed)
            repetition = {"data.order": order, "seed": seed, "out": str(place)}
            yield from_settings({**self.base, **self.variants[variant], **repetition})


def place_of(out: Path, variant: str, order: int, seed: int) -> Path:
    """Directory of a run below that of its comparison."""
    return (
        out / slug(variant) / f"run{order}-seed{seed}"
    )  # as version 0.1 named it, so that its comparisons continue


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
    variants = {_named(where, str(name)): settings for name, settings in content["variants"].items()}
    _check_names(path, list(variants))
    return Plan(
        title=harmless(str(content.get("title", Path(path).stem))),
        base=_settings(where, "base", content.get("base")),
        variants={name: _settings(where, name, settings) for name, settings in variants.items()},
        **numbers,
    )


def _named(where: str, name: str) -> str:
    try:
        return checked_name(name, f"{where}: a variant")
    except DataError as error:
        raise ConfigError(str(error)) from None


def _settings(where: str, name: str, settings: Any) -> dict[str, Any]:
    """The settings of the base or of a variant; they, or a group of them, may be left empty."""
    where = f"{where}, {name!r:.60}"
    if settings is not None and not isinstance(settings, dict):
        raise ConfigError(f"{where} must hold settings, got {settings!r:.60}")
    groups = {key for key, value in to_dict(RunConfig()).items() if isinstance(value, dict)}
    filled = {k: {} if v is None and k in groups else v for k, v in (settings or {}).items()}
    return checked(RunConfig, filled, where)


def _check_names(path: str | Path, variants: Sequence[str]) -> None:
    """Raises ConfigError unless each variant gets a directory of its own, also if file systems ignore case."""
    if not variants:
        raise ConfigError(f"recipe {path} has no variants; name at least one under 'variants'")
    places: dict[str, str] = {}
    for name in variants:
        folder = slug(name)
        if len(folder.encode()) > _NAME_BYTES:
            raise ConfigError(f"recipe {path}: the variant {name[:60]!r}… has too long a name; shorten it")
        if folder.casefold() in OUTPUTS:
            raise ConfigError(f"recipe {path}: a variant cannot be called {name!r}; give it another name")
        other = places.setdefault(folder.casefold(), name)
        if other != name:
            raise ConfigError(
                f"recipe {path}: the variants {other!r} and {name!r} would share the directory {folder};"
                " let their names differ in letters or digits"
            )
