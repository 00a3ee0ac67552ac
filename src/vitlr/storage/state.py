"""Exact saved states: tensors and plain data in one file that is either the old one or the new one.

A state is one safetensors file. Its header carries a JSON text (kind, format version, plain data) and a
SHA-256 over that text and every tensor's name, type, shape and bytes. It is written under a temporary name,
flushed to the disk and then renamed: the rename is the one moment at which the new state takes the place of
the old. Whatever fails or is cut off before it leaves the old state, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitlr.errors import RunError
from vitlr.storage.files import write_atomically
from vitlr.storage.locks import locked
from vitlr.storage.reading import excess, header_excess

__all__ = ["checksum", "digest_of", "load_state", "save_state", "saved_digest", "write_state"]

_DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_state(
    directory: str | Path,
    tensors: Mapping[str, Tensor],
    plain: Mapping[str, Any],
    *,
    kind: str,
    version: int,
    name: str = "state",
) -> None:
    """Replace ``directory/name.safetensors`` by these tensors and plain data (anything JSON can hold).

    The directory is made where it is missing.

    Raises:
        RunError: another process saves there, or the disk refuses; the last state is as it was.
        TypeError, ValueError: ``plain`` is not JSON data.
    """
    with locked(directory):
        write_state(directory, tensors, plain, kind=kind, version=version, name=name)


def write_state(
    directory: str | Path,
    tensors: Mapping[str, Tensor],
    plain: Mapping[str, Any],
    *,
    kind: str,
    version: int,
    name: str = "state",
) -> None:
    """``save_state`` for a caller that holds the directory already (``locked``)."""
    path = Path(directory) / f"{name}.safetensors"
    own = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    text = _text(plain, kind, version)
    header, ordered = _header(own, {"state": text, "sha256": checksum(own, text)})
    if above := excess(len(header), header):
        raise RunError(f"{path} is not saved: its names and settings take {above}; shorten them")
    write_atomically(path, [header, *(_bytes(tensor) for tensor in ordered)])


def _text(plain: Mapping[str, Any], kind: str, version: int) -> str:
    return json.dumps({"kind": kind, "version": version, "plain": plain}, allow_nan=False)


def digest_of(tensors: Mapping[str, Tensor], plain: Mapping[str, Any], *, kind: str, version: int) -> str:
    """What ``saved_digest`` says once this state is saved."""
    return checksum(tensors, _text(plain, kind, version))


def load_state(
    directory: str | Path, *, kind: str, version: int, name: str = "state", oldest: int | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and plain data that ``save_state`` put there, in ``version`` or, if given, from ``oldest`` on.

    Raises:
        RunError: nothing is saved there, or it is torn, altered, of another kind or of another version.
    """
    path = Path(directory) / f"{name}.safetensors"
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if not {"state", "sha256"} <= set(metadata):
                raise RunError(f"{path} is not a saved {kind}: it was not written by vitlr")
            state = _parse(metadata["state"], path)
            _check_kind(state, kind, version if oldest is None else oldest, version, path)
            # Copies, because what comes out of the file is a view of its pages.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} is damaged and cannot be read ({error}): use another copy of it") from error
    if checksum(tensors, metadata["state"]) != metadata["sha256"]:
        raise RunError(f"{path} is damaged: its content does not fit its checksum; use another copy of it")
    return tensors, state["plain"]


def saved_digest(directory: str | Path, *, name: str = "state") -> str | None:
    """The checksum of what is saved there, as its header says; None if nothing is that can be read."""
    path = Path(directory) / f"{name}.safetensors"
    try:
        _check_file(path)
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("sha256")
    except (RunError, OSError, SafetensorError):
        return None


def checksum(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 of a text and of every tensor's name, type, shape and bytes, whatever their order."""
    digest = hashlib.sha256(json.dumps(text).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    # Tensors of no or one element may carry any stride, which a view of other elements does not accept.
    flat = tensor.reshape(-1).as_strided((tensor.numel(),), (1,))
    return memoryview(flat.view(torch.uint8).numpy())


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[bytes, list[Tensor]]:
    """The safetensors header, length first, and the tensors in the order in which they follow it.

    The library's own writer is not used because it leaves no place between writing and renaming to flush
    the file to the disk. Wide types come first, so that every tensor is aligned.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, [tensors[name] for name in names]


def _check_file(path: Path) -> None:
    """Look at the file before anything parses it: a plain file with a header within the limits."""
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode):
            raise RunError(f"{path} must be a plain file, not a link or a directory: it is not followed")
        above = header_excess(path)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"nothing is saved in {path.parent}: {path.name} is missing") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    if above:
        raise RunError(f"{path} is damaged: its header claims {above}; use another copy of it")


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        state = json.loads(text)
        if isinstance(state["plain"], dict) and isinstance(state["version"], int):
            return state
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise RunError(f"{path} is damaged: its header is not one of vitlr's; use another copy of it")


def _check_kind(state: Mapping[str, Any], kind: str, oldest: int, version: int, path: Path) -> None:
    if state.get("kind") != kind:
        raise RunError(f"{path} holds a {state.get('kind')!r}, not a {kind!r}")
    if not oldest <= state["version"] <= version:
        newer = "newer" if state["version"] > version else "older"
        raise RunError(
            f"{path} has format version {state['version']} and this vitlr reads {version}:"
            f" use the {newer} vitlr that wrote it"
        )
