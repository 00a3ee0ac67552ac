"""The network as it will be trained, in figures."""

from __future__ import annotations

import math
from typing import Any

from vitlr.data.names import counted
from vitlr.latents.network import Network
from vitlr.replay.codec import CODECS, PIXELS, codec_named
from vitlr.runs.materials import open_network
from vitlr.runs.settings import RunConfig
from vitlr.vit import account

__all__ = ["inspect_network", "inspection_text"]


def inspect_network(config: RunConfig) -> dict[str, Any]:
    """Everything that ``vitlr inspect`` prints, in types of JSON."""
    network = open_network(config)
    backbone, cost = network.backbone, account(network.backbone, network.cut)
    codec = PIXELS if network.images else codec_named(config.memory.codec)
    choices = (PIXELS,) if network.images else tuple(CODECS.values())
    shape = network.latent_shape
    latent_bytes = codec.bytes_per_latent(*shape)
    capacity = config.memory.capacity_for(*shape, codec)
    parameters = network.new_head().named_parameters()
    trained = {name: list(weight.shape) for name, weight in parameters if weight.requires_grad}
    trained_parameters = sum(map(math.prod, trained.values()))
    return {
        "backbone": backbone.name,
        "family": backbone.family.model_type,
        "blocks": backbone.num_blocks,
        "cut": network.cut,
        "width": backbone.width,
        "heads": backbone.heads,
        "patch_size": backbone.patch_size,
        "image_size": backbone.image_size,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "precision": network.precision,
        "frozen_parameters": cost.frozen_parameters + cost.trained_parameters - trained_parameters,
        "trained_parameters": trained_parameters,
        "trained": trained,
        "classifier": f"{backbone.width} numbers a class, no bias",
        "latent": {
            "tokens": shape[0],
            "width": shape[1],
            "codec": codec.name,
            "bytes": latent_bytes,
            "bytes_by_codec": {each.name: each.bytes_per_latent(*shape) for each in choices},
            "image_bytes": cost.image_bytes,
        },
        "memory": {"capacity": capacity, "bytes": capacity * latent_bytes, "policy": config.memory.policy},
        "statistics": _statistics(network),
        "gflop": {
            "network": cost.network_flop / 1e9,
            "trunk": cost.trunk_flop / 1e9,
            "head": cost.head_flop / 1e9,
            "head_training_step": cost.head_step_flop / 1e9,
            "head_training_step_plain": cost.plain_head_step_flop / 1e9,
        },
    }


def _statistics(network: Network) -> dict[str, Any] | None:
    """Size of the sums over class tokens, for the method that keeps them; see ``learning.statistics``."""
    width = len(network.class_blocks) * network.skeleton.width
    if not width:
        return None
    sizes = {"bytes": 4 * width * (width + 1), "class_bytes": 8 * width + 24}
    return {"blocks": len(network.class_blocks), "width": width, **sizes}


def inspection_text(report: dict[str, Any]) -> str:
    """The same for people."""
    latent, memory, gflop = report["latent"], report["memory"], report["gflop"]
    cut, blocks, statistics = report["cut"], report["blocks"], report["statistics"]
    names = list(report["trained"])
    width = max(len(name) for name in names)
    frozen = f"embedding and {_blocks(1, cut)}" if cut else "embedding"
    trained = f"{_blocks(cut + 1, blocks)} and final norm" if cut < blocks else "final norm"
    if any(name.startswith("embeddings.") for name in names):
        frozen, trained = "nothing", f"embedding, {trained}"
    kept = f"{latent['tokens']} token{'s' if latent['tokens'] > 1 else ''} x {latent['width']}"
    if latent["codec"] == PIXELS.name:
        kept = "the image itself"
    others = ", ".join(
        f"{name} {size:,}" for name, size in latent["bytes_by_codec"].items() if name != latent["codec"]
    )
    lines = [
        f"{report['backbone']} ({report['family']}): {blocks} blocks of width {report['width']},"
        f" {report['heads']} heads, patch {report['patch_size']}, image {report['image_size']} px,"
        f" mean {report['mean']}, std {report['std']}",
        "",
        f"trunk       {frozen}, frozen, in {report['precision']}: {report['frozen_parameters']:,} parameters,"
        f" {gflop['trunk']:.3f} GFLOP an image",
        f"latent      {kept}: {latent['bytes']:,} bytes as {latent['codec']}"
        f" ({others}{'; ' if others else ''}raw image {latent['image_bytes']:,})",
        f"head        {trained}, trained: {report['trained_parameters']:,} parameters, {gflop['head']:.3f} GFLOP"
        f" an image, {gflop['head_training_step']:.3f} a training step"
        f" ({gflop['head_training_step_plain']:.3f} with plain blocks)",
        f"classifier  {report['classifier']}",
        f"memory      {memory['capacity']:,} latents, {memory['bytes'] / 1e6:.1f} MB, policy {memory['policy']}",
        *([] if statistics is None else [_statistics_line(statistics)]),
        "",
        "trained parameters:",
        *(f"  {name:<{width}}  {' x '.join(map(str, report['trained'][name]))}" for name in names),
    ]
    return "\n".join(lines)


def _statistics_line(statistics: dict[str, Any]) -> str:
    return (
        f"statistics  {statistics['width']:,} numbers of an image, class tokens of the last"
        f" {counted(statistics['blocks'], 'block')}: {statistics['bytes'] / 1e6:.1f} MB,"
        f" and {statistics['class_bytes']:,} bytes a class"
    )


def _blocks(first: int, last: int) -> str:
    return f"block {first}" if first == last else f"blocks {first} to {last}"
