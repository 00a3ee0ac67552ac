"""The one queue of everything that changes what is known: jobs are done in order, by one thread.

A lesson and a Load, Forget or Undo that was asked for after it can never overtake each other, and no error of a job
ends the thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from vitlr.app.limits import BusyError
from vitlr.errors import DataError, VitLRError

__all__ = ["Act", "Job", "LearningQueue", "Outcome"]

_KEPT = 20  # jobs that are over and can still be asked for
_SHOWN = 0.95  # of a job that is not over, at most: how long it takes is only estimated


@dataclass(frozen=True, kw_only=True)
class Job:
    """One change: ``waiting``, ``learning``, ``done`` or ``failed``.

    Attributes:
        kind: teach, forget, rename, merge, undo, save, load, import, discard or export.
        frames: images to be learned.
        progress: 0..1, estimated from earlier jobs of this kind where the job does not report it.
        seconds: of work, so far or in all.
        message: for the user: why it failed, or what should be known.
        download: name of the file that it made, for ``/live/download``.
    """

    number: int
    kind: str = "teach"
    label: str = ""
    frames: int = 0
    state: str = "waiting"
    progress: float = 0.0
    seconds: float = 0.0
    message: str = ""
    download: str | None = None

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job that was done leaves to say."""

    message: str = ""
    download: str | None = None


Act = Callable[[Callable[[float], None]], Outcome]  # takes a function for its progress, 0..1


class LearningQueue:
    """Jobs in order. Errors of a job become its message.

    Args:
        waiting: jobs that may wait.
        on_change: called whenever a job changes; it must return at once.
        said: returns a message as visitors may read it.
    """

    def __init__(self, waiting: int, on_change: Callable[[], None], said: Callable[[str], str] = str) -> None:
        self._queue: queue.Queue[tuple[int, Act] | None] = queue.Queue(waiting)
        self._on_change, self._said = on_change, said
        self._lock = threading.Lock()
        self._jobs: OrderedDict[int, Job] = OrderedDict()
        self._count = 0
        self._began = 0.0  # of the job that is being done
        self._pace: dict[
            str, float
        ] = {}  # seconds a frame, or a job without frames, of the last job of each kind
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="vitlr-learning", daemon=True)
        self._thread.start()

    def add(self, kind: str, act: Act, *, label: str = "", frames: int = 0) -> Job:
        """Queue a job; returns at once. Raises BusyError if too many wait."""
        with self._lock:
            job = Job(number=self._count + 1, kind=kind, label=label, frames=frames)
            try:
                self._queue.put_nowait((job.number, act))
            except queue.Full:
                raise BusyError("too many changes are waiting; try again in a moment") from None
            self._count += 1
            self._jobs[job.number] = job
            over = [number for number, each in self._jobs.items() if each.over]
            for number in over[:-_KEPT]:
                del self._jobs[number]
        self._on_change()
        return job

    def job(self, number: int) -> Job:
        """State of a job; DataError if it does not exist or is no longer stored."""
        with self._lock:
            if number not in self._jobs:
                raise DataError(f"there is no job {number}")
            return self._now(self._jobs[number])

    def jobs(self) -> list[Job]:
        """Those that are waiting, being done, or were done lately; the newest last."""
        with self._lock:
            return [self._now(job) for job in self._jobs.values()]

    def wait(self, job: Job, seconds: float = 60.0) -> Job:
        """The job once it is over, or its state after that many seconds."""
        until = time.monotonic() + seconds
        while not (now := self.job(job.number)).over and time.monotonic() < until:
            time.sleep(0.01)
        return now

    def close(self, seconds: float) -> bool:
        """Do no further job; True if the thread ended within that time."""
        self._closing = True
        with suppress(queue.Full):  # the thread then sees _closing after its next job
            self._queue.put_nowait(None)
        self._thread.join(timeout=seconds)
        return not self._thread.is_alive()

    def _now(self, job: Job) -> Job:
        if job.state != "learning":
            return job
        spent = time.perf_counter() - self._began
        expected = self._pace.get(job.kind, 0.0) * max(1, job.frames)
        guess = min(_SHOWN, spent / expected) if expected else 0.0
        return replace(job, seconds=spent, progress=max(job.progress, guess))

    def _work(self) -> None:
        while (task := self._queue.get()) is not None and not self._closing:
            self._do(*task)
            del task  # it may hold frames, while the next one is waited for

    def _do(self, number: int, act: Act) -> None:
        began = self._began = time.perf_counter()
        self._set(number, state="learning")
        try:
            outcome = act(partial(self._reached, number))
        except VitLRError as error:
            self._failed(number, self._said(str(error)), began)
        except BaseException as error:  # a bug must not end the thread that learns
            self._failed(
                number, f"it was not done, because of an error in the program ({type(error).__name__})", began
            )
        else:
            job, seconds = self.job(number), time.perf_counter() - began
            self._pace[job.kind] = seconds / max(1, job.frames)
            self._set(
                number,
                state="done",
                progress=1.0,
                seconds=seconds,
                message=self._said(outcome.message),
                download=outcome.download,
            )

    def _failed(self, number: int, sentence: str, began: float) -> None:
        self._set(number, state="failed", message=sentence, seconds=time.perf_counter() - began)

    def _reached(self, number: int, share: float) -> None:
        self._set(number, progress=min(_SHOWN, share))

    def _set(self, number: int, **changes: object) -> None:
        with self._lock:
            self._jobs[number] = replace(self._jobs[number], **changes)  # type: ignore[arg-type]
        self._on_change()
