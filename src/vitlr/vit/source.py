"""Resolve the name of a network to a directory with its files, and read the files beside the weights.

A name is a local directory, a short name of the table below, or a name on the Hugging Face hub. Only
``config.json``, ``preprocessor_config.json`` and safetensors files are ever downloaded or read.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from vitlr.errors import BackboneError
from vitlr.storage.reading import read_regular

__all__ = [
    "ABOUT_BUNDLED",
    "BUNDLED",
    "SHORT_NAMES",
    "Normalisation",
    "find_directory",
    "read_json",
    "read_normalisation",
]

SHORT_NAMES = {
    f"{letter}_{patch}{suffix}": f"google/vit-{size}-patch{patch}-{variant}"
    for letter, size in (("B", "base"), ("L", "large"))
    for patch in (16, 32)
    for suffix, variant in (("", "224-in21k"), ("_imagenet1k", "384"))
}
BUNDLED = ("bundled", "vitlr-small")
# What everyone should know who begins with it.
ABOUT_BUNDLED = (
    "the bundled network was pretrained on rendered objects alone: on photographs it reached an accuracy of .45 where a"
    " ViT-Ti pretrained on ImageNet had .94; choose a real one with --backbone"
)

_FILES = ["config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json"]
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_JSON_LIMIT = 2**26  # bytes
_TIMEOUT = 5.0  # seconds to wait for the hub's first answer


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """The input of a network: (pixel * rescale_factor - mean) / std, after resizing with Pillow's
    filter number ``resample``."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale_factor: float = 1 / 255
    resample: int = 2

    def __post_init__(self) -> None:
        for what, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(map(math.isfinite, values)):
                raise BackboneError(f"{what} must be 3 numbers, one a colour, got {list(values)[:10]}")
        if not (math.isfinite(self.rescale_factor) and 0 <= self.resample <= 5):
            raise BackboneError(
                f"rescale_factor must be a number and resample 0 to 5, got {self.rescale_factor} and {self.resample}"
            )
        if min(self.std) <= 0 or self.rescale_factor <= 0:
            raise BackboneError(
                f"std and rescale_factor must be positive, got {list(self.std)} and {self.rescale_factor}"
            )


def find_directory(name: str, revision: str | None = None) -> Path:
    """The directory that holds ``config.json`` and safetensors weights of the network called ``name``.

    The local cache of the hub is searched first; only missing files are downloaded.

    Raises:
        BackboneError: no such directory or name, files missing, or the hub could not be reached.
    """
    if name in BUNDLED:
        directory = Path(str(resources.files("vitlr"))) / "assets" / BUNDLED[-1]
        if not directory.is_dir():
            raise BackboneError(f"{name}: there is no bundled network at {directory}: install vitlr again")
    else:
        name = SHORT_NAMES.get(name, name)
        directory = Path(name).expanduser()
        if not directory.is_dir():
            directory = _from_hub(name, revision)
    _check_files(directory)
    return directory


def _check_files(directory: Path) -> None:
    if not (directory / "config.json").is_file():
        raise BackboneError(f"{directory} has no config.json: give a directory in Hugging Face format")
    if any((directory / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        return
    if any(directory.glob("pytorch_model*.bin")):
        raise BackboneError(
            f"{directory} has its weights as a pickle, pytorch_model.bin, which is never read: convert it to "
            "safetensors if you trust it: transformers.AutoModel.from_pretrained(OLD).save_pretrained(NEW)"
        )
    raise BackboneError(f"{directory} has no model.safetensors: its weights are missing")


def _from_hub(name: str, revision: str | None) -> Path:
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise BackboneError(f"{name}: no such directory")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    def fetch(local_files_only: bool) -> Path:
        options: dict[str, Any] = {"allow_patterns": _FILES, "etag_timeout": _TIMEOUT}
        return Path(snapshot_download(name, revision=revision, local_files_only=local_files_only, **options))

    cached = None
    try:
        directory = fetch(local_files_only=True)
        _check_files(directory)  # an interrupted download must not pass for a complete one
        cached = directory
    except Exception:  # if the cache is damaged, the hub may still have the files
        pass
    if cached is not None and (cached / "preprocessor_config.json").is_file():
        return cached
    try:
        return fetch(local_files_only=False)
    except RevisionNotFoundError as error:
        raise BackboneError(f"{name} has no revision {revision!r} on the Hugging Face hub") from error
    except RepositoryNotFoundError as error:
        raise BackboneError(f"{name} is neither a directory nor a public model on Hugging Face") from error
    except Exception as error:  # the hub's client raises errors of several libraries
        if cached is not None:
            return cached
        raise BackboneError(
            f"{name} is neither a directory nor in the local cache, and the Hugging Face hub could not be "
            "reached: download it elsewhere and give its directory"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        BackboneError: the file cannot be read or is not a JSON object.
    """
    try:
        content = json.loads(read_regular(path, _JSON_LIMIT))
    except BackboneError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise BackboneError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def read_normalisation(
    directory: Path,
    *,
    default_resample: int,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Normalisation:
    """The normalisation in ``preprocessor_config.json``; ``mean`` and ``std`` replace it if given.

    Weights trained for mean = std = 0.5 lose much of their accuracy under ImageNet's mean and std, and
    vice versa, so nothing is guessed.

    Raises:
        BackboneError: the file or its values are missing, and mean and std were not given.
    """
    path = directory / "preprocessor_config.json"
    given = mean is not None and std is not None
    if not path.is_file() and not given:
        raise BackboneError(
            f"{directory} has no preprocessor_config.json, so its normalisation is unknown: "
            "add the file that belongs to these weights, or give mean and std"
        )
    content = read_json(path) if path.is_file() else {}
    if not content.get("do_normalize", True):
        content = content | {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    mean = mean if mean is not None else content.get("image_mean")
    std = std if std is not None else content.get("image_std")
    if mean is None or std is None:
        raise BackboneError(f"{path} does not say image_mean and image_std: give mean and std")
    rescale = content.get("rescale_factor", 1 / 255) if content.get("do_rescale", True) else 1.0
    try:
        return Normalisation(
            mean=tuple(float(value) for value in mean),  # type: ignore[arg-type]  # the length is checked there
            std=tuple(float(value) for value in std),  # type: ignore[arg-type]
            rescale_factor=float(rescale),
            resample=int(content.get("resample", default_resample)),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BackboneError(f"{'mean and std' if given else path} cannot be used: {error}") from error
