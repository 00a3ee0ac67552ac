"""The network as it will be trained, in figures."""

from __future__ import annotations

from typing import Any

from vitlr.latents.network import Network
from vitlr.replay.codec import codec_named
from vitlr.runs.settings import RunConfig
from vitlr.vit import account

__all__ = ["inspect_network", "inspection_text"]


def inspect_network(config: RunConfig) -> dict[str, Any]:
    """Everything that ``vitlr inspect`` prints, in types of JSON."""
    network = Network.open(config.backbone)
    backbone, cost = network.backbone, account(network.backbone, network.cut)
    codec = codec_named(config.memory.codec)
    latent_bytes = codec.bytes_per_latent(cost.tokens, cost.width)
    capacity = config.memory.capacity_for(cost.tokens, cost.width)
    parameters = dict(network.new_head().named_parameters())
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
        "frozen_parameters": cost.frozen_parameters,
        "trained_parameters": cost.trained_parameters,
        "trained": {name: list(parameters[name].shape) for name in cost.trained_names},
        "classifier": f"{backbone.width} numbers a class, no bias",
        "latent": {
            "tokens": cost.tokens,
            "width": cost.width,
            "codec": codec.name,
            "bytes": latent_bytes,
            "bytes_by_codec": {
                name: codec_named(name).bytes_per_latent(cost.tokens, cost.width)
                for name in ("float32", "bfloat16", "int8", "int4")
            },
            "image_bytes": cost.image_bytes,
        },
        "memory": {"capacity": capacity, "bytes": capacity * latent_bytes, "policy": config.memory.policy},
        "gflop": {
            "network": cost.network_flop / 1e9,
            "trunk": cost.trunk_flop / 1e9,
            "head": cost.head_flop / 1e9,
            "head_training_step": cost.head_step_flop / 1e9,
            "head_training_step_plain": cost.plain_head_step_flop / 1e9,
        },
    }


def inspection_text(report: dict[str, Any]) -> str:
    """The same for people."""
    latent, memory, gflop = report["latent"], report["memory"], report["gflop"]
    cut, blocks = report["cut"], report["blocks"]
    names = list(report["trained"])
    width = max(len(name) for name in names)
    frozen = f"embedding and {_blocks(1, cut)}" if cut else "embedding"
    trained = f"{_blocks(cut + 1, blocks)} and final norm" if cut < blocks else "final norm"
    others = (
        f"{name} {size:,}" for name, size in latent["bytes_by_codec"].items() if name != latent["codec"]
    )
    lines = [
        f"{report['backbone']} ({report['family']}): {blocks} blocks of width {report['width']},"
        f" {report['heads']} heads, patch {report['patch_size']}, image {report['image_size']} px,"
        f" mean {report['mean']}, std {report['std']}",
        "",
        f"trunk       {frozen}, frozen, in {report['precision']}: {report['frozen_parameters']:,} parameters,"
        f" {gflop['trunk']:.3f} GFLOP an image",
        f"latent      {latent['tokens']} token{'s' if latent['tokens'] > 1 else ''} x {latent['width']}:"
        f" {latent['bytes']:,} bytes as {latent['codec']} ({', '.join(others)}; raw image {latent['image_bytes']:,})",
        f"head        {trained}, trained: {report['trained_parameters']:,} parameters, {gflop['head']:.3f} GFLOP"
        f" an image, {gflop['head_training_step']:.3f} a training step"
        f" ({gflop['head_training_step_plain']:.3f} with plain blocks)",
        f"classifier  {report['classifier']}",
        f"memory      {memory['capacity']:,} latents, {memory['bytes'] / 1e6:.1f} MB, policy {memory['policy']}",
        "",
        "trained parameters:",
        *(f"  {name:<{width}}  {' x '.join(map(str, report['trained'][name]))}" for name in names),
    ]
    return "\n".join(lines)


def _blocks(first: int, last: int) -> str:
    return f"block {first}" if first == last else f"blocks {first} to {last}"
