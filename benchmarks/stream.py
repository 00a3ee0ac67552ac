"""The whole NICv2-391 protocol at full size: time, peak memory, growth along the stream, share of evaluation.

    python benchmarks/stream.py                                  # 119,894 training images
    python benchmarks/stream.py --frames 60 --json stream.json   # a fifth of them; the full time is extrapolated

ViT-B/32 at 128 px (random weights, which do not change the time), cut 11, 1500 latents, mini-batch 128, 4 epochs.
The reduced test set (2,249 frames) is encoded once and evaluated after every experience. ``--distinct`` frames of
each video are rendered; the other frame numbers are links to them, so that rendering does not take longer than the
run. Files are opened and decoded as often as in the real tree; only the accuracy is meaningless.

Extrapolation from a part of the frames: encoding grows with the number of images, learning with the number of
mini-batches. Both are counted for the full stream; the rest is taken as measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from vitlr.commands.console import Bar
from vitlr.data import core50_lists, load_stream
from vitlr.data.core50 import protocols, published_videos, video_frames
from vitlr.data.experience import Stream
from vitlr.data.settings import DataConfig
from vitlr.evaluation.records import read_metrics
from vitlr.latents.settings import BackboneConfig
from vitlr.learning import LearnerConfig
from vitlr.learning.minibatch import epoch_minibatches
from vitlr.rendered.dataset import frame_numbers, render_dataset
from vitlr.replay import MemoryConfig
from vitlr.runs.settings import RunConfig
from vitlr.runs.tracking import machine
from vitlr.runs.train import train

VIDEO = 300


def lay_out(root: Path, rendered: Path, frames: int, distinct: int) -> None:
    """All frames of the test videos and ``frames`` of each training video, as links to the nearest rendered frames."""
    available, numbers = np.array(frame_numbers(distinct)), set(frame_numbers(frames))
    for session, object_ in published_videos():
        test = session in protocols()["sessions"]["test"]
        for path in video_frames(session, object_):
            number = int(path[-7:-4])
            if not test and number not in numbers:
                continue
            nearest = available[np.abs(available - number).argmin()]
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(rendered / f"{path[:-7]}{nearest:03d}.png", root / path)


def minibatches(stream: Stream, capacity: int, batch_size: int) -> int:
    """Mini-batches of one epoch, summed over all experiences, with the memory as full as it is at that time."""
    rng, stored, steps = np.random.default_rng(0), 0, 0
    for experience in stream.experiences:
        steps += sum(1 for _ in epoch_minibatches(len(experience), stored, batch_size, rng))
        stored = min(capacity, stored + len(experience))
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=VIDEO, help="per video, of 300 (default all)")
    parser.add_argument("--distinct", type=int, default=12, help="rendered frames per video (default 12)")
    parser.add_argument("--backbone", default="random:B_32", help="default %(default)s")
    parser.add_argument("--cut", type=int, default=11, help="default %(default)s")
    parser.add_argument("--precision", default="auto", help="of the trunk (default %(default)s)")
    parser.add_argument("--memory", type=int, default=1500, help="default %(default)s")
    parser.add_argument("--codec", default=MemoryConfig().codec, help="of the memory (default %(default)s)")
    parser.add_argument("--rendered", type=Path, help="folder to keep and reuse the rendered frames in")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.rendered and options.rendered.parent) as folder:
        rendered = options.rendered or Path(folder) / "rendered"
        if not rendered.exists():
            render_dataset(rendered, options.distinct)
        root = Path(folder) / "frames"
        lay_out(root, rendered, options.frames, options.distinct)
        config = RunConfig(
            data=DataConfig(dataset="core50", root=str(root), scenario="nicv2_391", order=1, test="reduced"),
            backbone=BackboneConfig(
                name=options.backbone,
                image_size=128,
                cut=options.cut,
                precision=options.precision,
                cache="off",
            ),
            memory=MemoryConfig(capacity=options.memory, codec=options.codec, tokens="all"),
            learner=LearnerConfig(method="latent_replay"),
            out=str(Path(folder) / "run"),
            tensorboard=False,
        )
        figures = run(config)
    report(figures, options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def run(config: RunConfig) -> dict:
    stream = load_stream(config.data, lambda done, total: None)
    began = time.perf_counter()
    with Bar("learning", quiet=False) as bar:
        train(
            config,
            on_record=lambda record: bar.update(
                record.experience + 1, len(stream), f"{record.num_images} images"
            ),
        )
    wall = time.perf_counter() - began
    lines = read_metrics(config.run_dir)
    part = {name: sum(line["seconds"][name] for line in lines) for name in ("encode", "learn", "evaluate")}
    cost = [line["seconds"]["encode"] + line["seconds"]["learn"] for line in lines]
    seen = np.cumsum([len(experience) for experience in stream.experiences])
    images = int(seen[-1])
    full = max(5, 1 + int(np.searchsorted(seen, config.memory.capacity)))
    batch, capacity = config.learner.batch_size, config.memory.capacity
    # Lists of the same order at full size need no images.
    whole = core50_lists(config.data.scenario, config.data.order)
    full_images = sum(len(experience) for experience in whole.experiences)
    image_ratio = full_images / images
    step_ratio = minibatches(whole, capacity, batch) / minibatches(stream, capacity, batch)
    other = wall - sum(part.values())
    derived = part["encode"] * image_ratio + part["learn"] * step_ratio + part["evaluate"] + other
    return {
        "images": images,
        "of": full_images,
        "test_images": len(stream.test),
        "experiences": len(lines),
        "seconds": {**part, "other": other, "total": wall},
        "full_seconds": derived,
        "derived": images != full_images,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        # Neighbours are averaged, because a single experience depends on what else the machine does. Experiences
        # have fewer mini-batches until the memory is full; with all frames the first experience fills it.
        "full_since": full,
        "growth": float(np.median(cost[-10:]) / np.median(cost[full : full + 10])),
        "evaluation_share": part["evaluate"] / wall,
        "precision": config.backbone.precision,
        "machine": machine(),
    }


def report(figures: dict, options: argparse.Namespace) -> None:
    seconds = figures["seconds"]
    print(
        f"{figures['machine']['processor']}, {figures['machine']['threads']} threads;"
        f" {figures['images']:,} of {figures['of']:,} training images, cut {options.cut}"
    )
    for name, value in seconds.items():
        print(f"  {name:<10}{value:9.1f} s  {value / seconds['total']:6.1%}")
    kind = "derived" if figures["derived"] else "measured"
    print(f"  full stream ({kind}): {figures['full_seconds'] / 60:.1f} min")
    print(f"  peak memory {figures['peak_memory_bytes'] / 2**30:.2f} GiB")
    print(
        f"  an experience near 390 takes {figures['growth']:.2f} times as long as one near {figures['full_since'] + 5},"
        " when the memory is already full (encoding and learning)"
    )


if __name__ == "__main__":
    main()
