"""The original research code's ``params.cfg``, read as it is and never evaluated.

It is an INI file whose values are Python literals: ``freeze_below_layer = "lat_features.12.norm2.bias"``.
"""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path
from typing import Any

from vitlr.configuration import MAX_YAML
from vitlr.data.names import expanded
from vitlr.errors import ConfigError
from vitlr.storage.reading import read_regular

__all__ = ["read_params_cfg"]

# Key of the file -> our setting, for values that are taken over as they are.
_SAME = {
    "init_lr": "learner.first_lr",
    "inc_lr": "learner.lr",
    "mb_size": "learner.batch_size",
    "rm_sz": "memory.capacity",
    "momentum": "learner.momentum",
    "l2": "learner.weight_decay",
    "weight_decay": "learner.weight_decay",
    "reg_lambda": "learner.si_lambda",
    "lambd": "learner.si_lambda",
    "ewc_lambda": "learner.si_lambda",
    "lambda": "learner.si_lambda",
    "model_name": "backbone.name",
    "backbone": "backbone.name",
    "image_size": "backbone.image_size",
    "input_image_size": "backbone.image_size",
    "num_blocks": "backbone.blocks",
    "n_blocks": "backbone.blocks",
    "num_layers": "backbone.blocks",
    "run": "data.order",
    "nrun": "data.order",
    "seed": "seed",
}
# What the original does without a key for it: latent replay, of latents as they are.
_ORIGINAL = ("--learner.method=latent_replay", "--memory.codec=float32", "--memory.tokens=all")
_SCENARIOS = {
    "core50": "nicv2_391",
    "nicv2_391": "nicv2_391",
    "nicv2_196": "nicv2_196",
    "nicv2_79": "nicv2_79",
    "ni": "ni",
    "nc": "nc",
    "nic": "nic",
    "multi-task-nc": "nc",
}
# Keys without meaning here, and why.
_NORMALISATION = (
    "init_update_rate",
    "inc_update_rate",
    "max_r_max",
    "max_d_max",
    "inc_step",
    "r_max",
    "d_max",
)
_UNUSED = {
    **dict.fromkeys(_NORMALISATION, "a ViT has no batch renormalisation"),
    "exp_name": "runs are named by --out",
    "comment": "it is a remark",
    "replay": "memory.capacity 0 switches replay off",
    "reg_eps": "the published 1e-7 is used",
    "use_cuda": "the machine decides",
    "pretrained": "backbones are always pretrained",
    "num_classes": "classes are those of the stream",
}


def read_params_cfg(path: str | Path, section: str | None = None) -> tuple[list[str], list[str]]:
    """(flags of ``vitlr train``, a sentence for each key that has no meaning here or needs a remark).

    Takes ``[DEFAULT]``, as the original does, or else the first section, unless one is named; sections that
    are not read are named too. Raises ConfigError for a file that cannot be read, a value that
    is no literal, or a frozen layer without a number.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        text = read_regular(expanded(path), MAX_YAML).decode("utf-8")
        try:
            parser.read_string(text)
        except configparser.MissingSectionHeaderError:
            parser.read_string("[params]\n" + text)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); give the original's params.cfg"
        ) from None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no params.cfg ({str(error).splitlines()[0]})") from None
    names = [name for name in (parser.default_section, *parser.sections()) if len(parser[name])]
    chosen = section or (names[0] if names else None)
    if chosen not in names:
        raise ConfigError(
            f"{path} holds no section {section or 'with settings'}; give the original's params.cfg"
        )
    values = {key: _literal(text, key, path) for key, text in parser[chosen].items()}
    flags, notes = _translate(values, path)
    unread = [f"[{name}]" for name in names if name not in (chosen, parser.default_section)]
    if unread:
        notes.append(f"[{chosen}] is used; not read: {', '.join(unread)}")
    return flags, notes


def _literal(text: str, key: str, path: str | Path) -> Any:
    try:
        value = ast.literal_eval(text)
        str(value)  # ValueError for a number of thousands of digits, which could not even be named
        return value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if re.fullmatch(r"[\w./-]*", text):
            return text  # a bare word, which INI files allow
        raise ConfigError(
            f'{path}: {key} must be a literal such as 0.001 or "name", got {text[:60]!r}'
        ) from None


def _translate(values: dict[str, Any], path: str | Path) -> tuple[list[str], list[str]]:
    flags = list(_ORIGINAL)
    notes: list[str] = []
    for key, value in values.items():
        if key in _SAME:
            flags.append(f"--{_SAME[key]}={value}")
        elif key in ("freeze_below_layer", "latent_layer_num"):
            if key == "freeze_below_layer" or "freeze_below_layer" not in values:
                flags.append(f"--backbone.cut={_cut(value, key, path)}")
            else:
                notes.append(f"{key} = {value!r} is not used: freeze_below_layer says where to cut")
        elif key in ("init_train_ep", "inc_train_ep", "train_ep", "epochs"):
            if key == "init_train_ep" and values.get("inc_train_ep", value) != value:
                notes.append(
                    f"init_train_ep = {value!r} is not used: every experience has inc_train_ep epochs"
                )
            else:
                flags.append(f"--learner.epochs={value}")
        elif key == "scenario":
            name = _SCENARIOS.get(str(value).lower().replace("nicv2-", "nicv2_"))
            if name is None:
                notes.append(f"scenario = {value!r} is not known here: nicv2_391 is used")
            flags.append(f"--data.scenario={name or 'nicv2_391'}")
        else:
            why = _UNUSED.get(key, "no setting corresponds to it")
            notes.append(f"{key} = {value!r} has no meaning here: {why}")
    return flags, notes


def _cut(value: Any, key: str, path: str | Path) -> int:
    """12 for ``lat_features.12.norm2.bias``; a number stands for itself."""
    match = re.search(r"(?:^|\.)(\d+)(?:\.|$)", str(value))
    if match is None:
        raise ConfigError(
            f'{path}: {key} = {value!r} names no block; write it as "lat_features.12.norm2.bias" for cut 12'
        )
    if len(match[1]) > 4:
        raise ConfigError(f"{path}: {key} = {match[1]:.20}… is no block of any network")
    return int(match[1])
