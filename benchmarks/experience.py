"""Seconds to learn one experience, compared with the published procedure and with a floor, in one run.

    python benchmarks/experience.py                      # cuts 12, 11, 10, 8 of ViT-B/32 at 128 px
    python benchmarks/experience.py --cuts 11 --json experience.json
    python benchmarks/experience.py --precision float32,bfloat16,int8

One experience of CORe50's NICv2-391 is a video of 300 frames (15 seconds at 20 Hz); 1500 latents are in
memory; mini-batches of 128; 4 epochs. Weights are random: they do not change the time.

* ours: frames decoded once (in threads, ahead of the trunk), trunk once, head with the last block folded, memory
  in its codec. ``from files`` is the rate of encoding from PNG files divided by that of the trunk on prepared pixels.
  With a float32 trunk, training is in float32; with the others, in the default of this processor.
* published: the same network, mini-batches and steps in the original procedure: float32, the new
  images of each mini-batch through the trunk again in every epoch (the frames decoded once and kept),
  the blocks of transformers for all tokens in plain PyTorch, a float32 memory. With --published-products onednn its
  linear layers use the same products as ours, which shows how much of the ratio comes from them.
* floor: the FLOP of our procedure divided by the rate of a large matrix product in the same precision (int8: for
  the whole trunk, though attention stays float32), the faster of PyTorch's and oneDNN's, measured in the same run.
  Decoding and the memory are not matrix products and are left out.

Ours and published alternate, so that drift of the machine's speed affects both; medians are reported. With
--published-epochs 1 only one of the four equal epochs is timed and multiplied.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from vitlr.data.images import iter_batches
from vitlr.latents.record import Latents
from vitlr.learning import GradientLearner, LearnerConfig
from vitlr.learning.minibatch import epoch_minibatches
from vitlr.rendered.dataset import render_dataset
from vitlr.replay import MemoryConfig
from vitlr.runs.tracking import machine
from vitlr.vit import account, default_precision, load_backbone, split
from vitlr.vit.compute.cut import normalised, pixel_scale
from vitlr.vit.compute.int8 import int8_is_fast
from vitlr.vit.compute.products import has_onednn, trained, with_linears

NEW, BATCH, EPOCHS, CLASSES = 300, 128, 4, 50


def product_rate(precision: str, size: int = 2048, repeats: int = 7) -> float:
    """Operations per second of a large matrix product: the best of several repeats and of the available kernels."""
    dtype = getattr(torch, precision)
    a, b = (torch.randn(size, size).mul(40).to(dtype) for _ in range(2))
    kernels = [torch._int_mm if dtype == torch.int8 else torch.matmul]  # sums of bytes in 32-bit integers
    if dtype != torch.int8 and has_onednn():
        kernels.append(lambda a, b: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
    best = float("inf")
    for multiply in kernels * repeats:
        start = time.perf_counter()
        multiply(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


class Ours:
    """One experience as vitlr learns it, timed part by part."""

    def __init__(self, backbone, cut: int, precision: str, memory: int, codec: str) -> None:
        self.trunk, head = split(backbone, cut, precision=precision)
        training = "float32" if precision == "float32" else default_precision()
        self.training = training
        self.learner = GradientLearner(
            head,
            LearnerConfig(method="latent_replay", epochs=EPOCHS, batch_size=BATCH, train_precision=training),
            MemoryConfig(capacity=memory, codec=codec),
            np.random.default_rng(0),
        )
        rng = np.random.default_rng(1)
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(memory, *self.trunk.latent_shape, generator=generator)
        self.learner.learn(Latents(latents[:2]), np.array([0, CLASSES - 1]), 0)
        self.learner.memory.offer(Latents(latents), rng.integers(0, CLASSES, memory), 0, rng)
        self.experience = 0

    def run(self, paths: list[str], root: Path) -> dict[str, float]:
        """Decoding runs in threads ahead of the trunk, as in a run; only the time spent waiting for it counts."""
        latents, waited, computed = [], 0.0, 0.0
        last = time.perf_counter()
        for _, images in iter_batches(paths, root, size=128, batch_size=64):
            arrived = time.perf_counter()
            latents.append(self.trunk(torch.from_numpy(images)))
            waited += arrived - last
            last = time.perf_counter()
            computed += last - arrived
        self.experience += 1
        rng = np.random.default_rng(self.experience)
        memory_seconds = self._time_memory(len(paths), rng)
        began = time.perf_counter()
        labels = np.full(len(paths), self.experience % CLASSES)
        self.learner.learn(Latents(torch.cat(latents)), labels, self.experience)
        learned = time.perf_counter() - began
        return {
            "decoding": waited,
            "trunk": computed,
            "head": learned - memory_seconds,
            "memory": memory_seconds,
            "total": waited + computed + learned,
        }

    def trunk_alone(self, images: np.ndarray) -> float:
        """Seconds of the trunk on decoded pixels."""
        start = time.perf_counter()
        for batch in torch.from_numpy(images).split(64):
            self.trunk(batch)
        return time.perf_counter() - start

    def _time_memory(self, num_new: int, rng: np.random.Generator) -> float:
        """Seconds of the memory in ``learn``: the same draws, repeated on their own."""
        memory = self.learner.memory
        start = time.perf_counter()
        for _ in range(EPOCHS):
            for _, rows in epoch_minibatches(num_new, len(memory), BATCH, rng):
                memory.draw(rows)
        return time.perf_counter() - start


class Published:
    """The original procedure on the same network."""

    def __init__(self, backbone, cut: int, memory: int, products: str) -> None:
        self.backbone, self.cut = backbone, cut
        family, self.pixel_scale = backbone.family, pixel_scale(backbone)
        model = deepcopy(backbone.model)  # the modules of transformers, trained above the cut
        if products == "onednn":
            with_linears(model, trained)
        self.embeddings, blocks = family.embeddings(model), list(family.blocks(model))
        self.frozen, self.blocks = blocks[:cut], blocks[cut:]
        self.norm = family.final_norm(model)
        self.trained = [p.requires_grad_() for part in (*self.blocks, self.norm) for p in part.parameters()]
        self.classifier = torch.zeros(CLASSES, backbone.width, requires_grad=True)
        shape = (memory, backbone.tokens, backbone.width)  # all tokens, even at the last cut
        self.latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        self.labels = torch.from_numpy(np.random.default_rng(1).integers(0, CLASSES, memory))

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            tokens = self.embeddings(normalised(images, *self.pixel_scale, torch.float32, images.device))
            for block in self.frozen:
                tokens = block(tokens, None)
        return tokens

    def run(self, images: np.ndarray, epochs: int) -> float:
        pixels = torch.from_numpy(images)
        labels = torch.full((len(images),), 7)
        optimizer = torch.optim.SGD(
            [*self.trained, self.classifier], lr=1e-3, momentum=0.9, weight_decay=5e-4
        )
        rng = np.random.default_rng(0)
        start = time.perf_counter()
        for _ in range(epochs):
            for new, old in epoch_minibatches(len(images), len(self.latents), BATCH, rng):
                tokens = torch.cat([self.tokens(pixels[new]), self.latents[torch.from_numpy(old)]])
                for block in self.blocks:
                    tokens = block(tokens, None)
                logits = self.norm(tokens)[:, 0] @ self.classifier.T
                target = torch.cat([labels[torch.from_numpy(new)], self.labels[torch.from_numpy(old)]])
                loss = functional.cross_entropy(logits, target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return (time.perf_counter() - start) * EPOCHS / epochs


def floor_seconds(backbone, cut: int, memory: int, trunk_rate: float, head_rate: float) -> float:
    """FLOP of one experience divided by the rates of large matrix products."""
    cost = account(backbone, cut)
    rng = np.random.default_rng(0)
    latents = sum(len(new) + len(old) for new, old in epoch_minibatches(NEW, memory, BATCH, rng)) * EPOCHS
    classifier = 3 * 2 * CLASSES * backbone.width
    return NEW * cost.trunk_flop / trunk_rate + latents * (cost.head_step_flop + classifier) / head_rate


def measure(
    backbone, cut: int, precisions: list[str], options: argparse.Namespace, paths: list[str], root: Path
) -> dict[str, dict]:
    """Figures for each precision of the trunk, all compared with the same runs of the published procedure."""
    ours = {p: Ours(backbone, cut, p, options.memory, options.codec) for p in precisions}
    published = Published(backbone, cut, options.memory, options.published_products)
    images = np.concatenate([batch for _, batch in iter_batches(paths, root, size=128, batch_size=64)])
    for model in ours.values():
        model.run(paths, root)
    published.run(images[:BATCH], 1)
    used = {*precisions, *(model.training for model in ours.values())}
    rates: dict[str, list[float]] = {name: [] for name in used}
    mine: dict[str, list[dict]] = {p: [] for p in precisions}
    theirs: list[float] = []
    for _ in range(options.repeats):
        for name in used:
            rates[name].append(product_rate(name))
        for precision, model in ours.items():
            run = model.run(paths, root)
            run["share"] = model.trunk_alone(images) / (run["decoding"] + run["trunk"])
            mine[precision].append(run)
        theirs.append(published.run(images, options.published_epochs))
    best = {name: statistics.median(values) for name, values in rates.items()}
    found = {}
    for precision, runs in mine.items():
        parts = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
        seconds, share = parts.pop("total"), parts.pop("share")
        training = ours[precision].training
        floor = floor_seconds(backbone, cut, options.memory, best[precision], best[training])
        found[precision] = {
            "cut": cut,
            "training": training,
            "seconds": seconds,
            "published_seconds": statistics.median(theirs),
            "speedup": statistics.median(b / a["total"] for a, b in zip(runs, theirs, strict=True)),
            "floor_seconds": floor,
            "over_floor": seconds / floor,
            "parts": parts,
            "share_of_trunk_rate": share,
            "gflops": {"trunk": best[precision] / 1e9, "head": best[training] / 1e9},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cuts", default="12,11,10,8", help="comma-separated (default %(default)s)")
    parser.add_argument("--backbone", default="random:B_32", help="default %(default)s")
    parser.add_argument("--memory", type=int, default=1500, help="latents in memory (default %(default)s)")
    parser.add_argument("--codec", default="float32", help="of the memory (default %(default)s)")
    parser.add_argument(
        "--precision",
        default=",".join([default_precision(), *(["int8"] if int8_is_fast() else [])]),
        help="of the trunk, comma-separated; the first one's figures are `cuts` in the JSON (default here"
        " %(default)s)",
    )
    parser.add_argument("--repeats", type=int, default=3, help="alternated pairs (default %(default)s)")
    parser.add_argument(
        "--published-epochs",
        type=int,
        default=1,
        choices=range(1, EPOCHS + 1),
        help="epochs of the published procedure that are run; the others are extrapolated (default 1)",
    )
    parser.add_argument("--published-products", default="pytorch", choices=("pytorch", "onednn"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    info = machine()
    print(f"{info['processor']}, {info['threads']} threads, torch {info['torch']}, memory {options.codec}")
    print(
        f"{'trunk':<9} {'training':<9}{'cut':>4}{'ours s':>9}{'published s':>13}{'speedup':>9}{'floor s':>9}{'over':>7}"
        "   decode / trunk / head / memory   from files"
    )
    rows: dict[str, dict[str, dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "frames"
        render_dataset(root, NEW, sessions=[1], objects=[1], processes=1)
        paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
        for cut in (int(text) for text in options.cuts.split(",")):
            backbone = load_backbone(options.backbone, image_size=128)
            found = measure(backbone, cut, options.precision.split(","), options, paths, root)
            for precision, row in found.items():
                rows.setdefault(precision, {})[str(cut)] = row
                print(
                    f"{precision:<9} {row['training']:<9}{cut:>4}{row['seconds']:>9.2f}"
                    f"{row['published_seconds']:>13.1f}"
                    f"{row['speedup']:>8.1f}x{row['floor_seconds']:>9.2f}{row['over_floor']:>6.2f}x   "
                    + " / ".join(f"{value:.2f}" for value in row["parts"].values())
                    + f"{row['share_of_trunk_rate']:>13.0%}",
                    flush=True,
                )
    if options.json:
        first = options.precision.split(",")[0]
        report = {
            "backbone": options.backbone,
            "machine": info,
            "published_products": options.published_products,
            "precision": first,
            "cuts": rows[first],
            "precisions": rows,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
