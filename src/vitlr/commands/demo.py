"""``vitlr demo``: the main job on what is in the package, with a table and a picture."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vitlr.commands.compare import print_table, run_plan
from vitlr.commands.console import say
from vitlr.errors import RunError
from vitlr.storage.files import clear_directory, write_atomically
from vitlr.storage.locks import locked

__all__ = ["add_parsers", "demo_plan"]

MARKER = "demo.json"  # in the directory of a demo, which a later demo may replace


def add_parsers(commands: argparse._SubParsersAction, common: dict) -> None:
    """Add ``demo``."""
    parser = commands.add_parser(
        "demo",
        help="learn 391 small experiences of rendered objects, beside other methods",
        description="Render 50 objects, learn the 391 experiences of CORe50's NICv2-391 by two memories, latent replay"
        " alone, by naive fine-tuning and by retraining on everything, and show accuracies. Needs no download.",
        epilog="example: vitlr demo --out runs/demo",
        **common,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="default runs/demo; an earlier demo is replaced"
    )
    parser.add_argument("--frames", type=int, default=4, help="frames a video (default 4)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run_command=demo)


def demo_plan(out: Path, frames: int) -> Any:
    """Two memories, latent replay, naive and cumulative on NICv2-391, order 0, seed 0; settings as in recipes/."""
    from vitlr.runs.plan import Plan

    return Plan(
        title="NICv2-391 on rendered objects: 391 experiences, one video each",
        base={
            "data.dataset": "rendered",
            "data.scenario": "nicv2_391",
            "data.root": str(out / "data"),
            "data.frames": frames,
            "backbone.name": "bundled",
            "checkpoint_every": 100,
        },
        variants={
            "two memories": {"learner.method": "complementary"},
            # With all tokens a run leaves a model, for vitlr rollout and the notebooks.
            "latent replay": {
                "learner.method": "latent_replay",
                "memory.capacity": 300,
                "memory.tokens": "all",
            },
            "naive": {"learner.method": "naive", "memory.tokens": "all"},
            "cumulative": {"learner.method": "cumulative", "memory.tokens": "all"},
        },
        orders=(0,),
        seeds=(0,),
    )


def demo(options: argparse.Namespace) -> int:
    where = options.out
    plan = demo_plan(where, options.frames)
    for variant in plan.variants:
        list(plan.configs(variant, where))  # a wrong setting is refused before anything is removed or made
    _check_place(where)
    with locked(where):  # not while another demo runs there
        _check_place(where)
        clear_directory(where, last=MARKER)
        write_atomically(where / MARKER, [json.dumps({"frames": options.frames}).encode() + b"\n"])
    rows = run_plan(plan, where, quiet=options.quiet or options.json)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(plan.title, rows)
        say(f"records, TensorBoard events and models: {where}\npicture: {where / 'accuracy.png'}")
    return 1 if any(row["failures"] for row in rows) else 0


def _check_place(where: Path) -> None:
    """Raises RunError if the directory holds something else than a demo."""
    if where.exists() and not where.is_dir():
        raise RunError(f"{where} is a file; choose another --out")
    known = not where.exists() or (where / MARKER).is_file()
    if not known and any(path.name != ".lock" for path in where.iterdir()):
        raise RunError(f"{where} exists and holds no demo; choose another --out")
