"""Bytes, accuracy and speed of the replay memory's codecs.

    python benchmarks/memory.py --data-root OBJECTS --backbone VIT_TINY --out runs/results/real --json memory.json
    python benchmarks/memory.py --rates-only                     # encode and decode rates, no data needed

Accuracy: latent replay on NICv2-391, 300 latents, cut 11, orders 1, 2 and 3 of ``recipes/results-real.yaml``, with
float32, bfloat16, int8 and int4 latents. Runs that exist in ``--out`` are reused. The difference to float32 is
computed run by run (same order, same seed), so that its spread is that of the codec and not that of the orders.

Rates: latents of ViT-B/32 at 128 px (17 tokens of 768), 1500 in memory, mini-batches of 107 rows drawn at random,
compared with a plain copy of the float32 rows in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from vitlr.evaluation.records import read_metrics
from vitlr.latents.record import Latents
from vitlr.replay import MemoryConfig
from vitlr.replay.codec import CODECS
from vitlr.replay.memory import ReplayMemory
from vitlr.runs.plan import read_plan
from vitlr.runs.tracking import machine

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "results-real.yaml"
VARIANTS = {
    "float32": "latent replay (cut 11)",
    "bfloat16": "latent replay (cut 11, bfloat16)",
    "int8": "latent replay (cut 11, int8)",
    "int4": "latent replay (cut 11, int4)",
}


def rates(repeats: int, rows: int = 1500, drawn: int = 107) -> dict[str, dict[str, float]]:
    """Latents encoded (offered) and decoded (drawn) per second, medians; the codecs alternate."""
    rng = np.random.default_rng(0)
    latents = Latents(torch.randn(rows, 17, 768, generator=torch.Generator().manual_seed(0)))
    labels = rng.integers(0, 50, rows)
    memories = {name: ReplayMemory(MemoryConfig(capacity=rows, codec=name)) for name in CODECS}
    for memory in memories.values():
        memory.offer(latents, labels, 0, np.random.default_rng(0))
    seconds: dict[str, dict[str, list[float]]] = {name: {"encode": [], "draw": []} for name in CODECS}
    for _ in range(repeats):
        chosen = rng.choice(rows, drawn, replace=False)
        for name, memory in memories.items():
            start = time.perf_counter()
            CODECS[name].encode(latents.tokens_NTD[:drawn])
            encoded = time.perf_counter()
            memory.draw(chosen)
            seconds[name]["encode"].append(encoded - start)
            seconds[name]["draw"].append(time.perf_counter() - encoded)
    return {
        name: {
            "bytes_per_latent": memories[name].num_bytes // rows,
            **{f"{part}_per_second": drawn / statistics.median(values) for part, values in parts.items()},
        }
        for name, parts in seconds.items()
    }


def accuracies(options: argparse.Namespace) -> dict[str, dict]:
    """Final accuracy of each run, and bytes of the memory, for each codec."""
    command = [sys.executable, "-m", "vitlr", "compare", str(RECIPE), "--out", str(options.out)]
    command += ["--data-root", options.data_root, "--backbone", options.backbone]
    for variant in VARIANTS.values():
        command += ["--only", variant]
    subprocess.run(command, check=True)
    plan, found = read_plan(RECIPE), {}
    for codec, variant in VARIANTS.items():
        ends = [read_metrics(config.run_dir)[-1] for config in plan.configs(variant, options.out)]
        found[codec] = {
            "accuracy": [end["test_accuracy"] for end in ends],
            "bytes": ends[0]["memory"]["bytes"],
        }
    for codec in found:
        loss = np.subtract(found["float32"]["accuracy"], found[codec]["accuracy"])
        found[codec] |= {
            "loss_points": 100 * float(loss.mean()),
            "loss_sd": 100 * float(loss.std(ddof=1)) if len(loss) > 1 else 0.0,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", help="the real objects")
    parser.add_argument("--backbone", help="the real ViT-Ti")
    parser.add_argument("--out", type=Path, default=Path("runs/results/real"), help="default %(default)s")
    parser.add_argument("--rates-only", action="store_true")
    parser.add_argument("--repeats", type=int, default=31, help="of the rates (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if not options.rates_only and not (options.data_root and options.backbone):
        parser.error("give --data-root and --backbone, or --rates-only")
    info = machine()
    figures: dict = {"machine": info, "rates": rates(options.repeats)}
    print(f"{info['processor']}, {info['threads']} threads, torch {info['torch']}")
    print(f"{'codec':<10}{'bytes a latent':>15}{'encoded a s':>13}{'drawn a s':>12}   17 tokens of 768")
    for codec, row in figures["rates"].items():
        print(
            f"{codec:<10}{row['bytes_per_latent']:>15,}{row['encode_per_second']:>13,.0f}{row['draw_per_second']:>12,.0f}"
        )
    if not options.rates_only:
        figures["accuracy"] = accuracies(options)
        print(
            f"\n{'codec':<10}{'memory, kB':>12}{'accuracy':>10}{'loss, points':>14}   300 latents, real objects"
        )
        for codec, row in figures["accuracy"].items():
            print(
                f"{codec:<10}{row['bytes'] / 1e3:>12,.0f}{np.mean(row['accuracy']):>10.1%}"
                f"{row['loss_points']:>8.2f} ± {row['loss_sd']:.2f}"
            )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
