"""What the page knows, and everything that changes it: made by the one thread that learns, read by all.

A change is made as a whole, or not at all; the last one can be taken back. Answers come from the last finished one.
"""

from __future__ import annotations

import shutil
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vitlr.app import exchange
from vitlr.app.frames import Decoder
from vitlr.app.gallery import INDEX, PICTURES, THUMBNAILS, Gallery, Shown
from vitlr.app.limits import Limits
from vitlr.classifier import LatentReplayClassifier, NotFittedError
from vitlr.classifier.labels import Label, known_label
from vitlr.data.decoding import announced
from vitlr.data.images import read_image
from vitlr.data.names import counted
from vitlr.errors import DataError, VitLRError

__all__ = ["Changes", "Report"]

Report = Callable[[float], None]  # takes the share that is done, 0..1


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """What was known before the last change."""

    what: str
    model: LatentReplayClassifier
    shown: Shown


class Changes:
    """A classifier and the pictures of its classes.

    Args:
        folder: an empty private directory for pictures.
        directory: where ``save`` writes and ``load`` reads.
        autosave: save after each change.
        reopen: opens what is saved in the directory.
        on_change: called after each change.
    """

    def __init__(
        self,
        model: LatentReplayClassifier,
        folder: Path,
        directory: Path | None,
        *,
        limits: Limits,
        decoder: Decoder,
        autosave: bool,
        reopen: Callable[[], LatentReplayClassifier] | None,
        on_change: Callable[[], None],
    ) -> None:
        self.directory, self.autosave = directory, autosave and directory is not None
        self.keep_pictures = False
        self.number = 0  # of changes that were made
        self._folder, self._limits, self._decoder = folder, limits, decoder
        self._reopen, self._on_change = reopen, on_change
        self._gallery = Gallery(folder / "pictures", limits.kept_bytes)
        self._lock = threading.Lock()  # model and pictures are replaced together
        self._model = model
        self._shown = Shown() if directory is None else self._saved_pictures(directory)
        self._before: _Moment | None = None
        self._unsaved = 0  # changes since the last save or load

    # -- read by any thread -------------------------------------------------------------------------

    @property
    def model(self) -> LatentReplayClassifier:
        return self._model

    @property
    def shown(self) -> Shown:
        return self._shown

    def now(self) -> tuple[LatentReplayClassifier, Shown]:
        """The classifier and what is shown of it, of one moment."""
        with self._lock:
            return self._model, self._shown

    @property
    def known(self) -> list[Label]:
        """Labels in the order in which they were taught."""
        model = self._model
        return model.classes_.tolist() if hasattr(model, "classes_") else []

    def as_known(self, name: str) -> Label:
        """A known label keeps its type: the class 3 is taught as ``3``."""
        return known_label(unicodedata.normalize("NFC", name), self.known)

    @property
    def undoable(self) -> str | None:
        """What ``undo`` would take back."""
        before = self._before
        return None if before is None else before.what

    def picture(self, number: str) -> bytes:
        """JPEG of a kept picture; DataError if there is none of this number."""
        self._shown.class_of(number)
        return self._gallery.file(number).read_bytes()

    # -- changes, by the thread that learns ---------------------------------------------------------

    def make(self, what: str, act: Callable[[], str]) -> str:
        """Make a change, which ``act`` does and returns a sentence about; the sentence, and that of the saving.

        If it raises anything, nothing was changed.
        """
        before = _Moment(what=what, model=self._model, shown=self._shown)
        try:
            with self._model.one_change(what):
                note = act()
        except BaseException:
            self._replace(before.model, before.shown, self._before)
            raise
        self._replace(self._model, self._shown, before)
        self._unsaved = self._unsaved + 1 if self._model is before.model else 0
        return " ".join(filter(None, (note, self._autosaved())))

    def undo(self) -> str:
        """Take the last change back, exactly; DataError if there is none."""
        before = self._before
        if before is None:
            raise DataError("there is nothing to undo: only the last change can be taken back, once")
        if before.model is self._model:
            self._model.undo()
        self._replace(before.model, before.shown, None)
        self._unsaved += 1
        return " ".join(filter(None, (f"{before.what} was taken back", self._autosaved())))

    def _replace(self, model: LatentReplayClassifier, shown: Shown, before: _Moment | None) -> None:
        with self._lock:
            self._model, self._shown, self._before = model, shown, before
            self.number += 1
        self._gallery.drop_all_but(shown, *([before.shown] if before else []))
        self._on_change()

    def learn(self, name: str, frames: list[np.ndarray]) -> str:
        self._model.partial_fit(frames, self.as_known(name))
        self._shown = self._gallery.taught(self._shown, name, frames, keep=self.keep_pictures)
        return "learned; there is no room to keep all of the pictures" if self._gallery.is_full else ""

    def forget(self, name: str) -> str:
        self._model.forget(self.as_known(name))
        self._shown = self._shown.without(name)
        remains = self._model.remains
        return f"what remains of it: {remains}" if remains else ""

    def rename(self, name: str, new: str) -> str:
        if new != name and new in map(str, self.known):
            raise DataError(f"there is a class {new} already: make the two one, or choose another name")
        label = self.as_known(name)
        self._model.rename(label, label if new == str(label) else new)
        self._shown = self._shown.renamed(name, new)
        return ""

    def merge(self, name: str, into: str) -> str:
        self._model.merge_classes(self.as_known(name), self.as_known(into))
        self._shown = self._shown.renamed(name, into)
        return ""

    def discard(self, number: str) -> str:
        """Forget the class of a picture, and learn it anew from the others that were kept."""
        shown = self._shown
        name = shown.class_of(number)
        rest = tuple(each for each in shown.pictures[name] if each != number)
        frames = [read_image(self._gallery.file(each).read_bytes()) for each in rest]
        label = self.as_known(name)
        lost = self._model.remember().images[label] - 1 - len(rest)
        self._model.forget(label)
        left = shown.without(name)
        if frames:
            self._model.partial_fit(frames, label)
            left = self._gallery.taught(left, name, frames, keep=False)
            left = Shown(left.thumbnails, {**left.pictures, name: rest})
        self._shown = left
        return f"{counted(lost, 'image')} that were not kept are forgotten with it" if lost > 0 else ""

    def load(self) -> str:
        directory = self._place()
        self._model = LatentReplayClassifier.load(directory) if self._reopen is None else self._reopen()
        self._shown = self._saved_pictures(directory)
        gone = counted(self._unsaved, "change")
        return f"loaded from {directory}" + (
            f"; {gone} since it was saved: Undo brings back what was there" if self._unsaved else ""
        )

    def learn_archive(self, archive: Path, checked: Callable[[str], str], report: Report) -> str:
        """Learn labelled pictures. Each class is a lesson of its own, so that only one is in memory.

        Args:
            checked: returns a name as it may be used, or raises.
        """
        with TemporaryDirectory(dir=self._folder) as folder:
            files, notes = exchange.pictures_of(archive, Path(folder, "unpacked"), self._limits.frames)
            names = {checked(name): paths for name, paths in files.items()}
            if len({*map(str, self.known), *names}) > self._limits.classes:
                raise DataError(
                    f"more than {self._limits.classes} classes would be known, which is the limit"
                )
            pixels = sum(announced(path)[1] for paths in names.values() for path in paths)
            if pixels > self._limits.import_pixels:
                raise DataError(
                    f"the pictures of the archive have {pixels:,} pixels in all, more than"
                    f" {self._limits.import_pixels:,}; make them smaller, or give fewer at once"
                )
            left_out, learned = 0, 0
            for done, (name, paths) in enumerate(names.items(), 1):
                frames = []
                for path in paths:
                    try:
                        frames.append(self._decoder.picture(path))
                    except DataError:
                        left_out += 1
                if frames:
                    self.learn(name, frames)
                learned += len(frames)
                report(done / len(names))
        if not learned:
            raise DataError("no picture of the archive could be read; give another one")
        if left_out:
            notes.append(f"{counted(left_out, 'picture')} could not be read and are left out")
        return "; ".join(notes)

    # -- disk ---------------------------------------------------------------------------------------

    def _saved_pictures(self, directory: Path) -> Shown:
        """Those of classes that are known: a program that forgot one knows of no pictures."""
        return self._gallery.load(directory).only({*map(str, self.known)})

    def _place(self) -> Path:
        assert self.directory is not None
        return self.directory

    def save(self) -> str:
        """Save classifier, thumbnails and kept pictures into the directory; RunError if it cannot be written."""
        directory = self._place()
        try:
            self._model.save(directory)
        except NotFittedError:  # the first lesson was taken back: what was saved of it goes as well
            for name in ("state.safetensors", THUMBNAILS, INDEX):
                (directory / name).unlink(missing_ok=True)
            shutil.rmtree(directory / PICTURES, ignore_errors=True)
            return "nothing is known, and nothing is saved"
        self._gallery.save(self._shown, directory)
        self._unsaved = 0
        return f"saved in {directory}"

    def _autosaved(self) -> str:
        if not self.autosave:
            return ""
        try:
            self.save()
        except VitLRError as error:
            return f"done, but not saved: {error}"
        except Exception as error:  # it is done, whatever the disk does
            return f"done, but not saved ({type(error).__name__})"
        return ""

    def export(self, form: str) -> str:
        """Pack the classifier for a download; the name of the file in the folder."""
        return exchange.pack(self._model, self._folder, form)

    def classes(self) -> list[dict[str, Any]]:
        """Label, images, latents, thumbnail (96, 96, 3) or None and number of kept pictures of each class."""
        model, shown = self.now()
        try:
            summary = model.remember()
        except NotFittedError:
            return []
        return [
            {
                "label": str(label),
                "images": count,
                "latents": summary.latents[label],
                "thumbnail": shown.thumbnails.get(str(label)),
                "pictures": len(shown.pictures.get(str(label), ())),
            }
            for label, count in summary.images.items()
        ]
