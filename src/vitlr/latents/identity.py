"""What determines a latent, told without loading a network or opening an image.

A trunk is told by the bytes of its files, the settings it is made with, and what computes: our own code, the
libraries, the processor and the number of threads, all of which can change the last bits. An image is told by
what the system says of its file: path, inode, size, and the times of its last modification and last change of
status in nanoseconds. Opening 120,000 images to digest them would take longer than learning from them; the
time of the last change cannot be set by a program, as that of the last modification can, so a file that was
replaced by another of the same size and date is still told apart. A frame of a clip is identified by its file and
number. A file that was only just written may be
written again within one tick of the file system's clock: it is looked at again when the tick is over.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from importlib import import_module, metadata
from pathlib import Path
from pkgutil import iter_modules
from stat import S_ISREG
from typing import Any

import torch

from vitlr.data.clips import split_frame
from vitlr.errors import RunError
from vitlr.storage.files import write_atomically
from vitlr.storage.locks import locked
from vitlr.storage.reading import open_regular, read_regular
from vitlr.vit.backbone import SHAPES
from vitlr.vit.source import find_directory, read_json

__all__ = ["computing_modules", "content_digest", "image_ids", "processor", "trunk_identity"]

TICK = 0.05  # seconds: file systems' clocks advance every 10 ms at the latest
COARSE_TICK = 2.0  # where times come in whole seconds (FAT: every second one)
_MEMO = "digests.json"
_MEMO_LIMIT = 256  # digests remembered
_WEIGHTS = ("config.json", "preprocessor_config.json", "model.safetensors.index.json", "*.safetensors")


def trunk_identity(
    name: str,
    *,
    blocks: int | None,
    image_size: int | None,
    cut: int | None,
    precision: str,
    batch_size: int,
    class_tokens: tuple[int, int] = (0, 0),
    grid: int | str | None = None,
    device: torch.device | None = None,
    memo: Path | None = None,
) -> dict[str, Any]:
    """Everything that can change a bit of this trunk's latents, as data that JSON can hold.

    ``class_tokens`` are as ``Network`` takes them, number and bound. ``blocks``, ``image_size`` and ``cut`` may be
    None, for the network's own; if config.json has them, its values are used, so that a setting left out and the same
    one given are one trunk.

    Raises:
        BackboneError: no such network.
    """
    if name.startswith("random:"):
        _, num_blocks, _, _ = SHAPES.get(name.removeprefix("random:"), (0, None, 0, 0))
        weights, config = f"{name}, seed 0", {"num_hidden_layers": num_blocks, "image_size": 224}
    else:
        directory = find_directory(name)
        files = sorted({path for pattern in _WEIGHTS for path in directory.glob(pattern)})
        weights, config = content_digest(files, memo), read_json(directory / "config.json")
    blocks = config.get("num_hidden_layers") if blocks is None else blocks
    return {
        "weights": weights,
        "family": config.get("model_type", "vit"),
        "blocks": blocks,
        "cut": blocks - 1 if cut is None and isinstance(blocks, int) else cut,
        "image_size": config.get("image_size") if image_size is None else image_size,
        "class_tokens": list(class_tokens),
        "grid": grid,
        "precision": precision,
        "batch_size": batch_size,
        "computed by": _computed_by() | _gpu(device),
    }


def _gpu(device: torch.device | None) -> dict[str, Any]:
    if device is None or device.type == "cpu":
        return {}
    return {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}


def _computed_by() -> dict[str, Any]:
    return {
        "vitlr": _code_digest(),
        **{library: metadata.version(library) for library in ("torch", "transformers", "pillow", "numpy")},
        **_installed("av", "pillow-heif"),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "byteorder": sys.byteorder,
    }


def _installed(*libraries: str) -> dict[str, str]:
    """Versions of those libraries that are there."""
    found = {}
    for library in libraries:
        with suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    return found


# The code between a file's bytes and a latent: modules, and packages with all that is in them.
_COMPUTING = (
    *(
        f"vitlr.data.{name}"
        for name in ("images", "decoding", "jpeg", "pixels", "arrays", "signatures", "animation")
    ),
    *(f"vitlr.data.{name}" for name in ("clips", "video", "video_colours", "hub_tables")),
    "vitlr.device",
    "vitlr.vit.backbone",
    "vitlr.vit.source",
    "vitlr.vit.families",
    "vitlr.vit.compute",
    "vitlr.latents.record",
    "vitlr.latents.views",
)


def computing_modules() -> list[str]:
    """Names of the modules whose code can change a latent; ImportError if one of them is gone."""
    names = []
    for name in _COMPUTING:
        module = import_module(name)
        names.append(name)
        if hasattr(module, "__path__"):
            names += sorted(found.name for found in iter_modules(module.__path__, f"{name}."))
    return names


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """Of what that code does: comments, docstrings and layout are left out."""
    digest = blake2b(digest_size=8)
    for name in computing_modules():
        digest.update(
            f"{name}\0{_statements(Path(str(import_module(name).__file__)).read_text('utf-8'))}\0".encode()
        )
    return digest.hexdigest()


def _statements(source: str) -> str:
    """Python source without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node, clean=False
        ):
            node.body[0] = ast.Pass()
    return ast.dump(tree)


