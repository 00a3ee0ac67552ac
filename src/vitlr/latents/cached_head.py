"""A head kept beside the latents it reads, so that a run over cached latents need not load the trunk.

One file, ``head-DIGEST.safetensors``, named by a digest of its own bytes: one that is torn or altered is not
taken for a head. It is float32, bit by bit what was loaded.
"""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from vitlr.errors import BackboneError, RunError
from vitlr.storage.files import write_atomically
from vitlr.storage.locks import locked
from vitlr.storage.reading import read_regular
from vitlr.vit.backbone import Backbone
from vitlr.vit.stored import head_state, skeleton_from_state

__all__ = ["keep_head", "kept_head"]

LIMIT = 2**29  # bytes: a head as large as the network is loaded from the network's own files


def keep_head(directory: Path, backbone: Backbone, cut: int) -> None:
    """Write the head of a loaded network into a cache's directory, where there is none and the disk takes it."""
    if not directory.is_dir() or any(directory.glob("head-*.safetensors")):
        return
    tensors, plain = head_state(backbone, cut)
    if sum(tensor.numel() * 4 for tensor in tensors.values()) > LIMIT:
        return
    text = json.dumps({**plain, "name": backbone.name})
    content = save_tensors({key: value.contiguous() for key, value in tensors.items()}, {"state": text})
    with suppress(RunError, OSError), locked(directory.parent):
        write_atomically(directory / f"head-{_digest(content)}.safetensors", [content])


def kept_head(directory: Path, name: str, cut: int) -> Backbone | None:
    """A network without its trunk (``skeleton_from_state``), or None where no whole one is kept."""
    for path in sorted(directory.glob("head-*.safetensors")):
        try:
            content = read_regular(path)
            if path.stem != f"head-{_digest(content)}":
                raise ValueError("torn")
            size = int.from_bytes(content[:8], "little")
            plain = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["state"])
            return skeleton_from_state(name, load_tensors(content), plain, cut)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, BackboneError):
            with suppress(OSError):
                path.unlink()  # the next run that loads the network writes another
    return None


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()
