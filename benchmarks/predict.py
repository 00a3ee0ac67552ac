"""From a camera's array to a label: milliseconds per frame, and frames per second in batches.

    python benchmarks/predict.py                              # ViT-B/32 at 128 px, cut 11, 640 x 480 frames
    python benchmarks/predict.py --precisions float32,int8 --json predict.json

Weights are random, which does not change the time. ``network alone`` is one forward pass of the same network in
transformers on prepared float32 pixels, with no resizing, copying or labels, for comparison. It alternates with the
precisions in one run; medians are reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from vitlr import LatentReplayClassifier
from vitlr.runs.tracking import machine
from vitlr.vit import default_precision, load_backbone

CLASSES = 50


def taught(backbone: str, precision: str) -> LatentReplayClassifier:
    """A classifier that was shown one random frame of each class."""
    model = LatentReplayClassifier(
        backbone,
        image_size=128,
        cut=11,
        memory=CLASSES,
        precision=precision,
        epochs=1,
        method="latent_replay",
        tokens="all",
    )
    frames = np.random.default_rng(0).integers(0, 256, (CLASSES, 128, 128, 3), dtype=np.uint8)
    return model.partial_fit(frames, [f"object {number}" for number in range(CLASSES)])


def seconds(function, argument) -> float:
    start = time.perf_counter()
    function(argument)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="random:B_32", help="default %(default)s")
    parser.add_argument(
        "--precisions", default=default_precision(), help="comma-separated (default %(default)s here)"
    )
    parser.add_argument("--batches", default="1,8,64", help="frames at once (default %(default)s)")
    parser.add_argument("--camera", default="640x480", help="size of a frame (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=21, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    width, height = (int(side) for side in options.camera.split("x"))
    models = {precision: taught(options.backbone, precision) for precision in options.precisions.split(",")}
    network = load_backbone(options.backbone, image_size=128).model.eval()

    @torch.no_grad()
    def alone(pixels: torch.Tensor) -> None:
        network(pixels)

    info, rows = machine(), []
    print(
        f"{info['processor']}, {info['threads']} threads, torch {info['torch']}; frames of {width} x {height}"
    )
    print(f"{'frames at once':>14}  {'':<14}{'ms a frame':>11}{'frames a s':>12}")
    rng = np.random.default_rng(1)
    for batch in (int(text) for text in options.batches.split(",")):
        frames = rng.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
        pixels = torch.randn(batch, 3, 128, 128)
        ways = {
            **{name: (model.predict, frames) for name, model in models.items()},
            "network alone": (alone, pixels),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(options.repeats + 2):  # the first two warm up
            for name, (function, argument) in ways.items():
                taken = seconds(function, argument)
                if repeat >= 2:
                    times[name].append(taken)
        for name, values in times.items():
            median = statistics.median(values) / batch
            rows.append({"batch": batch, "way": name, "ms": 1e3 * median, "frames_per_second": 1 / median})
            print(f"{batch:>14}  {name:<14}{1e3 * median:>11.2f}{1 / median:>12.1f}", flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": info, "rows": rows}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
