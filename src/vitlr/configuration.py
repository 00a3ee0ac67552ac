"""What all settings share: what a setting can change, how nested settings are read from YAML, checked and compared.

The settings of a component are a frozen dataclass, validated when it is made. A field declares what it can change:

    workers: int = neutral(2)             # no result depends on it
    root: str | None = place(None)        # its files count, not its path
    seed: int = repetition(0)             # another repetition of the same experiment
    order: int = repetition(0, "run")     # the same; older files and flags call it run
    der_alpha: float = read_by("der", default=0.1)  # no result of another method depends on it

Settings travel nested (``{"memory": {"capacity": 5}}``, as in YAML) or flat (``{"memory.capacity": 5}``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import Field, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from vitlr.errors import ConfigError
from vitlr.storage.reading import read_regular

__all__ = [
    "METHOD",
    "aliases_of",
    "checked",
    "deciding",
    "differences",
    "flat",
    "names_of",
    "neutral",
    "one_of",
    "parse_yaml",
    "place",
    "read_by",
    "read_yaml",
    "repetition",
    "settings_of",
    "unknown",
]

MAX_YAML = 2**22  # bytes
METHOD = "learner.method"  # the setting that decides which others are read


def neutral(default: Any) -> Any:
    """A setting on which no result depends, such as a number of threads."""
    return field(default=default, metadata={"kind": "neutral"})


def place(default: Any) -> Any:
    """A path to data: results depend on the files, not on their place."""
    return field(default=default, metadata={"kind": "place"})


def repetition(default: Any, *aliases: str) -> Any:
    """A setting that distinguishes repetitions of one experiment, such as a seed; ``aliases`` are older names."""
    return field(default=default, metadata={"kind": "repetition", "aliases": aliases})


def read_by(*methods: str, default: Any) -> Any:
    """A setting that only these methods read."""
    return field(default=default, metadata={"methods": methods})


def unread_by(*methods: str, default: Any) -> Any:
    """A setting that all methods but these read."""
    return field(default=default, metadata={"unread by": methods})


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


def aliases_of(cls: Any) -> dict[str, str]:
    """Flat names of settings by their older flat names."""
    return {
        ".".join([*name.split(".")[:-1], alias]): name
        for name, each in settings_of(cls).items()
        for alias in each.metadata.get("aliases", ())
    }


def names_of(cls: Any, kind: str) -> set[str]:
    """Flat names of the settings that are ``neutral``, a ``place`` or a ``repetition``."""
    return {name for name, each in settings_of(cls).items() if each.metadata.get("kind") == kind}


def deciding(cls: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of flat settings those on which the results of their run depend; settings that ``cls`` lacks are kept."""
    method = settings.get(METHOD)
    out = names_of(cls, "neutral") | names_of(cls, "place")
    for name, each in settings_of(cls).items():
        if method not in each.metadata.get("methods", (method,)) or method in each.metadata.get(
            "unread by", ()
        ):
            out.add(name)
    return {name: value for name, value in settings.items() if name not in out}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by flat name; an empty group stays, as ``{}``."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
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


def unknown(name: str, known: Iterable[str]) -> str:
    """The sentence about a setting that does not exist."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"unknown setting {name}; {f'did you mean {near[0]}?' if near else 'see --help for all settings'}"


def checked(cls: Any, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Flat settings by their names of today; values are checked when the class is made.

    Args:
        where: where the settings were found, for the sentence of an error.

    Raises:
        ConfigError: a setting does not exist or has no value, or a group of settings is something else.
    """
    known, aliases = settings_of(cls), aliases_of(cls)
    groups = {name.rpartition(".")[0]: name for name in reversed(known) if "." in name}
    found: dict[str, Any] = {}
    for given, value in flat(settings).items():
        name = aliases.get(given, given)
        if name in groups and value != {}:
            raise ConfigError(f"{where}: {name} must hold settings such as {groups[name]}, got {value!r:.60}")
        if name not in known and name not in groups:
            raise ConfigError(f"{where}: {unknown(name, known)}")
        open_ = name in known and (known[name].default is None or "None" in str(known[name].type))
        if name in known and value is None and not open_:
            raise ConfigError(f"{where}: {given} has no value; give one, or leave the line out")
        if name in found:
            raise ConfigError(f"{where}: {name} is given twice, by two names; leave one out")
        if name in known:  # and not an empty group
            found[name] = value
    return found


# -- YAML -----------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Refuses aliases, through which a short text may contain itself or stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"alias *{self.peek_event().anchor}: write out what it stands for")
        return super().compose_node(parent, index)


# Besides its own errors the reader passes on those of the types that tags and plain words name:
# a whole number of 5,000 digits, a date of month 13, !!bool of neither.
_FAULTS = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds; ConfigError if it cannot be read, and as for :func:`parse_yaml`."""
    try:
        text = read_regular(path, MAX_YAML).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); give a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid YAML ({error})") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """What a YAML text holds; aliases are refused before anything is built.

    Args:
        where: where the text was found, for the sentence of an error.

    Raises:
        ConfigError: it is not valid YAML or has aliases.
    """
    try:
        return _Loader(text).get_single_data()
    except _FAULTS as error:
        raise ConfigError(f"{where} is not valid YAML ({' '.join(str(error).split())[:160]})") from None
