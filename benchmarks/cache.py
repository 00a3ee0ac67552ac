"""Compare a run that starts from latents on disk with the first one: its time, and that its results are the same.

    python benchmarks/cache.py --frames 30 --json cache.json     # a tenth of the frames; the full time is
    extrapolated python benchmarks/cache.py                                   # 119,894 training images

The stream is that of ``stream.py``: NICv2-391 with rendered frames, ViT-B/32 at 128 px (random weights), cut 11,
1500 latents. The first run encodes every image and stores the latents. The second must open no image and load no
trunk, which is counted, and must end with the same records and weights bit by bit.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from safetensors.numpy import load_file
from stream import VIDEO, lay_out, run

from vitlr.data.settings import DataConfig
from vitlr.evaluation.records import read_metrics
from vitlr.latents.settings import BackboneConfig
from vitlr.learning import LearnerConfig
from vitlr.rendered.dataset import render_dataset
from vitlr.replay import MemoryConfig
from vitlr.runs.settings import RunConfig
from vitlr.vit.compute import cut

_opened: list[str] = []
_trunks: list[int] = []


def watch() -> None:
    """Count opened images and images that go through a trunk."""

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and str(arguments[0]).endswith(".png"):
            _opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    latents = cut.Trunk.latents

    def counted(self, images):
        _trunks.append(len(images))
        return latents(self, images)

    cut.Trunk.latents = counted  # type: ignore[method-assign]


def same(first: Path, second: Path) -> bool:
    """Whether records (without seconds) and weights of the trained model are the same."""
    a, b = ([{**line, "seconds": None} for line in read_metrics(path)] for path in (first, second))
    weights = [load_file(path / "model" / "model.safetensors") for path in (first, second)]
    return a == b and all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=VIDEO, help="per video, of 300 (default all)")
    parser.add_argument("--distinct", type=int, default=12, help="rendered frames per video (default 12)")
    parser.add_argument("--backbone", default="random:B_32", help="default %(default)s")
    parser.add_argument("--cut", type=int, default=11, help="default %(default)s")
    parser.add_argument("--memory", type=int, default=1500, help="default %(default)s")
    parser.add_argument("--rendered", type=Path, help="folder to keep and reuse the rendered frames in")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    distinct = min(options.distinct, options.frames)
    with tempfile.TemporaryDirectory(dir=options.rendered and options.rendered.parent) as folder:
        rendered = options.rendered or Path(folder) / "rendered"
        if not rendered.exists():
            render_dataset(rendered, distinct)
        root = Path(folder) / "frames"
        lay_out(root, rendered, options.frames, distinct)
        config = RunConfig(
            data=DataConfig(dataset="core50", root=str(root), scenario="nicv2_391", order=1, test="reduced"),
            backbone=BackboneConfig(
                name=options.backbone, image_size=128, cut=options.cut, cache=str(Path(folder) / "latents")
            ),
            memory=MemoryConfig(capacity=options.memory, tokens="all"),
            learner=LearnerConfig(method="latent_replay"),
            out=str(Path(folder) / "first"),
            tensorboard=False,
        )
        watch()
        first = run(config)
        images, passed = len(_opened), sum(_trunks)
        _opened.clear()
        _trunks.clear()
        second = run(replace(config, out=str(Path(folder) / "second")))
        stored = sum(path.stat().st_size for path in (Path(folder) / "latents").rglob("latents"))
        identical = same(Path(folder) / "first", Path(folder) / "second")
    figures = {
        "images": first["images"],
        "of": first["of"],
        "first": first,
        "second": second,
        "speedup": first["seconds"]["total"] / second["seconds"]["total"],
        "images_opened": [images, len(_opened)],
        "images_through_trunk": [passed, sum(_trunks)],
        "cache_bytes": stored,
        "identical": identical,
    }
    print(f"{first['images']:,} of {first['of']:,} training images, {first['machine']['processor']}")
    for name, row in (("first run", first), ("from the cache", second)):
        kind = "derived" if row["derived"] else "measured"
        print(
            f"  {name:<15}{row['seconds']['total']:8.1f} s   encode {row['seconds']['encode']:.1f}"
            f" learn {row['seconds']['learn']:.1f} evaluate {row['seconds']['evaluate']:.1f}"
            f" other {row['seconds']['other']:.1f}"
            f"   full stream ({kind}) {row['full_seconds'] / 60:.1f} min"
        )
    print(f"  images opened {images:,} and {len(_opened)}; through the trunk {passed:,} and {sum(_trunks)}")
    print(f"  {stored / 1e9:.2f} GB of latents; records and weights the same: {'yes' if identical else 'NO'}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
