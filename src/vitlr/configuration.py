"""What all settings share: what a setting can change, how nested settings are read from YAML, checked and compared.

The settings of a component are a frozen dataclass, validated when it is made. A field declares what it can change:

    workers: int = neutral(2)             # no result depends on it
    root: str | None = place(None)        # what lies there counts, not the path
    seed: int = repetition(0)             # another repetition of the same experiment
    der_alpha: float = read_by("der", default=0.1)  # no result of another method depends on it

Settings travel nested (``{"memory": {"capacity": 5}}``, as in YAML) or flat (``{"memory.capacity": 5}``).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import Field, field, fields, is_dataclass
from typing import Any

from vitlr.errors import ConfigError

__all__ = [
    "deciding",
    "differences",
    "flat",
    "neutral",
    "one_of",
    "place",
    "places",
    "read_by",
    "repetition",
    "repetitions",
    "settings_of",
]

METHOD = "learner.method"  # the setting that decides which others are read


def neutral(default: Any) -> Any:
    """A setting on which no result depends, such as a number of threads."""
    return field(default=default, metadata={"kind": "neutral"})


def place(default: Any) -> Any:
    """A path to data: results depend on what lies there, not on where it lies."""
    return field(default=default, metadata={"kind": "place"})


def repetition(default: Any) -> Any:
    """A setting that distinguishes repetitions of one experiment, such as a seed."""
    return field(default=default, metadata={"kind": "repetition"})


def read_by(*methods: str, default: Any) -> Any:
    """A setting that only these methods read."""
    return field(default=default, metadata={"methods": methods})


def settings_of(cls: Any, prefix: str = "") -> dict[str, Field[Any]]:
    """The fields of a settings class and of the classes nested in it, by flat name."""
    found: dict[str, Field[Any]] = {}
    for each in fields(cls):
        inner = each.default_factory
        if is_dataclass(inner):
            found |= settings_of(inner, f"{prefix}{each.name}.")
        else:
            found[prefix + each.name] = each
    return found


def repetitions(cls: Any) -> set[str]:
    """Flat names of the settings in which repetitions of one experiment differ."""
    return {name for name, each in settings_of(cls).items() if each.metadata.get("kind") == "repetition"}


def places(cls: Any) -> set[str]:
    """Flat names of the settings that are paths to data."""
    return {name for name, each in settings_of(cls).items() if each.metadata.get("kind") == "place"}


def deciding(cls: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of flat settings those on which the results of their run depend; settings that ``cls`` lacks are kept."""
    known, method = settings_of(cls), settings.get(METHOD)

    def decides(name: str) -> bool:
        metadata = known[name].metadata if name in known else {}
        return metadata.get("kind") not in ("neutral", "place") and method in metadata.get(
            "methods", (method,)
        )

    return {name: value for name, value in settings.items() if decides(name)}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by flat name."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Flat settings that differ, with both values: ``memory.capacity: 300 / 1500``."""
    return [
        f"{name}: {a.get(name)!r} / {b.get(name)!r}"
        for name in sorted(set(a) | set(b))
        if a.get(name) != b.get(name)
    ]


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raises ConfigError, with the nearest known value, if ``value`` is not a known one."""
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}{hint}")
