"""``vitlr pretrain``: train a small network like the bundled one, on rendered objects that no stream contains."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vitlr.commands.console import Bar, say

__all__ = ["add_parsers"]


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``pretrain``."""
    parser = commands.add_parser(
        "pretrain",
        help="pretrain a small ViT on rendered objects",
        description="Pretrain a small ViT like the bundled one, on rendered objects that no stream contains.",
        epilog="example: vitlr pretrain my-vit --epochs 10",
        **common,
    )
    parser.add_argument("out", type=Path, help="new directory, in Hugging Face format")
    for name, kind, default, text in (
        ("objects", int, 300, "rendered objects to distinguish"),
        ("views", int, 70, "frames rendered of each"),
        ("epochs", int, 7, "passes over all frames"),
        ("blocks", int, 6, "transformer blocks"),
        ("width", int, 192, "width"),
        ("heads", int, 3, "attention heads"),
        ("batch-size", int, 64, "images per step"),
        ("lr", float, 7e-4, "peak learning rate"),
        ("seed", int, 0, "seed of objects, weights and order"),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default {default})")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run_command=pretrain_network)


def pretrain_network(options: argparse.Namespace) -> int:
    from vitlr.rendered.pretrain import PretrainConfig, pretrain

    names = ("objects", "views", "epochs", "blocks", "width", "heads", "batch_size", "lr", "seed")
    config = PretrainConfig(**{name: getattr(options, name) for name in names})
    with Bar("pretraining", quiet=options.quiet or options.json) as bar:
        report = pretrain(
            config, options.out, progress=lambda stage, done, total: bar.update(done, total, stage)
        )
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        say(
            f"{options.out}: nearest class mean on the 50 objects {report['nearest_class_mean_accuracy']:.3f}"
            f" (untrained {report['nearest_class_mean_accuracy_untrained']:.3f})"
        )
    return 0
