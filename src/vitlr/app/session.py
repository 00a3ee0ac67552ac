"""The live page without its HTML: frames in, answers out, changes in one queue.

All visitors share one classifier. Answers come from the last finished change and never wait for learning; lessons,
and everything else that changes what is known, are done in the order in which they were asked for.
"""

from __future__ import annotations

import threading
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from vitlr.app import exchange
from vitlr.app.answers import Answer, Smoother
from vitlr.app.frames import Decoder, jpeg
from vitlr.app.gallery import Gallery, Shown
from vitlr.app.holds import Holds
from vitlr.app.jobs import Job, LearningQueue, Outcome
from vitlr.app.limits import BusyError, Limits
from vitlr.classifier import LatentReplayClassifier
from vitlr.classifier.classifier import check_threshold
from vitlr.classifier.labels import Label, known_label
from vitlr.data.images import read_image
from vitlr.data.names import checked_name, counted, expanded, same_but_for_case
from vitlr.errors import ConfigError, DataError, VitLRError
from vitlr.report.overlay import fitted, overlay
from vitlr.vit.views.rollout import attention_rollout

__all__ = ["Answer", "BusyError", "Job", "Limits", "LiveSession", "SameNameError"]

UNKNOWN = "unknown"
BUNDLED = "bundled"
_WARNING = (
    "The bundled network was pretrained on rendered objects alone: on photographs it reached an accuracy of .45 where a"
    " ViT-Ti pretrained on ImageNet had .94. Start the page with --backbone for a real one."
)
LONGEST = 60  # characters of a name
_DRAWN = 384  # pixels of the longer side of a picture with attention

Report = Callable[[float], None]


class SameNameError(DataError):
    """A name differs from that of a known class in upper and lower case only: ``same_as``."""

    def __init__(self, name: str, same_as: str) -> None:
        super().__init__(f"{name} differs from {same_as} in upper and lower case only: is it the same?")
        self.same_as = same_as


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """What was known before the last change."""

    what: str
    model: LatentReplayClassifier
    shown: Shown


