"""The settings of a run, from flags and YAML files and back to YAML."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter, Namespace

from vitlr.configuration import (
    aliases_of,
    checked,
    neutral,
    parse_yaml,
    read_yaml,
    repetition,
    settings_of,
    unknown,
)
from vitlr.data.names import expanded
from vitlr.data.settings import DataConfig
from vitlr.errors import ConfigError
from vitlr.latents.settings import BackboneConfig
from vitlr.learning import LearnerConfig, check_method
from vitlr.learning.settings import own_defaults
from vitlr.replay import MemoryConfig
from vitlr.runs.params_cfg import read_params_cfg
from vitlr.text import harmless

__all__ = ["RunConfig", "from_settings", "make_parser", "parse", "read_arguments", "to_dict", "to_yaml"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: data, network, memory, method, and where its records go.

    Attributes:
        data: what is learned from.
        backbone: the pretrained network and its cut.
        memory: the replay memory.
        learner: the method and its settings.
        seed: of shuffles, draws and the memory's policy.
        out: run directory (default: runs/ and a name made of method, scenario, order and seed).
        tensorboard: also write TensorBoard events.
        checkpoint_every: experiences between saved states, from which ``--resume`` continues; 0 saves none.
    """

    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    seed: int = repetition(0)
    out: str | None = neutral(None)
    tensorboard: bool = neutral(True)
    checkpoint_every: int = neutral(1)

    def __post_init__(self) -> None:
        if self.checkpoint_every < 0:
            raise ConfigError(f"checkpoint_every must be >= 0 (0 saves none), got {self.checkpoint_every}")
        if self.seed < 0:
            raise ConfigError(f"seed must be >= 0, got {self.seed}")
        check_method(self.learner)

    @property
    def repetition(self) -> str:
        """Which repetition of its experiment a run is: ``order 1, seed 0``."""
        return f"order {self.data.order}, seed {self.seed}"

    @property
    def run_dir(self) -> Path:
        """Where the run is written."""
        if self.out is not None:
            return expanded(self.out)
        data = self.data
        ordered = data.dataset in ("core50", "rendered")
        what = f"{data.dataset}-{data.scenario}-order{data.order}" if ordered else data.dataset
        return Path("runs") / f"{self.learner.method}-{what}-seed{self.seed}"


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Plain nested dictionary."""
    return dataclasses.asdict(config)


def to_yaml(config: RunConfig) -> str:
    """YAML that :func:`parse` reads back into an equal configuration."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def from_settings(settings: Mapping[str, Any]) -> RunConfig:
    """The configuration with these settings, nested or by flat name; ConfigError as for :func:`parse`."""
    parser = _plain_parser()
    with _one_sentence(parser):
        return _config(parser, parser.parse_object(dict(settings)))


def parse(arguments: Sequence[str]) -> RunConfig:
    """Configuration from flags and YAML files (``--config FILE``), in the order given; later ones win.

    Raises:
        ConfigError: a setting that is misspelt, of another type or out of range; a file that cannot be read.
        SystemExit: after ``--help`` or ``--print-config``, status 0.
    """
    return read_arguments(_plain_parser(), arguments)[0]


def read_arguments(parser: ArgumentParser, arguments: Sequence[str]) -> tuple[RunConfig, Namespace]:
    """Configuration and all values of a parser of :func:`make_parser` to which flags may have been added."""
    with _one_sentence(parser):
        values = parser.parse_args(list(arguments))
        if values.params_cfg is not None:
            flags, notes = read_params_cfg(values.params_cfg)
            values = parser.parse_args([*flags, *arguments])
            for note in notes:
                print(harmless(f"{values.params_cfg}: {note}"), file=sys.stderr)
        config = _config(parser, values)
    if values.print_config:
        print(to_yaml(config), end="")
        raise SystemExit(0)
    return config, values


def _config(parser: ArgumentParser, values: Namespace) -> RunConfig:
    built = parser.instantiate(values)
    return RunConfig(**{each.name: built[each.name] for each in dataclasses.fields(RunConfig)})


