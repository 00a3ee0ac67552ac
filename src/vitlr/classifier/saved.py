"""A classifier in a directory: one state file, and its network beside it.

What is saved belongs to the data it was taught, not to the machine: it names the device and precision it was taught in,
for information, and needs neither. Format 2 is written; format 1, of version 0.1, is read.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitlr.classifier.knowledge import Knowledge
from vitlr.errors import RunError
from vitlr.latents.network import Network
from vitlr.latents.settings import BackboneConfig
from vitlr.learning import LearnerConfig, needs_of
from vitlr.replay import MemoryConfig
from vitlr.storage.locks import locked
from vitlr.storage.state import checksum, digest_of, load_state, saved_digest, write_state
from vitlr.vit.compute.precision import Compute
from vitlr.vit.stored import backbone_state

__all__ = ["KIND", "VERSION", "find_network", "kept_by", "read", "write"]

KIND, VERSION = "classifier", 2
_LATER = (
    *("tokens", "class_tokens", "statistics_bytes", "views", "view_budget", "lwf_lambda", "lwf_temperature"),
    *("slda_shrinkage", "ranpac_width", "ranpac_ridge"),
)


def write(
    directory: Path,
    knowledge: Knowledge,
    params: dict[str, Any],
    params_in_use: dict[str, Any],
    *,
    include_trunk: bool,
    known: set[str],
) -> None:
    """Replace what is saved in the directory; whole, or as it was before.

    Args:
        params: the settings as they are now, in types that JSON has. params_in_use: those it was made from.
        known: digests of what the caller loaded from there and saved there, to which this one is added.

    Raises:
        RunError: the directory cannot be written or is in use, or another program has saved there since.
    """
    network = knowledge.network
    tensors, plain = knowledge.state()
    plain |= {
        "params": params,
        "params_in_use": params_in_use,
        "network": {"cut": network.cut, "taught_in": str(network.compute)},
        "backbone": {"sha256": network.digest, "included": include_trunk, "traits": network.traits},
    }
    with locked(directory):
        if known and saved_digest(directory) not in (None, *known):
            raise RunError(
                f"{directory} was saved by another program since it was loaded here, whose lessons would be lost: load"
                " it again and repeat yours, or save to another directory"
            )
        # Stored networks are named after their content: the state in use never loses its own before
        # the rename that takes the new state into use.
        if include_trunk:
            network.store(directory)
        digest = digest_of(tensors, plain, kind=KIND, version=VERSION)
        try:
            write_state(directory, tensors, plain, kind=KIND, version=VERSION)
        finally:  # what failed or was interrupted may be there all the same
            if saved_digest(directory) == digest:
                known.add(digest)
        network.discard(directory, keep=network.digest if include_trunk else None)


def read(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and plain data of a saved classifier, in format 2.

    Raises:
        RunError: nothing is saved there, or it is damaged or of a later format.
    """
    tensors, plain = load_state(directory, kind=KIND, version=VERSION, oldest=1)
    if "lessons" not in plain:
        _migrate_from_1(tensors, plain)
    return tensors, plain


def _migrate_from_1(tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Format 1 had importances outside the hook's state, did not count images, and named its network's precision."""
    for name in list(tensors):
        if name.startswith(("importance.", "anchor.")):
            tensors[f"hook.{name}"] = tensors.pop(name)
    labels = plain["labels"]
    # Its lessons have no names: what all of them came to stands for them, so that it is not merged with itself.
    plain["lineage"] = [checksum(tensors)[:16]]
    # An interrupt at the very end of an experience could leave rows that no label has.
    tensors["past"][len(labels) :] = 0
    tensors["classifier"][len(labels) :] = 0
    counts = tensors["memory.labels"].bincount(minlength=len(labels)).tolist()
    plain["images"] = [0 if label is None else count for label, count in zip(labels, counts, strict=True)]
    plain["lessons"] = plain["learner"]["experiences_learned"]
    network, device = plain["network"], str(plain["params_in_use"]["device"])
    precision = network.pop("precision")
    network["taught_in"] = f"{precision} on {device}" if device.startswith("cuda") else precision
    plain["backbone"]["traits"] = plain["backbone"].pop("outline", {})
    plain["backbone"]["rounded"] = network["cut"] if precision == "bfloat16" else 0
    for settings in (plain["params"], plain["params_in_use"]):
        for name in _LATER:  # settings that 0.1 did not have, which its methods do not read
            settings.setdefault(name, getattr(MemoryConfig if name == "tokens" else LearnerConfig, name))


def find_network(
    directory: Path, plain: dict[str, Any], elsewhere: str | Path | None, compute: Compute
) -> Network:
    """The network of a saved classifier, from beside it or from where its name leads.

    Raises:
        RunError: it is missing, damaged or has other weights. BackboneError: there is none of that name.
    """
    params, saved = plain["params_in_use"], plain["backbone"]
    learner = {field.name: params[field.name] for field in fields(LearnerConfig)}
    kept = kept_by(LearnerConfig(**learner), MemoryConfig(tokens=params["tokens"]))
    name, cut = params["backbone"] if elsewhere is None else str(elsewhere), plain["network"]["cut"]
    if saved["included"] and elsewhere is None:
        found = Network.restore(directory, saved["sha256"], name, cut=cut, compute=compute, **kept)
    else:
        config = BackboneConfig(name=name, blocks=params["blocks"], image_size=params["image_size"], cut=cut)
        found = Network.open(config, compute=compute, **kept)
        if _digest_of(found, saved.get("rounded")) != saved["sha256"]:
            raise RunError(
                f"the network {name} has other weights or another normalisation than the one that {directory} was"
                " saved with: give the directory of that one as backbone"
            )
    other = [key for key, value in saved["traits"].items() if found.traits.get(key) != value]
    if other:
        raise RunError(
            f"the network {name} has {other[0]} {found.traits.get(other[0])!r} and the one that {directory} was saved"
            f" with has {saved['traits'][other[0]]!r}: give the directory of that one as backbone"
        )
    return found


def kept_by(learner: LearnerConfig, memory: MemoryConfig) -> dict[str, Any]:
    """What of an image the network keeps for this method and memory, as ``Network.open`` takes it."""
    needs = needs_of(learner)
    return {"class_tokens": (needs.class_tokens, needs.statistics_bytes), "grid": memory.grid}


def _digest_of(network: Network, rounded: int | None) -> str:
    """The network's digest; as format 1 had it if ``rounded`` says how many blocks were rounded to bfloat16."""
    if rounded is None:
        return network.digest
    tensors, plain = backbone_state(network.backbone)
    family = network.backbone.family
    blocks = tuple(f"{family.blocks_at}.{number}." for number in range(rounded))
    frozen = (f"{family.embeddings_at}.", *blocks) if rounded else ()
    stored = {
        key: value.to(torch.bfloat16 if frozen and key.startswith(frozen) else torch.float32)
        for key, value in tensors.items()
    }
    return checksum(stored, json.dumps(plain["normalisation"], sort_keys=True))
