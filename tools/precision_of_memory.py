"""A classifier that was taught in one precision of the trunk and goes on in another: what does it cost?

    python tools/precision_of_memory.py --data-root OBJECTS --backbone VIT_TINY --json precision.json

Of a data set in CORe50's layout, most of the chosen objects are taught in bfloat16, one after the other, from the
training sessions, and the classifier is saved. It is then opened in each precision that this machine has: its memory
still holds latents of a bfloat16 trunk, while images go through the other one. Reported is the accuracy on the test
sessions 3, 7 and 10, of the objects taught so far, and of all objects after the remaining ones were taught in the new
precision, so that the memory holds latents of both. The last row is a classifier that was taught in float32 only.

All settings are the classifier's defaults; one thread. Figures are percent, mean ± sample s.d. over the choices of
objects; differences are taken choice by choice.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from objects import cell, videos_by_use

from vitlr import LatentReplayClassifier
from vitlr.classifier import MachineWarning
from vitlr.evaluation.metrics import mean_and_sd
from vitlr.runs.tracking import machine
from vitlr.vit.compute.int8 import int8_is_fast

Videos = dict[tuple[bool, int], list[str]]  # paths, by whether they are for testing, and by object


def teach(model: LatentReplayClassifier, videos: Videos, objects: list[int]) -> LatentReplayClassifier:
    for each in objects:
        model.partial_fit(videos[False, each], each)
    return model


def accuracy(model: LatentReplayClassifier, videos: Videos, objects: list[int]) -> float:
    tested = [(path, each) for each in objects for path in videos[True, each]]
    return model.score([path for path, _ in tested], [each for _, each in tested])


def measured(options: argparse.Namespace, videos: Videos, choice: int) -> dict[str, tuple[float, float]]:
    """Accuracy at once, and after the remaining objects, by the precision in which it goes on."""
    every = sorted({each for _, each in videos})
    objects = np.random.default_rng(choice).permutation(every)[: options.objects].tolist()
    first, rest = objects[: -options.later], objects[-options.later :]
    settings = {"image_size": options.image_size, "method": options.method, "random_state": choice}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        made = LatentReplayClassifier(options.backbone, precision="bfloat16", **settings)
        teach(made, videos, first).save(folder)
        for precision in ("bfloat16", "float32", *(["int8"] if int8_is_fast() else [])):
            model = LatentReplayClassifier.load(folder, precision=precision)
            before = accuracy(model, videos, first)
            found[precision] = (before, accuracy(teach(model, videos, rest), videos, objects))
    whole = teach(LatentReplayClassifier(options.backbone, precision="float32", **settings), videos, first)
    before = accuracy(whole, videos, first)
    found["float32 from the start"] = (before, accuracy(teach(whole, videos, rest), videos, objects))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help="images in CORe50's layout")
    parser.add_argument("--backbone", required=True, help="network, by name or directory")
    parser.add_argument("--image-size", type=int, default=128, help="default %(default)s")
    parser.add_argument("--method", default="latent_replay", help="default %(default)s")
    parser.add_argument("--objects", type=int, default=10, help="that are taught (default %(default)s)")
    parser.add_argument(
        "--later", type=int, default=2, help="of them, in the other precision (default %(default)s)"
    )
    parser.add_argument("--choices", default="1,2,3", help="of objects (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if not 0 < options.later < options.objects:
        parser.error("--later must be at least 1 and less than --objects")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", MachineWarning)
    videos = videos_by_use(options.data_root)
    found = [measured(options, videos, int(choice)) for choice in options.choices.split(",")]
    rows = []
    print(f"{'goes on in':<24}{'at once':>14}{'after more':>14}{'difference to bfloat16, points':>36}")
    for precision in found[0]:
        row: dict[str, object] = {"precision": precision}
        for place, name in enumerate(("at_once", "after_more")):
            row[name] = mean_and_sd([each[precision][place] for each in found])
            row[f"{name}_difference"] = mean_and_sd(
                [each[precision][place] - each["bfloat16"][place] for each in found]
            )
        rows.append(row)
        cells = [
            cell(pair)
            for pair in (
                row["at_once"],
                row["after_more"],
                row["at_once_difference"],
                row["after_more_difference"],
            )
        ]
        print(f"{precision:<24}{cells[0]:>14}{cells[1]:>14}{cells[2]:>18}{cells[3]:>18}", flush=True)
    if options.json:
        content = {"machine": machine(), "method": options.method, "choices": options.choices, "rows": rows}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
