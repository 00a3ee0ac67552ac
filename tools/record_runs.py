"""Record small runs of every method, policy, codec and trunk precision, and compare two recordings bit by bit.

Each run learns a few experiences of rendered objects through the command line and is reduced to digests: of its records
without their seconds, its predictions, the exported model's weights and the tensors of its checkpoint (by content, so
that a tensor may be renamed). Two recordings of the same machine must be equal unless a result was meant to change.

    python tools/record_runs.py record before.json
    python tools/record_runs.py record after.json
    python tools/record_runs.py compare before.json after.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from vitlr import __version__
from vitlr.cli import main as vitlr

_COMMON = (
    "--data.frames=1",
    "--data.scenario=nc",
    "--memory.capacity=60",
    "--backbone.cache=off",
    "--quiet",
)
# What version 0.1 did where nothing was said; it did not know memory.tokens.
_FIRST = (
    "--learner.method=latent_replay",
    "--learner.epochs=4",
    "--learner.first_lr=1e-2",
    "--learner.lr=1e-2",
    "--learner.momentum=0.9",
    "--learner.si_lambda=0",
    "--learner.der_beta=0.5",
    "--memory.codec=float32",
    *(() if __version__.startswith("0.1") else ("--memory.tokens=all",)),
)
_RATE = ("--learner.first_lr=1e-3", "--learner.lr=1e-3")

RUNS: dict[str, tuple[str, ...]] = {
    "latent_replay": (),
    "latent_replay cut 4": ("--backbone.cut=4",),
    "latent_replay cut 6": ("--backbone.cut=6",),
    "latent_replay with lambda": (
        "--learner.si_lambda=100",
        "--seed=1",
        "--data.order=1",
    ),
    "ar1free": ("--learner.method=ar1free",),
    "ar1_replay": ("--learner.method=ar1_replay", "--learner.si_lambda=1000"),
    "native": ("--learner.method=native", *_RATE),
    "ar1": ("--learner.method=ar1", "--learner.si_lambda=1000", *_RATE),
    "cwr": ("--learner.method=cwr", *_RATE),
    "der": ("--learner.method=der", "--learner.der_alpha=0.2", *_RATE),
    "naive": ("--learner.method=naive", *_RATE),
    "cumulative": ("--learner.method=cumulative", *_RATE),
    "class_mean": ("--learner.method=class_mean",),
    "slda": ("--learner.method=slda", "--backbone.cut=6"),
    "ranpac": ("--learner.method=ranpac", "--learner.ranpac_width=200"),
    "policy random": ("--memory.policy=random",),
    "policy reservoir": ("--memory.policy=reservoir",),
    "policy balanced": ("--memory.policy=balanced",),
    "codec bfloat16": ("--memory.codec=bfloat16",),
    "codec int8": ("--memory.codec=int8",),
    "codec int4": ("--memory.codec=int4", "--memory.capacity=40"),
    "memory in bytes": ("--memory.bytes=2MB",),
    "trunk float32": ("--backbone.precision=float32",),
    "trunk bfloat16": ("--backbone.precision=bfloat16",),
    "trunk int8": ("--backbone.precision=int8",),
    "lwf": ("--learner.method=lwf", *_RATE),
    "complementary": ("--learner.method=complementary", "--learner.views=1", "--memory.tokens=4"),
    "training float32": (
        "--learner.train_precision=float32",
        "--backbone.precision=float32",
    ),
}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:20]


def tensors_of(path: Path) -> list[str]:
    """Digests of the tensors in a safetensors file, sorted: independent of their names."""
    if not path.is_file():
        return []
    tensors = load_file(path).values()
    return sorted(
        digest(
            f"{a.dtype}{tuple(a.shape)}".encode()
            + a.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
        )
        for a in tensors
    )


def recorded(run: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds")
    return {
        "test_accuracy": lines[-1]["test_accuracy"],
        "records": digest(json.dumps(lines, sort_keys=True).encode()),
        "predictions": digest((run / "predictions.json").read_bytes()),
        "model": tensors_of(run / "model" / "model.safetensors"),
        "checkpoint": tensors_of(run / "checkpoint" / "state.safetensors"),
    }


def record(out: Path, data: Path) -> None:
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, flags) in enumerate(RUNS.items()):
            run = Path(folder) / str(number)
            arguments = [
                "train",
                f"--data.root={data}",
                f"--out={run}",
                *_COMMON,
                *_FIRST,
                *flags,
            ]
            if code := vitlr(arguments):
                sys.exit(f"{name} ended with {code}")
            results[name] = recorded(run)
            out.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{name}: {results[name]['test_accuracy']:.4f}", flush=True)


def compare(before: Path, after: Path) -> int:
    old, new = json.loads(before.read_text()), json.loads(after.read_text())
    different = 0
    for name in old:
        parts = [part for part in old[name] if old[name][part] != new.get(name, {}).get(part)]
        different += bool(parts)
        print(f"{name}: {'equal' if not parts else 'DIFFERENT: ' + ', '.join(parts)}")
    return 1 if different else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/tmp/vitlr-recorded-objects"),
        help="rendered objects",
    )
    options = parser.parse_args()
    if options.action == "record":
        record(options.files[0], options.data)
    else:
        sys.exit(compare(*options.files))
