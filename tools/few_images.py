"""Few pictures of each object: the default classifier beside linear models on the features of the same network.

    python tools/few_images.py --data-root OBJECTS --backbone VIT_TINY --json few.json

A choice determines which objects of a data set in CORe50's layout are taught, and from which one of the training
sessions. One object after the other is taught by some frames of that session, evenly apart; asked about are all
images of these objects in the test sessions 3, 7 and 10. The classifier is what LatentReplayClassifier() is, but for
a trunk in float32. Logistic regression, linear discriminants with Ledoit and Wolf's shrinkage and nearest class means
(scikit-learn, at their defaults) see all pictures at once, as class tokens after the final norm.

Printed is the accuracy, mean ± sample s.d. over the choices. Choice 0 is for trying things out and is not reported.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from objects import TEST_SESSIONS, cell, encoder_of, videos_by_session
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from vitlr.evaluation.metrics import mean_and_sd
from vitlr.latents.encoder import Encoder
from vitlr.latents.settings import BackboneConfig
from vitlr.learning import LearnerConfig, new_learner
from vitlr.replay import MemoryConfig
from vitlr.runs.tracking import machine

TRAINING_SESSIONS = (1, 2, 4, 5, 6, 8, 9, 11)
OBJECTS = 50
TASKS = [(25, 6), (25, 1), (8, 6), (8, 3), (8, 1)]
OURS = ("vitlr", "its head", "its statistics")
BASELINES: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: LogisticRegression(max_iter=2000),
    "LDA, shrunk": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "nearest class mean": NearestCentroid,
}

Videos = dict[tuple[int, int], list[str]]  # paths by session and object, in their order


def apart(paths: list[str], number: int) -> list[str]:
    """That many of them, evenly apart."""
    return [paths[row] for row in np.linspace(0, len(paths) - 1, number).round().astype(int)]


def measured(
    encode: Encoder, config: LearnerConfig, videos: Videos, choice: int, task: tuple[int, int]
) -> dict:
    """Accuracies of one choice, by the name of the classifier."""
    objects, frames = task
    taught = np.random.default_rng(choice).permutation(OBJECTS)[:objects] + 1
    session = TRAINING_SESSIONS[choice % len(TRAINING_SESSIONS)]
    shown = [apart(videos[session, each], frames) for each in taught.tolist()]
    network, rng = encode.network, np.random.default_rng(0)
    learner = new_learner(network.new_head(), config, MemoryConfig(), rng, len(network.class_blocks))
    for number, paths in enumerate(shown):
        labels = np.full(len(paths), number)
        learner.learn(encode(paths, views_by=labels).latents, labels, number)
    asked = [(n, path) for n, each in enumerate(taught) for s in TEST_SESSIONS for path in videos[s, each]]
    truth = np.array([number for number, _ in asked])
    latents = encode([path for _, path in asked]).latents
    scores = (learner.logits(latents), *learner.parts(latents))
    found = {
        name: float((scores_NC.argmax(dim=1).numpy() == truth).mean())
        for name, scores_NC in zip(OURS, scores, strict=True)
    }
    norm = network.new_head().norm

    def features(class_tokens_NKD: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return norm(class_tokens_NKD[:, -1]).numpy()

    seen = features(encode([path for paths in shown for path in paths]).latents.class_tokens_NKD)
    labels, tested = np.repeat(np.arange(objects), frames), features(latents.class_tokens_NKD)
    for name, made in BASELINES.items():
        if frames == 1 and name.startswith("LDA"):
            continue  # one picture of each class has no scatter
        found[name] = float((made().fit(seen, labels).predict(tested) == truth).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help="images in CORe50's layout")
    parser.add_argument("--backbone", required=True, help="network, by name or directory")
    parser.add_argument("--image-size", type=int, default=224, help="default %(default)s")
    parser.add_argument("--epochs", type=int, help="in place of the default")
    parser.add_argument("--choices", default="1,2,3,4,5,6,7,8", help="default %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    videos = videos_by_session(options.data_root)
    config = LearnerConfig(epochs=options.epochs)  # type: ignore[arg-type]
    backbone = BackboneConfig(name=options.backbone, image_size=options.image_size, precision="float32")
    encode = encoder_of(backbone, config)
    choices, rows = [int(text) for text in options.choices.split(",")], []
    print(f"{'taught':<24}" + "".join(f"{name:>22}" for name in (*OURS, *BASELINES)))
    for objects, frames in TASKS:
        found = [measured(encode, config, videos, choice, (objects, frames)) for choice in choices]
        row = {name: mean_and_sd([each[name] for each in found]) for name in found[0]}
        rows.append({"objects": objects, "frames": frames, "all": found, "mean_and_sd": row})
        text = "".join(f"{cell(row.get(name)):>22}" for name in (*OURS, *BASELINES))
        print(f"{f'{objects} objects x {frames}':<24}{text}", flush=True)
        encode.network.keep()
    if options.json:
        content = {"machine": machine(), "backbone": options.backbone, "choices": choices, "rows": rows}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
