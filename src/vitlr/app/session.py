"""The live page without its HTML: frames in, answers out, changes in one queue.

All visitors share one classifier. Answers come from the last finished change and never wait for learning; lessons,
and everything else that changes what is known, are done in the order in which they were asked for.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitlr.app.answers import Answer, Smoother
from vitlr.app.changes import Changes, Report
from vitlr.app.exchange import FORMATS
from vitlr.app.frames import Decoder, give_memory_back, jpeg
from vitlr.app.holds import Holds
from vitlr.app.jobs import Job, LearningQueue, Outcome
from vitlr.app.limits import BusyError, Limits
from vitlr.classifier import LatentReplayClassifier, NotFittedError
from vitlr.classifier.classifier import check_threshold
from vitlr.data.images import read_image
from vitlr.data.names import checked_name, expanded, same_but_for_case
from vitlr.errors import ConfigError, DataError
from vitlr.report.overlay import fitted, overlay
from vitlr.vit.source import ABOUT_BUNDLED, BUNDLED
from vitlr.vit.views.rollout import attention_rollout

__all__ = ["Answer", "BusyError", "Job", "Limits", "LiveSession", "SameNameError"]

UNKNOWN = "unknown"
LONGEST = 60  # characters of a name
_DRAWN = 384  # pixels of the longer side of a picture with attention


class SameNameError(DataError):
    """A name differs from that of a known class in upper and lower case only: ``same_as``."""

    def __init__(self, name: str, same_as: str) -> None:
        super().__init__(f"{name} differs from {same_as} in upper and lower case only: is it the same?")
        self.same_as = same_as


class LiveSession:
    """One classifier, taught and asked by any number of visitors.

    Args:
        model: the classifier.
        folder: an empty private directory for pictures and exports; removed by whoever made it.
        directory: where ``save`` writes and ``load`` reads; nothing else is ever written.
        autosave: save after each change.
        reopen: opens what is saved there, for ``load``; by default with its own settings.
    """

    def __init__(
        self,
        model: LatentReplayClassifier,
        folder: Path,
        directory: str | Path | None = None,
        *,
        limits: Limits | None = None,
        autosave: bool = False,
        reopen: Callable[[], LatentReplayClassifier] | None = None,
    ) -> None:
        self.limits = Limits() if limits is None else limits
        self._folder = folder
        self._lock = threading.Lock()
        self._revision = 0
        self._one = threading.Lock()  # answers one picture at a time, since learning uses the same cores
        self._releasing = threading.Lock()
        self._decoder = Decoder(self.limits)
        self._smoother = Smoother()
        self._holds = Holds(self.limits)
        self.changes = Changes(
            model,
            folder,
            None if directory is None else expanded(directory),
            limits=self.limits,
            decoder=self._decoder,
            autosave=autosave,
            reopen=reopen,
            on_change=self._touch,
        )
        self._queue = LearningQueue(self.limits.waiting, self._touch, self._said)

    def close(self, seconds: float = 60.0) -> bool:
        """Stop after the job that is being done; False if it is not over within that time."""
        return self._queue.close(seconds)

    def _touch(self) -> None:
        with self._lock:
            self._revision += 1

    def _said(self, sentence: str) -> str:
        """A sentence without the places of this machine, which are nobody's business."""
        directory = self.changes.directory
        if directory is not None:
            sentence = sentence.replace(str(directory), directory.name)
        return sentence.replace(f"{self._folder}/", "").replace(str(self._folder), "the page's folder")

    # -- answers ------------------------------------------------------------------------------------

    def answer(
        self, content: Any, *, visitor: str = "", attention: bool = False, smooth: bool = False, top: int = 5
    ) -> Answer:
        """Recognise a picture.

        Args:
            content: the bytes of an image file, or anything that ``vitlr.data.images.read_image`` takes.
            attention: also draw what the network looked at (another pass through it).
            smooth: join the answer with those to the visitor's last frames.

        Raises:
            DataError: not a picture, or too large.
        """
        picture_HWC = self._decoder.picture(content)
        with self._one:
            number, model = self.changes.number, self.changes.model
            try:  # the thread that learns may take the only lesson back meanwhile
                labels, probabilities_NC, scores_N = model.answers([picture_HWC])
                threshold = model.threshold_
                map_hw = _looked_at(model, picture_HWC) if attention else None
            except NotFittedError:
                return Answer(label=None)
        probabilities_C, known = probabilities_NC[0], float(np.clip(scores_N[0], 0, 1))
        if smooth and visitor:
            probabilities_C, known = self._smoother.joined(visitor, number, probabilities_C, known)
        order = np.argsort(-probabilities_C, kind="stable")[:top]
        best = tuple((str(labels[index]), float(probabilities_C[index])) for index in order)
        label = best[0][0] if known >= threshold else UNKNOWN
        drawn = None if map_hw is None else overlay(fitted(picture_HWC, _DRAWN), map_hw)
        return Answer(label=label, probabilities=best, known=known, attention_HWC=drawn)

    # -- teaching -----------------------------------------------------------------------------------

    def take(self, visitor: str, content: Any) -> int:
        """Add one frame of the object that a visitor shows; returns how many there are.

        Raises:
            DataError: not a picture, too large, or more frames than can be taught at once.
            BusyError: too many visitors, or too many frames in all.
        """
        return self._holds.add(visitor, [self._decoder.picture(content, frame=True)])

    def upload(self, visitor: str, path: Path) -> tuple[int, str]:
        """Add the pictures of an image or video file; how many there are, and a sentence about them. Errors as of
        ``take``."""
        frames, note = self._decoder.upload(path)
        return self._holds.add(visitor, frames), note

    def drop(self, visitor: str) -> None:
        """Discard the frames that a visitor showed."""
        if self._holds.drop(visitor):
            give_memory_back()
        self._smoother.drop(visitor)

    def release(self, visitor: str, label: Any, *, same_as: Any = None, new: bool = False) -> Job:
        """Learn the frames that a visitor showed since the last release; if it is refused, they are kept.

        Args:
            same_as: the known class that they are of, in place of ``label``.
            new: make a new class although one has that name but for upper and lower case.

        Raises:
            DataError: nothing was shown, or the name cannot be used. SameNameError: see ``new``.
            BusyError: too many jobs are waiting.
        """
        with self._releasing:
            frames = self._holds.shown(visitor)
            if not frames:
                raise DataError("no frame was taken: hold the button while the camera shows the object")
            if same_as is not None and same_as not in map(str, self.changes.known):
                raise DataError(f"there is no class {str(same_as)[:LONGEST]!a}")
            name = self._name(label if same_as is None else same_as, new=new)
            held = sum(frame.nbytes for frame in frames)

            def act(report: Report) -> str:
                try:
                    return self.changes.learn(name, frames)
                finally:
                    self._holds.give_back(held)

            job = self._change("teach", f"the lesson {name}", act, label=name, frames=len(frames))
            self._holds.take(visitor)
        self._smoother.drop(visitor)
        return job

    def _name(self, label: Any, *, new: bool = False, more: int = 1) -> str:
        """A name that may be used for a class from now on; ``more`` is how many classes there will be more."""
        name = checked_name(_text(label), "an object", of_a_stranger=True)
        if len(name) > LONGEST:
            raise DataError(f"a name has at most {LONGEST} characters, got {len(name)}")
        if name.casefold() == UNKNOWN:
            raise DataError(f"{UNKNOWN!r} is the answer for what was never taught; choose another name")
        waiting = {job.label for job in self._queue.jobs() if not job.over and job.kind == "teach"}
        names = {*map(str, self.changes.known), *waiting}
        other = None if new or name in names else same_but_for_case(name, sorted(names))
        if other is not None:
            raise SameNameError(name, other)
        if name not in names and len(names) + more > self.limits.classes:
            raise DataError(f"{self.limits.classes} classes are known, which is the limit; forget one first")
        return name

    # -- other changes, in the order of the lessons -------------------------------------------------

    def forget(self, label: Any) -> Job:
        """Remove a class, its thumbnail and its pictures."""
        name = _text(label)
        return self._change("forget", f"forgetting {name}", lambda _: self.changes.forget(name), label=name)

    def rename(self, label: Any, new: Any) -> Job:
        """Give a class another name."""
        name, other = _text(label), self._name(new, new=True, more=0)
        what = f"the new name of {name}"
        return self._change("rename", what, lambda _: self.changes.rename(name, other), label=name)

    def merge(self, label: Any, into: Any) -> Job:
        """Make a class part of another one."""
        name, other = _text(label), _text(into)
        what = f"making {name} part of {other}"
        return self._change("merge", what, lambda _: self.changes.merge(name, other), label=name)

    def discard(self, number: Any) -> Job:
        """Throw one kept picture out: its class is forgotten and learned anew from the others that were kept."""
        number = str(number)
        name = self.changes.shown.class_of(number)
        what = f"throwing out a picture of {name}"
        return self._change("discard", what, lambda _: self.changes.discard(number), label=name)

    def import_pictures(self, archive: Path, remove: Callable[[], None]) -> Job:
        """Learn an archive of labelled pictures, a folder for each class; ``remove`` is called at the end."""

        def act(report: Report) -> str:
            try:
                return self.changes.learn_archive(archive, lambda name: self._name(name, new=True), report)
            finally:
                remove()

        return self._change("import", "the import", act)

    def load(self) -> Job:
        """Go back to the saved state in the directory; it can be taken back. Errors as of ``save``."""
        self._check_directory()
        return self._change("load", "loading", lambda _: self.changes.load())

    def undo(self) -> Job:
        """Take the last change back, exactly."""
        return self._queue.add("undo", lambda _: Outcome(message=self.changes.undo()))

    def save(self) -> Job:
        """Save into the directory. Raises ConfigError if none was given at the start."""
        self._check_directory()
        return self._queue.add("save", lambda _: Outcome(message=self.changes.save()))

    def export(self, form: Any) -> Job:
        """Pack the classifier for a download: ``onnx``, ``huggingface`` or ``model``."""
        if form not in FORMATS:
            raise DataError(f"choose one of {', '.join(FORMATS)}")
        return self._queue.add("export", lambda _: Outcome(download=self.changes.export(form)), label=form)

    def _change(
        self, kind: str, what: str, act: Callable[[Report], str], *, label: str = "", frames: int = 0
    ) -> Job:
        """Queue a change that can be taken back; ``act`` returns a sentence for the user, or nothing."""

        def change(report: Report) -> Outcome:
            try:
                return Outcome(message=self.changes.make(what, partial(act, report)))
            finally:
                give_memory_back()

        return self._queue.add(kind, change, label=label, frames=frames)

    def _check_directory(self) -> None:
        if self.changes.directory is None:
            raise ConfigError("no directory was given at the start; start the page as: vitlr serve MODEL")

    # -- what the page shows ------------------------------------------------------------------------

    def thumbnail(self, label: str) -> bytes:
        """JPEG; DataError if there is none."""
        picture = self.changes.shown.thumbnails.get(unicodedata.normalize("NFC", label))
        if picture is None:
            raise DataError("there is no thumbnail of this name")
        return jpeg(picture)

    def pictures(self, label: str) -> tuple[str, ...]:
        """Numbers of the kept pictures of a class."""
        return self.changes.shown.pictures.get(unicodedata.normalize("NFC", label), ())

    def keep(self, on: bool) -> None:
        """Keep pictures that are taught from now on, or no longer; those that are kept stay."""
        self.changes.keep_pictures = on
        self._touch()

    def set_threshold(self, value: float | None) -> None:
        """Below it an answer is ``unknown``; None sets it from the taught frames. Raises ConfigError."""
        self.changes.model.set_params(threshold=None if value is None else check_threshold(value))
        self._touch()

    def threshold(self) -> dict[str, Any]:
        """``value``, 0..1, and ``auto`` if it is set from the taught frames."""
        model = self.changes.model
        try:
            value = model.threshold_
        except NotFittedError:
            value = model.threshold or 0.0
        return {"value": float(np.clip(value, 0, 1)), "auto": model.threshold is None}

    def network(self) -> dict[str, Any]:
        """Name of the network in use, if it is the bundled one, and a warning if that is so."""
        model, name = self.changes.model, str(self.changes.model.backbone)
        image_size: int | None = model.image_size
        with suppress(NotFittedError):
            image_size = model.parts()[0].image_size
        return {
            "name": Path(name).name if Path(name).is_dir() else name,
            "bundled": name in BUNDLED,
            "warning": f"{ABOUT_BUNDLED[0].upper()}{ABOUT_BUNDLED[1:]}." if name in BUNDLED else None,
            "image_size": image_size,
        }

    @property
    def revision(self) -> int:
        """Rises with every change that the page shows."""
        return self._revision

    def jobs(self) -> list[Job]:
        """Jobs that wait, are being done, or were done lately; the newest last."""
        return self._queue.jobs()

    def job(self, number: int) -> Job:
        """State of a job; DataError if it does not exist or is no longer stored."""
        return self._queue.job(number)

    def wait(self, job: Job, seconds: float = 60.0) -> Job:
        """The job once it is over, or its state after that many seconds."""
        return self._queue.wait(job, seconds)

    def exported(self, number: int) -> Path:
        """The file that a job made; DataError if there is none any more."""
        job = self._queue.job(number)
        path = self._folder / (job.download or "-")
        if not path.is_file():
            raise DataError("this file is no longer there; export it again")
        return path


def _text(label: Any) -> str:
    """The name; DataError if it is none."""
    text = label.strip() if isinstance(label, str) else str(label) if type(label) is int else ""
    if not text:
        raise DataError("give the object a name first")
    if len(text) > 1000:
        raise DataError(f"a name has at most {LONGEST} characters, got {len(text)}")
    return unicodedata.normalize("NFC", text)


def _looked_at(model: LatentReplayClassifier, picture_HWC: np.ndarray) -> np.ndarray:
    """(h, w) of attention rollout."""
    backbone, head = model.parts()
    pixels = read_image(picture_HWC, backbone.image_size, backbone.resample)[None]
    return attention_rollout(backbone, torch.from_numpy(pixels), head)[0].numpy()
