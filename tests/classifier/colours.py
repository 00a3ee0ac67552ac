"""Frames of one colour each, and classifiers that are taught them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitlr import LatentReplayClassifier

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "grey": (128, 128, 128)}


def classifier(network: Path, **settings: Any) -> LatentReplayClassifier:
    return LatentReplayClassifier(
        network, **{"memory": 30, "precision": "float32", "batch_size": 16, **settings}
    )


def frames(colour: str, num: int = 10, seed: int = 0, side: int = 32) -> np.ndarray:
    """(num, side, side, 3): one colour with noise."""
    rng = np.random.default_rng([seed, *colour.encode()])
    noisy = np.array(COLOURS[colour]) + rng.normal(scale=25, size=(num, side, side, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def taught(
    network: Path, colours: tuple[str, ...] = ("red", "green", "blue"), **settings: Any
) -> LatentReplayClassifier:
    model = classifier(network, **settings)
    for colour in colours:
        model.partial_fit(frames(colour), colour)
    return model


def same(first: LatentReplayClassifier, second: LatentReplayClassifier) -> bool:
    """If both stand at the same point, bit by bit, seen and unseen."""
    (tensors, plain), (others, other_plain) = first._knowledge.state(), second._knowledge.state()
    assert plain == other_plain and set(tensors) == set(others)
    probe = np.concatenate([frames(colour, 3, seed=9) for colour in COLOURS])
    return (
        all(torch.equal(tensors[name], others[name]) for name in tensors)
        and np.array_equal(first.predict_proba(probe), second.predict_proba(probe))
        and first.classes_.tolist() == second.classes_.tolist()
    )
