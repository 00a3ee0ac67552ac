"""Configuration: dataclasses, validated where they are made, to and from YAML and flags."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, ParserError

from vitlr.configuration import neutral, repetition
from vitlr.data.settings import DataConfig
from vitlr.errors import ConfigError
from vitlr.latents.settings import BackboneConfig
from vitlr.learning import LearnerConfig
from vitlr.learning.methods import keeps_images
from vitlr.replay import MemoryConfig

__all__ = [
    "RunConfig",
    "make_parser",
    "parse",
    "to_dict",
    "to_yaml",
]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: data, network, memory, method, and where its records go.

    Attributes:
        data: what is learned from.
        backbone: the pretrained network and its cut.
        memory: the replay memory.
        learner: the method and its settings.
        seed: of shuffles, draws and the memory's policy.
        out: run directory (default: runs/ and a name made of method, scenario, run and seed).
        tensorboard: also write TensorBoard events.
        checkpoint_every: experiences between saved states that ``--resume`` goes on from; 0 saves none.
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
        if keeps_images(self.learner.method) and self.memory.codec != "float32":
            raise ConfigError(
                f"learner.method {self.learner.method} keeps images, a byte a colour and nothing lost:"
                f" leave memory.codec at float32, got {self.memory.codec}"
            )

    @property
    def run_dir(self) -> Path:
        """Where the run is written."""
        if self.out is not None:
            return Path(self.out)
        data = self.data
        what = "folder" if data.dataset == "folder" else f"{data.dataset}-{data.scenario}-run{data.run}"
        return Path("runs") / f"{self.learner.method}-{what}-seed{self.seed}"


SECTIONS = {"data": DataConfig, "backbone": BackboneConfig, "memory": MemoryConfig, "learner": LearnerConfig}


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Plain nested dictionary."""
    return dataclasses.asdict(config)


def to_yaml(config: RunConfig) -> str:
    """YAML that :func:`parse` reads back into an equal configuration."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


_SHORT = {"--trunk": "backbone.precision", "--device": "backbone.device"}  # as people say it


def parse(arguments: Sequence[str], prog: str = "vitlr train", description: str = "") -> RunConfig:
    """Configuration from flags and YAML files (``--config FILE``), in the order given; later ones win.

    Raises:
        ConfigError: a setting that is misspelt, of another type or out of range; a file that cannot be read.
        SystemExit: after ``--help`` or ``--print-config``, status 0.
    """
    parser = make_parser(prog, description)
    # jsonargparse spells it with an underscore; people try the dash.
    arguments = [re.sub(r"^--print-config", "--print_config", argument) for argument in arguments]
    for short, setting in _SHORT.items():
        arguments = [re.sub(rf"^{short}(?==|$)", f"--{setting}", argument) for argument in arguments]
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before == "--config" or argument.startswith("--config="):
            _check_file(Path(argument.removeprefix("--config=")))
    try:
        namespace = parser.instantiate(parser.parse_args(list(arguments)))
        return RunConfig(**{f.name: namespace[f.name] for f in dataclasses.fields(RunConfig)})
    except (argparse.ArgumentError, ParserError, TypeError, KeyError) as error:
        raise ConfigError(_sentence(str(error))) from None


# Besides its own errors the reader lets through those of the types that tags and plain words name:
# a whole number of 5,000 digits, a date of month 13, !!bool of neither.
YAML_FAULTS = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


def _check_file(path: Path) -> None:
    """ConfigError for a file whose faults jsonargparse does not see, or reports without the file's name."""
    if not path.is_file():
        return  # jsonargparse says so, and takes settings written out in place of a file
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); give a YAML file") from None
    except YAML_FAULTS as error:
        raise ConfigError(f"{path} is not valid YAML ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no settings; vitlr train --print-config shows how they are written")
    if "variants" in content:
        raise ConfigError(f"{path} is a recipe of several runs; use vitlr compare {path} --out DIR")
    _check_values(path, content, RunConfig)
    for name, section in SECTIONS.items():
        if not isinstance(content.get(name, {}), dict):
            first = dataclasses.fields(section)[0].name
            raise ConfigError(
                f"{path}: {name} must hold settings such as {name}.{first}, got {content[name]!r}"
            )


def _check_values(path: Path, content: dict[str, Any], kind: type) -> None:
    """ConfigError for a name without a value, which YAML reads as null, where null means nothing."""
    for name, given in content.items():
        field = next((field for field in dataclasses.fields(kind) if field.name == name), None)
        if field is None or name in SECTIONS:
            continue
        if given is None and "None" not in str(field.type):
            raise ConfigError(f"{path}: {name} has no value; give one, or leave the line out")
    if kind is RunConfig:
        for name, section in SECTIONS.items():
            if isinstance(content.get(name), dict):
                _check_values(path, content[name], section)


class _Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of a command's description, which are a list of flags and an example."""


def make_parser(prog: str, description: str) -> ArgumentParser:
    """The flags of a run: one for each setting of :class:`RunConfig`."""
    parser = ArgumentParser(
        prog=prog,
        description=description,
        exit_on_error=False,
        formatter_class=_Formatter,
        default_env=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with settings; flags after it win")
    parser.add_class_arguments(RunConfig)
    return parser


def _sentence(message: str) -> str:
    """One sentence that names the setting, from jsonargparse's words."""
    message = " ".join(message.split())
    unknown = re.search(
        r"(?:Group '(?P<group>[\w.]*)' does not accept (?:option|nested key) '(?P<key>[\w.]+)')", message
    )
    flag = re.search(r"[Uu]nrecognized arguments: --?(?P<key>[\w.-]+)", message) or re.search(
        r"(?:Key|Option) '(?P<key>[\w.]+)' is not (?:expected|accepted)", message
    )
    key = f"{unknown['group']}.{unknown['key']}" if unknown else flag["key"].split("=")[0] if flag else None
    if key is not None:
        near = difflib.get_close_matches(key, _setting_names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "see --help for all settings"
        return f"unknown setting {key}; {hint}"
    wrong = re.search(r'Parser key "(?P<key>[\w.]+)": (?P<why>.*)', message)
    if wrong:
        why = re.sub(r"<class '(\w+)'>", r"\1", wrong["why"]).rstrip(".")
        return f"{wrong['key']}: {why[:200]}; see --help for what it takes"
    return message[:300]


def _setting_names() -> list[str]:
    names = [f.name for f in dataclasses.fields(RunConfig)] + ["config"]
    return names + [
        f"{section}.{f.name}" for section, cls in SECTIONS.items() for f in dataclasses.fields(cls)
    ]