@lru_cache(maxsize=1)
def processor() -> str:
    """The processor's name, as far as the system tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# -- files ------------------------------------------------------------------------------------------------


def content_digest(paths: Sequence[Path], memo: Path | None = None) -> str:
    """Digest of what these files hold; a file that cannot be read counts as such.

    Args:
        memo: directory in which digests are remembered by the files' identities (:func:`image_ids`), so that
            files that have not changed are not read again.
    """
    ids = image_ids(paths) if memo is not None else [None]
    if memo is None or None in ids:
        return _read_and_digest(paths)
    key = blake2b(b"".join(filter(None, ids)), digest_size=16).hexdigest()
    known = _read_memo(memo)
    if key not in known:
        digest = _read_and_digest(paths)
        with suppress(RunError, OSError), locked(memo):  # the next run reads them once more, that is all
            known = _read_memo(memo) | {key: digest}
            latest = dict(list(known.items())[-_MEMO_LIMIT:])
            write_atomically(memo / _MEMO, [json.dumps(latest, indent=1).encode()])
        return digest
    return known[key]


def _read_memo(memo: Path) -> dict[str, str]:
    try:
        content = json.loads(read_regular(memo / _MEMO, 2**24))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str) and len(value) == 32}


def _read_and_digest(paths: Sequence[Path]) -> str:
    whole = blake2b(digest_size=16)
    for path in paths:
        one = blake2b(digest_size=16)
        try:
            with open_regular(path) as file:
                while chunk := file.read(2**20):
                    one.update(chunk)
        except OSError:
            one.update(b"unreadable")
        whole.update(path.name.encode("utf-8", "surrogateescape") + b"\0" + one.digest())
    return whole.hexdigest()


def image_ids(paths: Sequence[Path]) -> list[bytes | None]:
    """16 bytes for each file that change whenever the file changes, without opening it.

    None where there is no file, or its times lie ahead of the clock so that a later change may not show.
    """
    now = time.time()
    ids, young = [], []
    for place, path in enumerate(paths):
        identity, settled = _image_id(path)
        ids.append(identity if settled <= now else None)
        if identity is not None and settled > now and settled - now <= COARSE_TICK:
            young.append((place, settled))
    if young:
        time.sleep(max(0.0, max(settled for _, settled in young) - time.time()) + 0.001)
        now = time.time()
        for place, _ in young:
            identity, settled = _image_id(paths[place])
            ids[place] = identity if settled <= now else None
    return ids


def _image_id(path: Path) -> tuple[bytes | None, float]:
    """Identity of a file, and the time from which on a change of it cannot go unseen."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return _frame_id(path)
    if not S_ISREG(status.st_mode):
        return None, 0.0
    modified, changed = status.st_mtime_ns, status.st_ctime_ns
    text = f"{os.path.abspath(path)}\0{status.st_ino}\0{status.st_size}\0{modified}\0{changed}"
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
    latest = max(modified, changed) if os.name == "nt" else changed  # Windows tells the creation instead
    return digest, latest / 1e9 + (TICK if latest % 10**9 else COARSE_TICK)


def _frame_id(path: Path) -> tuple[bytes | None, float]:
    """The same of a frame of a clip; None for the path of anything else that is no file."""
    with suppress(OSError, ValueError):
        frame = split_frame(path.as_posix())
        if frame is not None:
            clip, settled = _image_id(Path(frame[0]))
            return None if clip is None else blake2b(
                clip + f"frame {frame[1]}".encode(), digest_size=16
            ).digest(), settled
    return None, 0.0
