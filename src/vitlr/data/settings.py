"""What is learned from, as settings."""

from __future__ import annotations

from dataclasses import dataclass

from vitlr.configuration import neutral, one_of, place, repetition
from vitlr.data import DATASETS
from vitlr.data.core50 import LABELS, NUM_RUNS, SCENARIOS, TEST_SETS
from vitlr.data.formats import MAX_FRAMES
from vitlr.data.layout import checked_level
from vitlr.data.rows import RULES, Rules
from vitlr.errors import ConfigError, DataError

__all__ = ["DataConfig"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learned from.

    Attributes:
        dataset: rendered (drawn on this machine, needs no download), core50 (the images' folder), folder (any
            folder of class folders), experiences (folders experience/class/image), list (a file that names the
            images) or hub (a Hugging Face data set: what save_to_disk wrote, or the hub's parquet files).
        root: folder of the images; of a list the folder that its paths start from (default: the list's own); for
            rendered objects a folder to keep them in (default: the user's cache).
        file: of a list: .csv, .jsonl or .parquet with the columns path and label.
        scenario: CORe50's: ni, nc, nic, nicv2_79, nicv2_196 or nicv2_391.
        order: one of the scenario's ten published orders, 0 to 9; for a folder, one of ten orders of its classes.
        labels: object (50 classes), category (10) or appearance (objects numbered as they appear).
        test: full, or reduced to every 20th frame.
        frames: frames in each video of rendered objects, 1 to 300.
        seed: of the rendered objects, or of the class order and the held-out images of a folder.
        class_level: which folders are classes: auto, top, leaf (the folder that holds the image) or a number.
        image_column: of a Hugging Face data set (default: the only one that holds images).
        label_column: of a Hugging Face data set (default: the only one of classes, or called label).
        experience_column: of a Hugging Face data set: rows of one value are one experience.
        classes_per_experience: new classes in each experience of a folder, or of a list by classes.
        experiences: of a list or Hugging Face data set: written (column experience), session (column session), classes,
            size, or auto (as written, else by session, else by classes).
        images_per_experience: images in each experience of a list by size.
        held_out: share of each class that is kept for testing, without images to test on.
        test_root: folder of test images instead, with the same class folders.
        every: learn every so many frames of a clip (default: evenly over the clip).
        max_frames: frames taken of a clip at most.
        on_bad_image: error stops at the first unreadable image; skip leaves such images out and counts them.
        strict: refuse a JPEG that lacks only its last bytes, which is read with a note otherwise.
        workers: threads that decode images.
    """

    dataset: str = "rendered"
    root: str | None = place(None)
    file: str | None = place(None)
    scenario: str = "nicv2_391"
    order: int = repetition(0, "run")
    labels: str = "object"
    test: str = "full"
    frames: int = 6
    seed: int = 0
    class_level: str | int = "auto"
    image_column: str | None = None
    label_column: str | None = None
    experience_column: str | None = None
    classes_per_experience: int = 2
    experiences: str = Rules.experiences
    images_per_experience: int = Rules.images_per_experience
    held_out: float = 0.2
    test_root: str | None = place(None)
    every: int | None = None
    max_frames: int = MAX_FRAMES
    on_bad_image: str = "error"
    strict: bool = False
    workers: int = neutral(2)

    def __post_init__(self) -> None:
        one_of("data.dataset", self.dataset, tuple(DATASETS))
        one_of("data.scenario", self.scenario, SCENARIOS)
        one_of("data.labels", self.labels, LABELS)
        one_of("data.test", self.test, TEST_SETS)
        one_of("data.on_bad_image", self.on_bad_image, ("error", "skip"))
        one_of("data.experiences", self.experiences, RULES)
        try:
            object.__setattr__(self, "class_level", checked_level(self.class_level))
        except DataError as error:
            raise ConfigError(f"data.{error}") from None
        if not 0 <= self.order < NUM_RUNS:
            raise ConfigError(f"data.order must be 0 to {NUM_RUNS - 1}, got {self.order}")
        if not 1 <= self.frames <= 300:
            raise ConfigError(f"data.frames must be 1 to 300 a video, got {self.frames}")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"data.held_out must be between 0 and 1, got {self.held_out}")
        for name in ("classes_per_experience", "images_per_experience", "every", "max_frames", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"data.{name} must be >= 1, got {value}")
        if self.seed < 0:
            raise ConfigError(f"data.seed must be >= 0, got {self.seed}")
        self._check_places()

    def _check_places(self) -> None:
        if self.dataset in ("core50", "folder", "experiences", "hub") and self.root is None:
            raise ConfigError(f"data.dataset {self.dataset} needs data.root, the folder of its images")
        columns = self.image_column or self.label_column or self.experience_column
        if self.dataset != "hub" and columns is not None:
            raise ConfigError(
                f"column {columns!r} is read by data.dataset hub only; add --data.dataset hub, or leave it out"
            )
        if self.dataset == "list" and self.file is None:
            raise ConfigError(
                "data.dataset list needs data.file, a .csv, .jsonl or .parquet with the columns path and label"
            )
        if self.dataset != "list" and self.file is not None:
            raise ConfigError(
                f"data.file {self.file} is read by data.dataset list only; add --data.dataset list"
            )
        if self.dataset != "folder" and self.test_root is not None:
            raise ConfigError(
                f"data.test_root {self.test_root} is read by data.dataset folder only; add --data.dataset folder"
            )
