"""How well "unknown" works: does the score distinguish an object that was never taught from the taught ones?

    python tools/unknown.py --data-root OBJECTS --backbone VIT_TINY --json unknown.json

A choice determines which objects of a data set in CORe50's layout are taught, one after the other, from the training
sessions. The classifier is then asked about all images of the test sessions 3, 7 and 10, of taught and of held-out
objects. Objects come in groups of five of one kind: ``alike`` takes any objects, so that most held-out ones look like
something taught; ``other kinds`` takes whole kinds, so that none does.

Printed as mean ± sample s.d. over the choices: AUROC of the classifier's score and of the largest probability, each 1
if every taught image scores above every other and .5 at chance; the effect of the
default threshold, as the share of taught images that keep their label and of others that are answered "unknown";
and the accuracy on taught images without a threshold. All settings are the classifier's defaults, except that the
trunk runs in float32 on every machine; one thread. Choice 0 is for comparing scores and is not reported.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from objects import cell, encoder_of, videos_by_use
from sklearn.metrics import roc_auc_score

from vitlr.evaluation.metrics import accuracy, mean_and_sd
from vitlr.latents.encoder import Encoder
from vitlr.latents.settings import BackboneConfig
from vitlr.learning import LearnerConfig, new_learner
from vitlr.replay import MemoryConfig
from vitlr.runs.tracking import machine

OBJECTS, ALIKE = 50, 5
TASKS = {
    "1 object": (1, 1),
    "2 objects": (2, 1),
    "10 objects": (10, 1),
    "25 objects": (25, 1),
    "25 objects, 5 kinds": (5, ALIKE),
}


def chosen(choice: int, number: int, together: int) -> np.ndarray:
    """The taught objects, 1 to 50, in their order: ``number`` groups of neighbours."""
    groups = np.random.default_rng(choice).permutation(OBJECTS // together)[:number]
    return (groups[:, None] * together + np.arange(together) + 1).ravel()


def measured(encode: Encoder, videos: dict[tuple[bool, int], list[str]], taught_O: np.ndarray) -> dict:
    """The figures of one choice; ``videos`` holds paths by whether they are for testing, and by object."""
    network, rng = encode.network, np.random.default_rng(0)
    learner = new_learner(network.new_head(), LearnerConfig(), MemoryConfig(), rng, len(network.class_blocks))
    for number, each in enumerate(taught_O.tolist()):
        labels = np.full(len(videos[False, each]), number)
        learner.learn(encode(videos[False, each], views_by=labels).latents, labels, number)
    tested = [(each, path) for each in range(1, OBJECTS + 1) for path in videos[True, each]]
    objects_N = np.array([each for each, _ in tested])
    logits_NC, cosines = learner.answer(encode([path for _, path in tested]).latents)
    scores_N, known_N = cosines.numpy(), np.isin(objects_N, taught_O)
    largest_N = logits_NC.double().softmax(dim=1).amax(dim=1).numpy()
    above_N = scores_N >= learner.threshold
    answers_N = taught_O[logits_NC.argmax(dim=1).numpy()]
    return {
        "auroc": float(roc_auc_score(known_N, scores_N)),
        "auroc_probability": float(roc_auc_score(known_N, largest_N)),
        "taught_kept": float(above_N[known_N].mean()),
        "others_unknown": float((~above_N[~known_N]).mean()),
        "accuracy": accuracy(objects_N[known_N], answers_N[known_N]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help="images in CORe50's layout")
    parser.add_argument("--backbone", required=True, help="network, by name or directory")
    parser.add_argument("--image-size", type=int, default=128, help="default %(default)s")
    parser.add_argument("--cut", type=int, help="default: all blocks but the last are frozen")
    parser.add_argument("--choices", default="1,2,3,4,5", help="of objects (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    videos = videos_by_use(options.data_root)
    backbone = BackboneConfig(
        name=options.backbone, image_size=options.image_size, cut=options.cut, precision="float32"
    )
    encode = encoder_of(backbone, LearnerConfig())
    encode.hold(path for paths in videos.values() for path in paths)  # all choices use the same images
    choices, rows = [int(text) for text in options.choices.split(",")], []
    names = ("auroc", "auroc_probability", "taught_kept", "others_unknown", "accuracy")
    print(f"{'taught':<22}" + "".join(f"{name:>20}" for name in names))
    for title, (number, together) in TASKS.items():
        found = [measured(encode, videos, chosen(choice, number, together)) for choice in choices]
        row = {name: mean_and_sd([each[name] for each in found]) for name in names}
        rows.append({"taught": title, "choices": choices, "all": found, "mean_and_sd": row})
        print(f"{title:<22}" + "".join(f"{cell(pair):>20}" for pair in row.values()), flush=True)
    if options.json:
        content = {"machine": machine(), "backbone": options.backbone, "rows": rows}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