class LiveSession:
    """One classifier, taught and asked by any number of visitors.

    Args:
        model: the classifier.
        folder: an empty private directory for pictures and exports; removed by whoever made it.
        directory: where ``save`` writes and ``load`` reads; nothing else is ever written.
        autosave: save after each change.
        reopen: opens what is saved there, for ``load``; by default with its own settings.

    Raises:
        VitLRError: the saved state in the directory cannot be used.
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
        self.model = model
        self.directory = None if directory is None else expanded(directory)
        self.limits = Limits() if limits is None else limits
        self.autosave = autosave and self.directory is not None
        self.keep_pictures = False
        self._reopen = reopen
        self._folder = folder
        self._lock = threading.Lock()  # guards the small parts below; never held during computation
        self._one = threading.Lock()  # answers one picture at a time, since learning uses the same cores
        self._releasing = threading.Lock()
        self._decoder = Decoder(self.limits)
        self._smoother = Smoother()
        self._holds = Holds(self.limits)
        self._gallery = Gallery(folder / "pictures", self.limits.kept_bytes)
        self._shown = Shown() if self.directory is None else self._gallery.load(self.directory)
        self._before: _Moment | None = None
        self._revision = 0
        self._changes = 0  # of what is known
        self._queue = LearningQueue(self.limits.waiting, self._touch)

    def close(self, seconds: float = 60.0) -> bool:
        """Stop after the job that is being done; False if it is not over within that time."""
        return self._queue.close(seconds)

    def _touch(self) -> None:
        with self._lock:
            self._revision += 1

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
            model, changes = self.model, self._changes
            if not self.known:
                return Answer(label=None)
            labels, probabilities_NC, scores_N = model.answers([picture_HWC])
            map_hw = _looked_at(model, picture_HWC) if attention else None
        probabilities_C, known = probabilities_NC[0], float(np.clip(scores_N[0], 0, 1))
        if smooth and visitor:
            probabilities_C, known = self._smoother.joined(visitor, changes, probabilities_C, known)
        order = np.argsort(-probabilities_C, kind="stable")[:top]
        best = tuple((str(labels[index]), float(probabilities_C[index])) for index in order)
        label = best[0][0] if known >= self._threshold() else UNKNOWN
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
        self._holds.drop(visitor)
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
            if same_as is not None and str(same_as) not in map(str, self.known):
                raise DataError(f"there is no class {str(same_as)[:LONGEST]!r}")
            name = self._name(label if same_as is None else same_as, new=new)
            held = 0

            def act(report: Report) -> str:
                try:
                    return self._learn(name, frames)
                finally:
                    self._holds.give_back(held)

            job = self._change("teach", f"the lesson {name}", act, label=name, frames=len(frames))
            held = self._holds.take(visitor)
        self._smoother.drop(visitor)
        return job

    def teach(self, pictures: Sequence[np.ndarray], label: Any) -> Job:
        """Learn pictures, (H, W, 3) uint8 each. Errors as of ``release``."""
        name, frames = self._name(label, new=True), list(pictures)
        if not 0 < len(frames) <= self.limits.frames:
            raise DataError(f"give 1 to {self.limits.frames} images of {name} at once, got {len(frames)}")
        return self._change(
            "teach",
            f"the lesson {name}",
            lambda _: self._learn(name, frames),
            label=name,
            frames=len(frames),
        )

    def _learn(self, name: str, frames: list[np.ndarray]) -> str:
        self.model.partial_fit(frames, self._as_known(name))
        self._shown = self._gallery.taught(self._shown, name, frames, keep=self.keep_pictures)
        return ""

    def _name(self, label: Any, *, new: bool = False) -> str:
        name = checked_name(_text(label), "an object", of_a_stranger=True)
        if len(name) > LONGEST:
            raise DataError(f"a name has at most {LONGEST} characters, got {len(name)}")
        if name.casefold() == UNKNOWN:
            raise DataError(f"{UNKNOWN!r} is the answer for what was never taught; choose another name")
        waiting = {job.label for job in self._queue.jobs() if not job.over and job.kind == "teach"}
        names = {*map(str, self.known), *waiting}
        other = None if new or name in names else same_but_for_case(name, sorted(names))
        if other is not None:
            raise SameNameError(name, other)
        if len({*names, name}) > self.limits.classes:
            raise DataError(f"{self.limits.classes} classes are known, which is the limit; forget one first")
        return name

    def _as_known(self, name: str) -> Label:
        """A known label keeps its type: the class 3 is taught as ``3``."""
        return known_label(unicodedata.normalize("NFC", name), self.known)

    # -- changes, in the order of the lessons -------------------------------------------------------

    def forget(self, label: Any) -> Job:
        """Remove a class, its thumbnail and its pictures."""
        name = _text(label)

        def act(report: Report) -> str:
            self.model.forget(self._as_known(name))
            self._shown = self._shown.without(name)
            return self.model.remains

        return self._change("forget", f"forgetting {name}", act, label=name)

    def rename(self, label: Any, new: Any) -> Job:
        """Give a class another name."""
        name, other = _text(label), self._name(new, new=True)

        def act(report: Report) -> str:
            self.model.rename(self._as_known(name), other)
            self._shown = self._shown.renamed(name, other)
            return ""

        return self._change("rename", f"the new name of {name}", act, label=name)

    def merge(self, label: Any, into: Any) -> Job:
        """Make a class part of another one."""
        name, other = _text(label), _text(into)

        def act(report: Report) -> str:
            self.model.merge_classes(self._as_known(name), self._as_known(other))
            self._shown = self._shown.renamed(name, other)
            return ""

        return self._change("merge", f"joining {name} with {other}", act, label=name)

    def discard(self, number: Any) -> Job:
        """Throw one kept picture out: its class is forgotten and learned anew from the others that were kept."""
        number = str(number)
        name = self._shown.class_of(number)
        return self._change(
            "discard", f"the thrown out picture of {name}", lambda _: self._without(name, number), label=name
        )

    def _without(self, name: str, number: str) -> str:
        shown = self._shown
        shown.class_of(number)  # it may be gone by now
        rest = tuple(each for each in shown.pictures[name] if each != number)
        frames = [read_image(self._gallery.file(each).read_bytes()) for each in rest]
        images = dict(self.model.remember().images)[self._as_known(name)]
        self.model.forget(self._as_known(name))
        if frames:
            self.model.partial_fit(frames, self._as_known(name))
        pictures = {key: each for key, each in shown.pictures.items() if key != name}
        self._shown = self._gallery.taught(
            Shown({key: each for key, each in shown.thumbnails.items() if key != name}, pictures),
            name, frames, keep=False,
        ) if frames else shown.without(name)  # fmt: skip
        if frames:
            self._shown.pictures[name] = rest
        lost = images - 1 - len(rest)
        return f"{lost} images of {name} that were not kept are forgotten with it" if lost > 0 else ""

    def undo(self) -> Job:
        """Take the last change back, exactly."""
        return self._queue.add("undo", self._undo)

    def _undo(self, report: Report) -> Outcome:
        before = self._before
        if before is None:
            raise DataError("there is nothing to undo")
        if before.model is self.model:
            self.model.undo()
        self._publish(before.model, before.shown, None)
        return Outcome(message=" ".join(filter(None, (f"{before.what} was taken back", self._autosaved()))))

    def _change(
        self, kind: str, what: str, act: Callable[[Report], str], *, label: str = "", frames: int = 0
    ) -> Job:
        """Queue a change that can be taken back; ``act`` returns a sentence for the user, or nothing."""

        def change(report: Report) -> Outcome:
            before = _Moment(what=what, model=self.model, shown=self._shown)
            note = act(report)
            self._publish(self.model, self._shown, before)
            return Outcome(message=" ".join(filter(None, (note, self._autosaved()))))

        return self._queue.add(kind, change, label=label, frames=frames)

    def _publish(self, model: LatentReplayClassifier, shown: Shown, before: _Moment | None) -> None:
        with self._lock:
            self.model, self._shown, self._before = model, shown, before
            self._changes += 1
            self._revision += 1
        self._gallery.drop_all_but(shown, *([before.shown] if before else []))

    # -- disk ---------------------------------------------------------------------------------------

    def save(self) -> Job:
        """Save classifier, thumbnails and kept pictures into the directory.

        Raises:
            ConfigError: no directory was given at the start.
        """
        directory = self._place()

        def act(report: Report) -> Outcome:
            self._save(directory)
            return Outcome(message=f"saved in {directory}")

        return self._queue.add("save", act)

    def load(self) -> Job:
        """Go back to the saved state in the directory; it can be undone. Errors as of ``save``."""
        directory = self._place()

        def act(report: Report) -> str:
            self.model = LatentReplayClassifier.load(directory) if self._reopen is None else self._reopen()
            self._shown = self._gallery.load(directory)
            return f"loaded from {directory}"

        return self._change("load", "loading", act)

    def _place(self) -> Path:
        if self.directory is None:
            raise ConfigError("no directory was given at the start; start the page as: vitlr serve MODEL")
        return self.directory

    def _save(self, directory: Path) -> None:
        self.model.save(directory)
        self._gallery.save(self._shown, directory)

    def _autosaved(self) -> str:
        if not self.autosave:
            return ""
        try:
            self._save(self._place())
        except VitLRError as error:
            return f"done, but not saved: {error}"
        except Exception as error:  # it is done, whatever the disk does
            return f"done, but not saved ({type(error).__name__})"
        return ""

    # -- import and export --------------------------------------------------------------------------

    def import_pictures(self, archive: Path, remove: Callable[[], None]) -> Job:
        """Learn an archive of labelled pictures, a folder for each class; ``remove`` is called at the end."""

        def act(report: Report) -> str:
            try:
                return self._import(archive, report)
            finally:
                remove()

        return self._change("import", "the import", act)

    def _import(self, archive: Path, report: Report) -> str:
        """Each class is a lesson of its own, so that only one is in memory; all of them are learned, or none is."""
        with TemporaryDirectory(dir=self._folder) as folder:
            files, notes = exchange.pictures_of(archive, Path(folder, "unpacked"), self.limits.frames)
            names = {self._name(name, new=True): paths for name, paths in files.items()}
            if len({*map(str, self.known), *names}) > self.limits.classes:
                raise DataError(f"more than {self.limits.classes} classes would be known, which is the limit")
            left_out = 0
            for number, (name, paths) in enumerate(names.items()):
                frames = []
                for path in paths:
                    try:
                        frames.append(self._decoder.picture(path))
                    except DataError:
                        left_out += 1
                if frames:
                    self._learn(name, frames)
                report((number + 1) / len(names))
        if left_out:
            notes.append(f"{counted(left_out, 'picture')} could not be read and were left out")
        return "; ".join(notes)

    def export(self, form: Any) -> Job:
        """Pack the classifier for a download: ``onnx``, ``huggingface`` or ``model``."""
        if form not in exchange.FORMATS:
            raise DataError(f"choose one of {', '.join(exchange.FORMATS)}")

        def act(report: Report) -> Outcome:
            return Outcome(download=exchange.pack(self.model, self._folder, form))

        return self._queue.add("export", act, label=form)

    def exported(self, number: int) -> Path:
        """The file that a job made; DataError if there is none any more."""
        job = self._queue.job(number)
        path = self._folder / (job.download or "-")
        if not path.is_file():
            raise DataError("this file is no longer there; export it again")
        return path

    # -- what the page shows ------------------------------------------------------------------------

    @property
    def known(self) -> list[Label]:
        """Labels in the order in which they were taught."""
        return self.model.classes_.tolist() if hasattr(self.model, "classes_") else []

    def classes(self) -> list[dict[str, Any]]:
        """Label, images, latents, version of the thumbnail (None without one) and number of kept pictures of each."""
        with self._lock:
            model, shown = self.model, self._shown
        if not hasattr(model, "classes_"):
            return []
        summary = model.remember()
        return [
            {
                "label": str(label),
                "images": count,
                "latents": summary.latents[label],
                "thumbnail": _version(shown.thumbnails.get(str(label))),
                "pictures": len(shown.pictures.get(str(label), ())),
            }
            for label, count in summary.images.items()
        ]

    def thumbnail(self, label: str) -> bytes:
        """JPEG; DataError if there is none."""
        picture = self._shown.thumbnails.get(unicodedata.normalize("NFC", label))
        if picture is None:
            raise DataError("there is no thumbnail of this name")
        return jpeg(picture)

    def pictures(self, label: str) -> tuple[str, ...]:
        """Numbers of the kept pictures of a class."""
        return self._shown.pictures.get(unicodedata.normalize("NFC", label), ())

    def picture(self, number: str) -> bytes:
        """JPEG; DataError if there is none."""
        self._shown.class_of(number)
        return self._gallery.file(number).read_bytes()

    def keep(self, on: bool) -> None:
        """Keep pictures that are taught from now on, or no longer; those that are kept stay."""
        self.keep_pictures = on
        self._touch()

    def set_threshold(self, value: float | None) -> None:
        """Below it an answer is ``unknown``; None sets it from the taught frames. Raises ConfigError."""
        self.model.set_params(threshold=check_threshold(value))
        self._touch()

    def threshold(self) -> dict[str, Any]:
        """``value``, 0..1, and ``auto`` if it is set from the taught frames."""
        return {"value": self._threshold(), "auto": False}

    def _threshold(self) -> float:
        return float(self.model.threshold)

    def network(self) -> dict[str, Any]:
        """Name of the network in use, if it is the bundled one, and a warning if that is so."""
        name = str(self.model.backbone)
        bundled = name == BUNDLED
        return {
            "name": name,
            "bundled": bundled,
            "warning": _WARNING if bundled else None,
            "image_size": self.model.image_size,
        }

    @property
    def undoable(self) -> str | None:
        """What ``undo`` would take back."""
        before = self._before
        return None if before is None else before.what

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


def _text(label: Any) -> str:
    """The name; DataError if it is none."""
    text = label.strip() if isinstance(label, str) else str(label) if type(label) is int else ""
    if not text:
        raise DataError("give the object a name first")
    if len(text) > 1000:
        raise DataError(f"a name has at most {LONGEST} characters, got {len(text)}")
    return unicodedata.normalize("NFC", text)


def _version(picture: np.ndarray | None) -> int | None:
    return None if picture is None else zlib.crc32(np.ascontiguousarray(picture))


def _looked_at(model: LatentReplayClassifier, picture_HWC: np.ndarray) -> np.ndarray:
    """(h, w) of attention rollout."""
    backbone, head = model.parts()
    pixels = read_image(picture_HWC, backbone.image_size, backbone.resample)[None]
    return attention_rollout(backbone, torch.from_numpy(pixels), head)[0].numpy()
