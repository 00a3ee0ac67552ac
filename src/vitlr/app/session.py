"""The live page without its HTML: frames in, answers out, learning in a thread of its own.

All visitors share one classifier. Answers come from the last finished experience and never wait
for learning; experiences wait for each other in a queue of bounded length.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from vitlr.classifier import LatentReplayClassifier
from vitlr.classifier.labels import Label, known_label
from vitlr.data.images import read_image
from vitlr.data.names import checked_name, expanded, same_but_for_case
from vitlr.data.video import Video, is_video, read_video
from vitlr.errors import ConfigError, DataError, VitLRError
from vitlr.storage.files import write_atomically
from vitlr.vit.views.rollout import attention_rollout

__all__ = ["Answer", "BusyError", "Job", "Limits", "LiveSession"]

UNKNOWN = "unknown"
THUMBNAILS = "thumbnails.safetensors"
_SIDE = 96  # pixels of a thumbnail
_LONGEST = 60  # characters of a name
_KEPT_JOBS = 20


class BusyError(VitLRError):
    """Too many requests are waiting; try again in a moment."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on what visitors may ask for; every number is at least 1.

    Attributes:
        classes: classes that may be known.
        frames: frames of one object taught at once.
        frame_bytes: size of one picture as it is sent; Pillow's limit on its pixels also applies.
        upload_bytes: size of one uploaded file.
        waiting: experiences that wait to be learned.
        holds: visitors who show something at the same time.
        answers: pictures that are being recognised or wait for it at the same time.
    """

    classes: int = 200
    frames: int = 300
    frame_bytes: int = 4 * 2**20
    upload_bytes: int = 64 * 2**20
    waiting: int = 4
    holds: int = 16
    answers: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ConfigError(f"the limit of {name} must be at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a picture.

    Attributes:
        label: the most probable class, or ``unknown``; None if nothing is known yet.
        probabilities: of the most probable classes, highest first.
        score: how much it looks like something known, -1..1.
        attention_hw: what the network looked at, 0..1, if asked for.
    """

    label: str | None
    probabilities: tuple[tuple[str, float], ...] = ()
    score: float = 0.0
    attention_hw: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One experience: ``waiting``, ``learning``, ``done`` or ``failed``."""

    number: int
    label: str
    frames: int
    state: str = "waiting"
    seconds: float = 0.0  # of learning, once done
    message: str = ""


@dataclass
class _Hold:
    """Frames of a visitor who holds the button "Hold to teach"."""

    frames: list[np.ndarray] = field(default_factory=list)
    touched: float = 0.0


class LiveSession:
    """One classifier, taught and asked by any number of visitors.

    Args:
        model: the classifier.
        directory: where ``save`` writes and ``load`` reads; nothing else is ever written.
        autosave: save after each experience and each forgotten class.
        reopen: opens what is saved there, for ``load``; by default with its own settings.

    Raises:
        VitLRError: the saved state in the directory cannot be used.
    """

    def __init__(
        self,
        model: LatentReplayClassifier,
        directory: str | Path | None = None,
        *,
        limits: Limits | None = None,
        autosave: bool = False,
        reopen: Callable[[], LatentReplayClassifier] | None = None,
    ) -> None:
        self.model = model
        self._reopen = reopen
        self.directory = None if directory is None else expanded(directory)
        self.limits = Limits() if limits is None else limits
        self.autosave = autosave and self.directory is not None
        self._holds: OrderedDict[str, _Hold] = OrderedDict()
        self._lock = threading.Lock()  # guards the small parts below; never held during computation
        self._answering = threading.BoundedSemaphore(self.limits.answers)
        self._one = threading.Lock()  # answers one picture at a time, since learning uses the same cores
        self._thumbnails: dict[str, np.ndarray] = (
            {} if directory is None else _read_thumbnails(expanded(directory))
        )
        self._jobs: OrderedDict[int, Job] = OrderedDict()
        self._queue: queue.Queue[tuple[int, Sequence[Any]] | None] = queue.Queue(self.limits.waiting)
        self._count = 0
        self._worker = threading.Thread(target=self._work, name="vitlr-learning", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """Stop learning after the current experience."""
        self._queue.put(None)
        self._worker.join(timeout=60)

    # -- answers ------------------------------------------------------------------------------------

    def answer(self, content: Any, *, attention: bool = False, top: int = 5) -> Answer:
        """Recognise a picture.

        Args:
            content: the bytes of an image file, or anything that ``vitlr.data.images.read_image`` takes.
            attention: also return what the network looked at (another pass through it).

        Raises:
            DataError: not a picture, or too large.
            BusyError: too many pictures are waiting.
        """
        if not self._answering.acquire(blocking=False):
            raise BusyError("too many pictures are waiting; send fewer at once")
        try:
            with self._one:
                return self._answer(self._picture(content), attention, top)
        finally:
            self._answering.release()

    def _answer(self, picture_HWC: np.ndarray, attention: bool, top: int) -> Answer:
        if not self.known:
            return Answer(label=None)
        labels, probabilities_NC, scores_N = self.model.answers([picture_HWC])
        probabilities_C, score = probabilities_NC[0], float(scores_N[0])
        order = np.argsort(-probabilities_C, kind="stable")[:top]
        best = tuple((str(labels[index]), float(probabilities_C[index])) for index in order)
        map_hw = None
        if attention:
            backbone, head = self.model.parts()
            pixels = read_image(picture_HWC, backbone.image_size, backbone.resample)[None]
            map_hw = attention_rollout(backbone, torch.from_numpy(pixels), head)[0].numpy()
            map_hw = map_hw / max(float(map_hw.max()), 1e-12)
        label = best[0][0] if score >= self.model.threshold else UNKNOWN
        return Answer(label=label, probabilities=best, score=score, attention_hw=map_hw)

    def _picture(self, content: Any) -> np.ndarray:
        """(H, W, 3) uint8, small enough to store hundreds of them."""
        if isinstance(content, (bytes, bytearray)):
            limit = self.limits.frame_bytes
            if len(content) > limit:
                size = len(content) / 1e6
                raise DataError(f"the picture has {size:.1f} MB; send at most {limit / 1e6:.1f}")
        picture = read_image(content)
        longest = max(picture.shape[:2])
        if longest > 512:  # no network here reads more, and 300 full frames of a camera take gigabytes
            shrunk = Image.fromarray(picture)
            shrunk.thumbnail((512, 512), Image.Resampling.BICUBIC, reducing_gap=3.0)
            picture = np.asarray(shrunk)
        return picture

    # -- teaching -----------------------------------------------------------------------------------

    def take(self, visitor: str, content: Any) -> int:
        """Add one frame of the object that a visitor shows; returns how many there are.

        Raises:
            DataError: not a picture, or too many frames.
            BusyError: too many visitors are teaching.
        """
        picture = self._picture(content)
        with self._lock:
            now = time.monotonic()
            for key in [key for key, hold in self._holds.items() if now - hold.touched > 60]:
                del self._holds[key]  # visitors who left without releasing the button
            if visitor not in self._holds and len(self._holds) >= self.limits.holds:
                raise BusyError("too many visitors are teaching at once; try again in a moment")
            hold = self._holds.setdefault(visitor, _Hold())
            if len(hold.frames) >= self.limits.frames:
                raise DataError(f"{self.limits.frames} frames are enough: release the button to learn them")
            hold.frames.append(picture)
            hold.touched = now
            return len(hold.frames)

    def drop(self, visitor: str) -> None:
        """Discard the frames that a visitor showed."""
        with self._lock:
            self._holds.pop(visitor, None)

    def release(self, visitor: str, label: Any) -> Job:
        """Learn the frames that a visitor showed since the last release.

        Raises:
            DataError: nothing was shown, or the name cannot be used.
            BusyError: too many experiences are waiting.
        """
        with self._lock:
            hold = self._holds.pop(visitor, None)
        if hold is None or not hold.frames:
            raise DataError("no frame was taken: hold the button while the camera shows the object")
        return self.teach(hold.frames, label)

    def teach(self, images: Sequence[Any], label: Any) -> Job:
        """Queue images to be learned, in the order of the calls; returns at once.

        Raises:
            DataError: the name cannot be used, or there is no image, or there are too many.
            BusyError: too many experiences are waiting.
        """
        name = self._name(label)
        if not 0 < len(images) <= self.limits.frames:
            raise DataError(f"give 1 to {self.limits.frames} images of {name} at once, got {len(images)}")
        with self._lock:
            self._count += 1
            job = Job(number=self._count, label=name, frames=len(images))
            try:
                self._queue.put_nowait((job.number, images))
            except queue.Full:
                raise BusyError(
                    "too many experiences are waiting to be learned; try again in a moment"
                ) from None
            self._jobs[job.number] = job
            for number in list(self._jobs)[:-_KEPT_JOBS]:
                if self._jobs[number].state in ("done", "failed"):
                    del self._jobs[number]
        return job

    def _name(self, label: Any) -> str:
        text = str(label or "").strip()
        if not text:
            raise DataError("give the object a name first")
        name = checked_name(text, "an object")
        if len(name) > _LONGEST:
            raise DataError(f"a name has at most {_LONGEST} characters, got {len(name)}")
        if name.casefold() == UNKNOWN:
            raise DataError(f"{UNKNOWN!r} is the answer for what was never taught; choose another name")
        with self._lock:
            waiting = {job.label for job in self._jobs.values() if job.state in ("waiting", "learning")}
        if len({*map(str, self.known), *waiting, name}) > self.limits.classes:
            raise DataError(f"{self.limits.classes} classes are known, which is the limit; forget one first")
        return name

    def job(self, number: int) -> Job:
        """State of an experience; DataError if it does not exist or is no longer stored."""
        with self._lock:
            if number not in self._jobs:
                raise DataError(f"there is no job {number}")
            return self._jobs[number]

    def wait(self, job: Job, seconds: float = 60.0) -> Job:
        """The job once it is done or failed, or its state after that many seconds."""
        until = time.monotonic() + seconds
        while (now := self.job(job.number)).state in ("waiting", "learning") and time.monotonic() < until:
            time.sleep(0.01)
        return now

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            number, images = task
            self._set(number, state="learning")
            began = time.perf_counter()
            job = self.job(number)
            label = self._as_known(job.label)
            other = None if label in self.known else same_but_for_case(job.label, self.known)
            alike = f"{job.label} differs from {other} in upper and lower case only." if other else ""
            try:
                self.model.partial_fit(list(images), label)
                self._keep_thumbnail(job.label, images)
                seconds = time.perf_counter() - began
                note = " ".join(filter(None, (alike, self._autosaved())))
                self._set(number, state="done", seconds=seconds, message=note)
            except VitLRError as error:
                self._set(number, state="failed", message=str(error))
            except Exception as error:  # a bug must not end the thread that learns
                self._set(number, state="failed", message=f"it could not be learned ({type(error).__name__})")

    def _as_known(self, name: str) -> Label:
        """A known label keeps its type: the class 3 is taught as ``3``."""
        return known_label(unicodedata.normalize("NFC", name), self.known)

    def _set(self, number: int, **changes: Any) -> None:
        with self._lock:
            self._jobs[number] = replace(self._jobs[number], **changes)

    def _keep_thumbnail(self, name: str, images: Sequence[Any]) -> None:
        with self._lock:
            if name in self._thumbnails:
                return
        source = images[len(images) // 2]
        try:
            picture = Image.fromarray(_one_picture(source))
        except VitLRError:
            return  # forgotten in the meantime
        width, height = picture.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        small = picture.crop((left, top, left + side, top + side)).resize(
            (_SIDE, _SIDE), Image.Resampling.BICUBIC
        )
        with self._lock:
            self._thumbnails[name] = np.asarray(small)

    # -- classes, disk ------------------------------------------------------------------------------

    @property
    def known(self) -> list[Label]:
        """Labels in the order in which they were taught."""
        return self.model.classes_.tolist() if hasattr(self.model, "classes_") else []

    def classes(self) -> list[tuple[str, int, np.ndarray | None]]:
        """Name, images taught and thumbnail (96, 96, 3) of each class."""
        if not self.known:
            return []
        counts = self.model.remember().images
        with self._lock:
            return [(str(label), count, self._thumbnails.get(str(label))) for label, count in counts.items()]

    def forget(self, name: str) -> int:
        """Remove a class; returns how many latents it had. Raises DataError if there is no class of that name."""
        name = unicodedata.normalize("NFC", str(name))
        removed = self.model.forget(self._as_known(name)) if self.known else 0
        with self._lock:
            self._thumbnails.pop(name, None)
        self._autosaved()
        return removed

    def save(self) -> Path:
        """Save classifier and thumbnails into the directory.

        Raises:
            ConfigError: no directory was given at the start.
            RunError: it cannot be written.
        """
        if self.directory is None:
            raise ConfigError("no directory was given at the start; start the page as: vitlr serve MODEL")
        self.model.save(self.directory)
        with self._lock:
            thumbnails = dict(self._thumbnails)
        names = list(thumbnails)
        arrays = {str(index): np.ascontiguousarray(thumbnails[name]) for index, name in enumerate(names)}
        content = save_arrays(arrays, {"names": json.dumps(names)})
        write_atomically(self.directory / THUMBNAILS, [content])
        return self.directory

    def load(self) -> Path:
        """Go back to the saved state in the directory.

        Raises:
            ConfigError: no directory was given.
            RunError: the directory holds no usable state.
        """
        if self.directory is None:
            raise ConfigError("no directory was given at the start; start the page as: vitlr serve MODEL")
        model = LatentReplayClassifier.load(self.directory) if self._reopen is None else self._reopen()
        thumbnails = _read_thumbnails(self.directory)
        with self._lock:
            self.model, self._thumbnails = model, thumbnails
        return self.directory

    def _autosaved(self) -> str:
        if not self.autosave:
            return ""
        try:
            self.save()
        except VitLRError as error:
            return f"learned, but not saved: {error}"
        return ""


def _one_picture(source: Any) -> np.ndarray:
    """(H, W, 3) of an image, or of a video's first frame."""
    if not is_video(source):
        return read_image(source)
    path = source.path if isinstance(source, Video) else source
    return read_video(Video(path, every=1, max_frames=1))[0]


def _read_thumbnails(directory: Path) -> dict[str, np.ndarray]:
    """The thumbnails that can be read; a missing one must not prevent the start."""
    path = directory / THUMBNAILS
    try:
        if path.stat().st_size > 64 * 2**20:
            return {}
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        names = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["names"])
        arrays = load_arrays(content)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError):
        return {}
    found = {}
    for index, name in enumerate(names if isinstance(names, list) else []):
        array = arrays.get(str(index))
        if (
            isinstance(name, str)
            and array is not None
            and array.shape == (_SIDE, _SIDE, 3)
            and array.dtype == np.uint8
        ):
            found[name] = array
    return found
