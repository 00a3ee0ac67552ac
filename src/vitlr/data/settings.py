"""What is learned from, as settings."""

from __future__ import annotations

from dataclasses import dataclass

from vitlr.configuration import neutral, one_of, place, repetition
from vitlr.data import DATASETS
from vitlr.data.core50 import LABELS, NUM_RUNS, SCENARIOS, TEST_SETS
from vitlr.errors import ConfigError

__all__ = ["DataConfig"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learned from.

    Attributes:
        dataset: rendered (drawn on this machine, needs no download), core50 (a folder of its images) or folder
            (any folder of class folders).
        root: folder of the images; for rendered objects the folder to store them in (default: the user's cache).
        scenario: of CORe50: ni, nc, nic, nicv2_79, nicv2_196 or nicv2_391.
        order: one of the scenario's ten published orders, 0 to 9; for a folder, one of ten orders of its classes.
        labels: object (50 classes), category (10) or appearance (objects numbered as they appear).
        test: full, or reduced to every 20th frame.
        frames: frames in each video of rendered objects, 1 to 300.
        seed: of the rendered objects, or of the class order and the held-out images of a folder.
        classes_per_experience: new classes in each experience of a folder.
        held_out: share of each class of a folder that is kept for testing.
        test_root: folder of test images with the same class folders, in place of held-out images.
        on_bad_image: error stops at the first unreadable image; skip leaves such images out and counts them.
        workers: threads that decode images.
    """

    dataset: str = "rendered"
    root: str | None = place(None)
    scenario: str = "nicv2_391"
    order: int = repetition(0, "run")
    labels: str = "object"
    test: str = "full"
    frames: int = 6
    seed: int = 0
    classes_per_experience: int = 2
    held_out: float = 0.2
    test_root: str | None = place(None)
    on_bad_image: str = "error"
    workers: int = neutral(2)

    def __post_init__(self) -> None:
        one_of("data.dataset", self.dataset, tuple(DATASETS))
        one_of("data.scenario", self.scenario, SCENARIOS)
        one_of("data.labels", self.labels, LABELS)
        one_of("data.test", self.test, TEST_SETS)
        one_of("data.on_bad_image", self.on_bad_image, ("error", "skip"))
        if not 0 <= self.order < NUM_RUNS:
            raise ConfigError(f"data.order must be 0 to {NUM_RUNS - 1}, got {self.order}")
        if not 1 <= self.frames <= 300:
            raise ConfigError(f"data.frames must be 1 to 300 a video, got {self.frames}")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"data.held_out must be between 0 and 1, got {self.held_out}")
        for name in ("classes_per_experience", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} must be >= 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ConfigError(f"data.seed must be >= 0, got {self.seed}")
        if self.dataset in ("core50", "folder") and self.root is None:
            raise ConfigError(f"data.dataset {self.dataset} needs data.root, the folder of its images")