# -- the parser -----------------------------------------------------------------------------------------


class _Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of a command's description."""


class _File(ActionConfigFile):
    """Settings from a YAML file, or written out in place of its name."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: Any = None) -> None:
        self.apply_config(parser, cfg, self.dest, json.dumps(_read_settings(values), default=str))


def _read_settings(source: str) -> dict[str, Any]:
    content, where = None, source
    source = str(expanded(source)) if source.startswith("~") else source
    if not os.path.isfile(source):
        content, where = parse_yaml(source, "--config"), "--config"
    if not isinstance(content, dict):
        content, where = read_yaml(source), source
    if not isinstance(content, dict):
        raise ConfigError(
            f"{source} holds no settings; vitlr train --print-config shows how they are written"
        )
    if "variants" in content:
        raise ConfigError(f"{source} is a recipe of several runs; use vitlr compare {source} --out DIR")
    return _opened(checked(RunConfig, content, where))


def _opened(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that are the defaults of the file's method are open again: a written file, which has them all, followed
    by another ``--learner.method`` takes that method's own."""
    method = settings.get("learner.method")
    own = {} if method is None else own_defaults(str(method))
    same = [name for name, value in own.items() if settings.get(f"learner.{name}") == value]
    return settings | {f"learner.{name}": None for name in same}


_SHORT = {
    "--trunk": "backbone.precision",
    "--device": "backbone.device",
    "--on-bad-image": "data.on_bad_image",
}


def make_parser(prog: str = "vitlr train", description: str = "") -> ArgumentParser:
    """The flags of a run: one for each setting of :class:`RunConfig`."""
    parser = ArgumentParser(
        prog=prog,
        usage=f"{prog} [--FLAG VALUE ...]",
        description=description,
        exit_on_error=False,
        formatter_class=_Formatter,
        allow_abbrev=False,
        parser_mode="json",  # of values: JSON has no aliases
        print_config=None,  # which would print the flags that a command adds
    )
    parser.add_argument("--config", action=_File, help="YAML file with settings; flags after it win")
    parser.add_argument(
        "--params-cfg", metavar="FILE", help="the original research code's params.cfg; flags win"
    )
    parser.add_argument("--print-config", action="store_true", help="print all settings as YAML and exit")
    parser.add_class_arguments(RunConfig)
    # An instance stands for the defaults there: those that depend on the method must stay open until it is known.
    open_ = [name for name, each in settings_of(RunConfig).items() if each.default is None]
    parser.set_defaults({name: None for name in open_})
    options = parser._option_string_actions
    for group in {name.partition(".")[0] for name in settings_of(RunConfig) if "." in name}:
        options.pop(f"--{group}").help = argparse.SUPPRESS  # files are read by --config alone
    aliases = {f"--{alias}": name for alias, name in aliases_of(RunConfig).items()}
    for alias, name in {**_SHORT, **aliases}.items():
        action = options[alias] = options[f"--{name}"]
        action.option_strings = [*action.option_strings, alias]
    return parser


_plain_parser = lru_cache(maxsize=1)(make_parser)


@contextmanager
def _one_sentence(parser: ArgumentParser) -> Iterator[None]:
    """Turns the parser's errors into ConfigError with one sentence that names the setting."""
    try:
        yield
    except (argparse.ArgumentError, TypeError, KeyError) as error:
        message = " ".join(str(error).split())
    else:
        return
    if flag := re.search(r"unrecognized arguments: -{0,2}([^\s=]*)", message):
        message = unknown(flag[1] or "--", [option.lstrip("-") for option in parser._option_string_actions])
    elif wrong := re.search(r'Parser key "([\w.]+)": .*(?:Got|Given) value: (.*)', message):
        types = " or ".join(re.findall(r"Expected a <class '(\w+)'>", message)).replace("NoneType", "null")
        message = f"{wrong[1]} must be of type {types or 'another'}, got {wrong[2]:.80}; see --help"
    raise ConfigError(message[:300])
