"""What a run writes: records as JSON lines, TensorBoard events, a summary. It reads records, nothing else."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from vitlr.data.experience import Stream
from vitlr.errors import RunError
from vitlr.evaluation.groups import GroupMeasures
from vitlr.evaluation.run import Record
from vitlr.latents.identity import processor
from vitlr.storage.files import sync_directory, write_all, write_atomically

__all__ = [
    "GROUPED",
    "EventWriter",
    "MetricsWriter",
    "finite",
    "forget_peak_memory",
    "machine",
    "peak_memory_bytes",
    "record_to_json",
    "write_json",
]

# Of a record, beside the accuracies: what its summary repeats of the last one.
GROUPED = ("category_accuracy", "session_accuracy", "calibration_error", "forgetting")


def finite(value: float) -> float | None:
    """JSON has no NaN or infinity: null."""
    return float(value) if math.isfinite(value) else None


def peak_memory_bytes() -> int | None:
    """The most memory that this process held (resident) since it started, or since ``forget_peak_memory``.

    None if the system does not report it.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.split("VmHWM:", 1)[1].split(maxsplit=1)[0])
    except (OSError, IndexError, ValueError):
        pass  # not Linux
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_memory() -> None:
    """Reset the peak to current usage, so that each of several runs in one process has a peak of its own.

    Without Linux the peak remains that of the whole process.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def record_to_json(
    record: Record,
    stream: Stream,
    capacity: int | None = None,
    gflop: dict[str, float] | None = None,
    *,
    groups: GroupMeasures,
    forgetting: float,
) -> dict[str, Any]:
    """One line of metrics.jsonl; accuracies are fractions, seconds wall-clock, absent values null.

    Args:
        capacity: how many latents the memory may hold; null if it is not bounded, or there is no memory.
        gflop: billions of operations in trunk and head.
        groups: the same evaluation by sessions and categories.
        forgetting: over classes, of the stream so far; see ``metrics.forgetting``.
    """
    evaluation, stats, names = record.evaluation, record.stats, stream.class_names
    by_class = groups.class_category_accuracy
    return {
        "experience": record.experience,
        "name": record.name,
        "num_images": record.num_images,
        "classes": [names[label] for label in record.classes],
        "test_accuracy": finite(evaluation.test_accuracy),
        "seen_accuracy": finite(evaluation.seen_accuracy),
        "test_loss": finite(evaluation.test_loss),
        "train_loss": None if stats is None else finite(stats.loss),
        "train_accuracy": None if stats is None else finite(stats.accuracy),
        "class_accuracy": {
            name: finite(value) for name, value in zip(names, evaluation.class_accuracy.tolist(), strict=True)
        },
        "category_accuracy": finite(groups.category_accuracy),
        "class_category_accuracy": {}
        if by_class is None
        else {name: finite(value) for name, value in zip(names, by_class.tolist(), strict=True)},
        "session_accuracy": {str(session): value for session, value in groups.session_accuracy.items()},
        "calibration_error": finite(groups.calibration_error),
        "forgetting": finite(forgetting),
        "seconds": {part: round(value, 6) for part, value in record.seconds.items()},
        "gflop": gflop,
        "memory": {
            "bytes": record.memory_bytes,
            "count": sum(record.memory_counts.values()),
            "capacity": capacity,
            "per_class": {names[label]: count for label, count in record.memory_counts.items()},
        },
    }


@contextmanager
def _refusals(what: str | Path) -> Iterator[None]:
    """Turns the disk's refusal into one sentence."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{what} cannot be written: {error.strerror or error}; free some space and resume"
        ) from error


class MetricsWriter:
    """Appends to metrics.jsonl, a whole line at a time."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "metrics.jsonl"
        with _refusals(self._path):
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
            sync_directory(run_dir)

    def write(self, line: dict[str, Any]) -> None:
        """One record; in one system call, unless the disk takes only a part at once."""
        text = json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n"
        with _refusals(self._path):
            write_all(self._file.fileno(), text.encode())

    def flush(self) -> None:
        """To the disk: a checkpoint needs these records after a power cut."""
        with _refusals(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close the file."""
        try:
            self.flush()
        finally:
            self._file.close()


class EventWriter:
    """TensorBoard events, one a record with all its numbers, by the names that they have in the record.

    TensorBoard's own SummaryWriter writes in a thread. On a full disk this thread prints a traceback of 17 lines
    (tensorboard 2.21) before the caller learns of it. Here each event is in the file when a method returns, or
    RunError says why not.
    """

    def __init__(self, run_dir: Path) -> None:
        # Imported here: it takes 0.2 s that runs without TensorBoard need not spend.
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        self._what = f"TensorBoard events in {run_dir}"
        with _refusals(self._what):
            self._file = open(run_dir / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}", "xb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._add(file_version="brain.Event:2")

    def write(self, line: dict[str, Any], gradients: dict[str, tuple[float, float]]) -> None:
        """The scalars of one record, at the step of its experience."""
        scalars = _scalars(line, gradients)
        values = [self._summary.Value(tag=tag, simple_value=v) for tag, v in scalars.items() if v is not None]
        self._add(step=line["experience"], summary=self._summary(value=values))

    def write_confusion(self, step: int, counts_CC: np.ndarray, names: Sequence[str]) -> None:
        """The confusion matrix, (C, C) counts with true classes as rows, as a picture."""
        from vitlr.report.confusion import confusion_matrix
        from vitlr.report.figures import figure_bytes

        figure = confusion_matrix(counts_CC, names)
        height, width = (round(side * figure.dpi) for side in reversed(figure.get_size_inches()))
        image = self._summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=figure_bytes(figure, "png")
        )
        self._add(step=step, summary=self._summary(value=[self._summary.Value(tag="confusion", image=image)]))

    def _add(self, **event: Any) -> None:
        with _refusals(self._what):
            self._records.write(self._event(wall_time=time.time(), **event).SerializeToString())
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written has been reported
            self._file.close()


def _scalars(line: dict[str, Any], gradients: dict[str, tuple[float, float]]) -> dict[str, float | None]:
    """Numbers of a record and gradients by tag: those of a group below its name, as TensorBoard shows them together."""
    memory = line["memory"]
    scalars: dict[str, float | None] = {}
    for tag, value in line.items():
        if isinstance(value, dict) and tag != "memory":
            scalars |= {f"{tag}/{name}": each for name, each in value.items()}
        elif tag != "experience" and not isinstance(value, (str, list, dict)):
            scalars[tag] = value
    scalars |= {"memory_bytes": memory["bytes"], "memory_latents": memory["count"]}
    scalars |= {f"memory_count/{name}": count for name, count in memory["per_class"].items()}
    for name, (mean, largest) in gradients.items():
        scalars |= {f"gradient_mean/{name}": mean, f"gradient_max/{name}": largest}
    return scalars


def write_json(path: Path, content: Any) -> None:
    """Readable JSON, atomically."""
    write_atomically(
        path, [json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"]
    )


def machine() -> dict[str, Any]:
    """Processor, cores and versions, reported with every time."""
    import torch
    import transformers

    from vitlr import __version__

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "vitlr": __version__,
    }
